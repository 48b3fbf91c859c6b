"""The session keeper gives a session up in time, also when the store only hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

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


async def test_a_renewal_that_hangs_does_not_outlast_the_lease() -> None:
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[str] = loop.create_future()
    signs = VitalSigns()
    signs.loop_at = int(time.monotonic() * 1000)

    async def open_store() -> Store:
        return HangingStore(Limits(), lambda: 0)

    keeper = SessionKeeper(
        open_store=open_store,
        pairs=list,
        limits=WorkerLimits(lease_ttl_ms=300),
        environment=real_environment(),
        signs=signs,
        callbacks=Callbacks(
            renewed=lambda answer: None,
            lost=lambda session, reason: lost.set_result(reason),
            failed=lost.set_exception,
        ),
        on_worker_loop=loop.call_soon_threadsafe,
    )
    keeper.watch(SessionId("s"), time.monotonic())
    task = asyncio.ensure_future(keeper.run())
    try:
        assert await asyncio.wait_for(lost, 10) == "could not renew in time"
    finally:
        keeper.stop()
        task.cancel()
        await asyncio.wait([task])
