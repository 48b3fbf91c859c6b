"""The ticker waits by the server's clock, and tells when the server fills up."""

from __future__ import annotations

import asyncio
import time

import pytest

from workflow_worker.model.facts import Fact, StoreFilling, StoreRelieved
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Limits, Ticked
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Patience
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.ticker import Ticker

SERVER_MS = 1_764_000_000_000


class CountingStore(MemoryStore):
    """Something is always due in 150 ms, unless told otherwise."""

    def __init__(self, *, next_due: int | None = SERVER_MS + 150, sessions_due: int | None = None) -> None:
        super().__init__(Limits(), lambda: SERVER_MS)
        self.due = Ticked(SERVER_MS, 0, next_due=next_due, sessions_due=sessions_due)
        self.at: list[float] = []
        self.second = asyncio.Event()

    async def tick(self, limit: int = 200) -> Ticked:
        self.at.append(time.monotonic())
        if len(self.at) == 2:
            self.second.set()
        return self.due


def make_ticker(store: Store, facts: list[Fact], signs: VitalSigns, limits: WorkerLimits) -> Ticker:
    environment = real_environment()
    clock = ServerClock(environment)
    clock.observe(SERVER_MS + 500)  # before the server's clock was set back
    return Ticker(
        store=store,
        patience=Patience("w", environment, signs, facts.append),
        clock=clock,
        environment=environment,
        limits=limits,
        worker="w",
        signs=signs,
        emit=facts.append,
    )


async def test_a_server_whose_clock_was_set_back_a_little_is_not_asked_without_a_pause() -> None:
    store = CountingStore()
    ticker = make_ticker(store, [], VitalSigns(), WorkerLimits(poll_interval_ms=60_000))
    task = asyncio.ensure_future(ticker.run())
    try:
        await asyncio.wait_for(store.second.wait(), 10)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert store.at[1] - store.at[0] > 0.1


@pytest.mark.parametrize("next_due", [None, SERVER_MS + 3_600_000])
async def test_a_session_that_is_due_is_looked_at_then_and_not_an_interval_later(next_due: int | None) -> None:
    store = CountingStore(next_due=next_due, sessions_due=SERVER_MS + 150)
    ticker = make_ticker(store, [], VitalSigns(), WorkerLimits(poll_interval_ms=60_000))
    task = asyncio.ensure_future(ticker.run())
    try:
        await asyncio.wait_for(store.second.wait(), 10)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert store.at[1] - store.at[0] > 0.1


class FillingStore(MemoryStore):
    """Tells one figure of its memory after the other."""

    def __init__(self, figures: list[int | None]) -> None:
        super().__init__(Limits(), lambda: SERVER_MS)
        self.figures = figures
        self.told = asyncio.Event()

    async def tick(self, limit: int = 200) -> Ticked:
        if self.figures:
            return Ticked(SERVER_MS, 0, full=True, memory=self.figures.pop(0))
        self.told.set()
        return Ticked(SERVER_MS, 0, memory=50)


@pytest.mark.parametrize(
    ("high_water", "figures", "told"),
    [
        (85, [None, 85, 86, 99, 86, 84, 83, 85], [StoreFilling("w", 86, 85), StoreRelieved("w", 83)]),
        (85, [None, None], []),
        (0, [100], []),
    ],
)
async def test_memory_above_the_mark_is_told_once_when_it_comes_and_when_it_goes(
    high_water: int, figures: list[int | None], told: list[Fact]
) -> None:
    store, facts, signs = FillingStore(figures), list[Fact](), VitalSigns()
    task = asyncio.ensure_future(make_ticker(store, facts, signs, WorkerLimits(memory_high_water=high_water)).run())
    try:
        await asyncio.wait_for(store.told.wait(), 10)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert facts == told
    assert signs.tick_since == 0
