"""`Actor`: one worker's view of a store under a driven clock, in few words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workflow_worker.model.event import Event
from workflow_worker.model.ids import CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    Commit,
    CommitOutcome,
    Ingest,
    Ingested,
    LeasedRun,
    Limits,
    Mode,
    Publish,
    Registration,
    Route,
    StartRoute,
)

FIRST = SessionId("s1")
START = 1_700_000_000_000
LIMITS = Limits(
    lease_ttl_ms=9_000,
    early_event_ttl_ms=60_000,
    dedup_window_ms=100_000,
    retention_ms=1_000_000,
    retention_runs=50,
    max_event_bytes=20_000,
    mailbox_cap=5,
    early_cap=4,
    subject_cap=3,
    waits_cap=3,
    copies_cap=6,
)
ROUTES = Registration(
    mark="m1",
    routes={
        "order.placed": Route(True, (StartRoute("fulfil", 1, ("=order-", "subject")),)),
        "order.paid": Route(True),
        "order.again": Route(True, (StartRoute("loop", 1, ("subject",), restart=True),)),
        "order.both": Route(True, (StartRoute("left", 1, ("subject",)), StartRoute("right", 2, ("subject",)))),
        "many": Route(True, (StartRoute("many", 1),)),
        "bare": Route(False, (StartRoute("bare", 1),)),
        "news.*": Route(False),
    },
    knows=("fulfil@1", "loop@1", "left@1", "right@2", "many@1", "bare@1"),
)


@dataclass(slots=True)
class Clock:
    """Milliseconds that pass when told to."""

    now: int = START

    def __call__(self) -> int:
        return self.now


@dataclass(slots=True)
class Actor:
    """Numbers its ingests and commits as a worker does."""

    store: Store
    clock: Clock
    add_raw: Callable[[Sequence[bytes]], Awaitable[str]]
    session: SessionId = FIRST
    number: int = 0
    commits: int = 0
    cursor: str = "0"
    cids: dict[str, CommitId] = field(default_factory=dict[str, CommitId])

    async def begin(self) -> Actor:
        """Register and open."""
        await self.store.register(ROUTES)
        await self.store.open(self.session)
        return self

    async def other(self, name: str) -> Actor:
        """A second worker on the same store."""
        actor = Actor(self.store, self.clock, self.add_raw, SessionId(name))
        await self.store.open(actor.session)
        return actor

    async def publish(self, kind: str, subject: str | None = "42", event_id: str = "", **more: Any) -> str:
        """One event; returns its id."""
        data = more.pop("data", b"null")
        [done] = await self.store.publish([Publish(Event(event_id, kind, subject, data), **more)])
        return done.id

    async def ingest(self, room: int = 10) -> list[LeasedRun]:
        """The runs that the next ingest leases."""
        self.number += 1
        outcome = await self.store.ingest(Ingest(self.session, self.number, room, ROUTES.mark, self.cursor))
        assert isinstance(outcome, Ingested), outcome
        self.cursor = outcome.cursor
        return list(outcome.runs)

    def step(self, run: LeasedRun, mode: Mode = Mode.KEEP, **more: Any) -> Commit:
        """The next commit of a leased run; it takes the mail it was leased with, unless told otherwise."""
        self.commits += 1
        status = {Mode.KEEP: RunStatus.RUNNING, Mode.RELEASE: RunStatus.WAITING, Mode.END: RunStatus.COMPLETED}[mode]
        taken = more.pop("taken", run.mail)
        values: dict[str, Any] = {
            "base": self.cids.get(run.ref, run.cid),
            "cid": CommitId(f"{self.session}/{self.commits}"),
            "records": (b"record",),
            "status": status,
            "taken": len(taken),
            "last_taken": taken[-1].entry if taken else "",
        }
        return Commit(ref=run.ref, session=self.session, token=run.token, mode=mode, **(values | more))

    async def commit(self, run: LeasedRun, mode: Mode = Mode.KEEP, **more: Any) -> CommitOutcome:
        """Commit one step."""
        step = self.step(run, mode, **more)
        [outcome] = await self.store.commit([step])
        if outcome.word == "ok":
            self.cids[run.ref] = step.cid
        return outcome

    async def view(self, ref: str) -> RunView:
        """A run that exists."""
        view = await self.store.run(RunRef(ref))
        assert view is not None, ref
        return view

    async def reasons(self) -> list[str]:
        """Of the dead letters that wait for a person."""
        return [letter.reason for letter in await self.store.dead_letters()]

    async def started(self, subject: str = "42") -> LeasedRun:
        """A leased run of ``fulfil`` for this subject."""
        await self.publish("order.placed", subject)
        [run] = await self.ingest()
        return run

    async def let_die(self, ticks: int = 3) -> None:
        """Nobody renews: all sessions are reaped."""
        for _ in range(ticks):
            self.clock.now += LIMITS.lease_ttl_ms
            await self.store.tick()
