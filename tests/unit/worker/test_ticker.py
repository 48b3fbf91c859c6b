"""The ticker waits by the server's clock."""

from __future__ import annotations

import asyncio
import time

from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import Limits, Ticked
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.part import Patience
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.ticker import Ticker

SERVER_MS = 1_764_000_000_000


class CountingStore(MemoryStore):
    """Something is always due in 150 ms."""

    def __init__(self) -> None:
        super().__init__(Limits(), lambda: SERVER_MS)
        self.at: list[float] = []
        self.second = asyncio.Event()

    async def tick(self, limit: int = 200) -> Ticked:
        self.at.append(time.monotonic())
        if len(self.at) == 2:
            self.second.set()
        return Ticked(SERVER_MS, 0, next_due=SERVER_MS + 150)


async def test_a_server_whose_clock_was_set_back_a_little_is_not_asked_without_a_pause() -> None:
    environment = real_environment()
    store, clock = CountingStore(), ServerClock(environment)
    clock.observe(SERVER_MS + 500)  # before it was set back
    patience = Patience("w", environment, VitalSigns(), lambda fact: None)
    ticker = Ticker(
        store=store,
        patience=patience,
        clock=clock,
        environment=environment,
        interval_ms=60_000,
        worker="w",
        emit=lambda fact: None,
    )
    ticker = Ticker(
        store=store,
        patience=patience,
        clock=clock,
        environment=environment,
        interval_ms=60_000,
        worker="w",
        emit=lambda fact: None,
    )
    task = asyncio.ensure_future(ticker.run())
    try:
        await asyncio.wait_for(store.second.wait(), 10)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert store.at[1] - store.at[0] > 0.1
