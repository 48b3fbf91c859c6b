"""The session keeper gives a session up in time, also when the store only hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Limits, Renewed, SessionLost
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.session import Callbacks, SessionKeeper


class HangingStore(MemoryStore):
    """Takes every renewal and answers none."""

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("answered")


class CountingStore(MemoryStore):
    """Answers every renewal, and notes when it came."""

    def __init__(self) -> None:
        super().__init__(Limits(), lambda: 0)
        self.renewals: list[float] = []

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        self.renewals.append(time.monotonic())
        return Renewed(0)


class BrokenStore(MemoryStore):
    """Cannot even be closed."""

    async def aclose(self) -> None:
        raise OSError("nobody foresaw this")


@dataclass
class Kept:
    """A keeper that runs, and what it said."""

    keeper: SessionKeeper
    signs: VitalSigns
    lost: asyncio.Future[str]
    ended: asyncio.Future[Exception]

    def turn(self) -> None:
        """The worker's loop has turned."""
        self.signs.loop_at = int(time.monotonic() * 1000)


@asynccontextmanager
async def keeping(store: Store, limits: WorkerLimits) -> AsyncGenerator[Kept]:
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[str] = loop.create_future()
    ended: asyncio.Future[Exception] = loop.create_future()
    signs = VitalSigns()

    async def open_store() -> Store:
        return store

    keeper = SessionKeeper(
        open_store=open_store,
        pairs=list,
        limits=limits,
        environment=real_environment(),
        signs=signs,
        callbacks=Callbacks(
            renewed=lambda answer: None,
            lost=lambda session, reason: lost.set_result(reason),
            failed=lost.set_exception,
            ended=ended.set_result,
        ),
        on_worker_loop=loop.call_soon_threadsafe,
    )
    kept = Kept(keeper, signs, lost, ended)
    kept.turn()
    keeper.watch(SessionId("s"), time.monotonic())
    task = asyncio.ensure_future(keeper.run())
    try:
        yield kept
    finally:
        keeper.stop()
        task.cancel()
        await asyncio.wait([task])


async def test_a_renewal_that_hangs_does_not_outlast_the_lease() -> None:
    began = time.monotonic()
    async with keeping(HangingStore(Limits(), lambda: 0), WorkerLimits(lease_ttl_ms=1_000)) as kept:
        assert await asyncio.wait_for(kept.lost, 10) == "could not renew in time"
    # Its own expiry comes after two thirds of the lease; another worker may have its runs a third later.
    assert 0.5 < time.monotonic() - began < 0.9


async def test_a_loop_that_stands_still_is_not_kept_alive() -> None:
    store = CountingStore()
    async with keeping(store, WorkerLimits(lease_ttl_ms=500, stall_limit_ms=400)) as kept:
        stood_at = time.monotonic()
        assert await asyncio.wait_for(kept.lost, 10) == "could not renew in time"
        assert store.renewals
        assert store.renewals[-1] - stood_at <= 0.45
        assert time.monotonic() - stood_at < 0.4 + 0.5


async def test_a_loop_that_turns_is_kept_alive() -> None:
    store = CountingStore()
    async with keeping(store, WorkerLimits(lease_ttl_ms=500, stall_limit_ms=400)) as kept:
        deadline = time.monotonic() + 10
        while len(store.renewals) < 12:
            kept.turn()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert not kept.lost.done()


async def test_a_keeper_that_fails_ends_its_worker() -> None:
    async with keeping(BrokenStore(Limits(), lambda: 0), WorkerLimits(lease_ttl_ms=500)) as kept:
        kept.keeper.stop()
        assert isinstance(await asyncio.wait_for(kept.ended, 10), OSError)
