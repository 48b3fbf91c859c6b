"""Real workers on a memory store that can be made to hang, for tests of what goes wrong around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from workflow_worker import App
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.facts import Fact
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.service.health import Health, HealthLimits, Observed, judge
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    Commit,
    CommitOutcome,
    Ingest,
    IngestOutcome,
    Limits,
    Publish,
    Renewed,
    SessionLost,
)
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.worker import WorkflowWorker

F = TypeVar("F")


def now_ms() -> int:
    """What the store takes for the server's time."""
    return time.time_ns() // 1_000_000


async def eventually(look: Callable[[], F | None], what: str, within_s: float = 10) -> F:
    """Ask until the answer is truthy; what is waited for is a fact.

    Raises:
        AssertionError: It did not come in time.
    """
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.005)
    return found


class HangingStore(MemoryStore):
    """Verbs whose names are in `hangs` are never answered, and those in `refuses` always with an error."""

    def __init__(self, shared: MemoryStore, hangs: set[str], refuses: set[str]) -> None:
        super().__init__(shared.partition.limits, now_ms)
        self.__dict__.update(shared.__dict__)
        self.hangs = hangs
        self.refuses = refuses

    async def _answer(self, verb: str) -> None:
        if verb in self.hangs:
            await asyncio.get_running_loop().create_future()
        if verb in self.refuses:
            raise StoreUnavailable(f"{verb}: a replica is missing")

    async def open(self, session: SessionId) -> str:
        await self._answer("open")
        return await super().open(session)

    async def close(self, session: SessionId, died: bool = False) -> bool:
        await self._answer("close")
        return await super().close(session, died)

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        await self._answer("renew")
        return await super().renew(session, known)

    async def ingest(self, request: Ingest) -> IngestOutcome:
        await self._answer("ingest")
        return await super().ingest(request)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        await self._answer("commit")
        return await super().commit(commits)

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool | IngestOutcome:
        await self._answer("wait_for_work")
        return await super().wait_for_work(timeout_ms, then)


@dataclass
class RunningWorker:
    """One worker, its task, what it said, and the verbs that its store does not answer."""

    worker: WorkflowWorker
    task: asyncio.Task[None]
    signs: VitalSigns
    facts: list[Fact]
    hangs: set[str]
    refuses: set[str]
    started_at: int

    def said(self, kind: type[F]) -> list[F]:
        """Its facts of this kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def drained(self, within_s: float = 10) -> float:
        """Drain it; how many seconds that took."""
        began = time.monotonic()
        self.worker.drain()
        await asyncio.wait_for(self.task, within_s)
        return time.monotonic() - began


@dataclass
class Rig:
    """An app on a memory store, and workers that share it."""

    app: App
    limits: Limits = field(default_factory=lambda: Limits(lease_ttl_ms=1_000))
    workers: list[RunningWorker] = field(default_factory=list[RunningWorker])

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.limits, now_ms)

    def start(
        self,
        name: str = "w1",
        *,
        hangs: set[str] | None = None,
        limits: WorkerLimits | None = None,
        own_thread: bool = False,
    ) -> RunningWorker:
        """Start a worker; with `own_thread` its session is kept as in production."""
        verbs: set[str] = set() if hangs is None else hangs
        refuses, opened = set[str](), 0

        async def open_store() -> Store:
            nonlocal opened
            opened += 1
            if opened == 2 and "the keeper" in verbs:  # the worker's own connection is the first
                await asyncio.get_running_loop().create_future()
            return HangingStore(self.store, verbs, refuses)

        signs, facts = VitalSigns(), list[Fact]()
        worker = WorkflowWorker(
            app=self.app,
            open_store=open_store,
            limits=limits or WorkerLimits(poll_interval_ms=50, lease_ttl_ms=self.limits.lease_ttl_ms),
            environment=real_environment(),
            emit=facts.append,
            signs=signs,
            name=name,
            own_thread=own_thread,
        )
        started_at = time.monotonic_ns() // 1_000_000
        running = RunningWorker(worker, asyncio.create_task(worker.run()), signs, facts, verbs, refuses, started_at)
        self.workers.append(running)
        return running

    async def publish(self, event_type: str, event_id: str, **data: object) -> None:
        """Add an event."""
        await self.store.publish([Publish(Event(event_id, event_type, None, msgspec.json.encode(data)))])

    async def until(self, ref: str, status: RunStatus, within_s: float = 10) -> RunView:
        """The run, when it has this status."""
        deadline = time.monotonic() + within_s
        while True:
            view = await self.store.run(RunRef(ref))
            if view is not None and view.status is status:
                return view
            assert time.monotonic() < deadline, f"{ref} is {view.status if view else 'missing'}, wanted {status}"
            await asyncio.sleep(0.005)


def health_of(running: RunningWorker, **variables: str) -> Health:
    """What a service would say of this worker now."""
    settings = Settings.from_mapping({"POLL_INTERVAL_MS": "50", "LEASE_TTL_MS": "1000", **variables})
    now = time.monotonic_ns() // 1_000_000
    return judge([Observed("w", running.signs, running.started_at)], HealthLimits.of(settings), now)


@asynccontextmanager
async def rig_of(app: App, limits: Limits | None = None) -> AsyncGenerator[Rig]:
    """A rig whose workers are ended at the end, however they fare; the store must balance then."""
    rig = Rig(app) if limits is None else Rig(app, limits)
    try:
        yield rig
    finally:
        for running in rig.workers:
            running.hangs.clear()
            running.refuses.clear()
            running.worker.drain(hurry=True)
            running.task.cancel()
        if rig.workers:
            await asyncio.wait([running.task for running in rig.workers], timeout=10)
    audit = await rig.store.audit()
    assert audit.balanced, audit.problems
