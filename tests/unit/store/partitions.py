"""A small partition for the examples, and short ways to do things to it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine import arrivals, progress, ticking, views
from workflow_worker.store.memory.machine.state import Partition
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
    Ticked,
)

T0 = 1_000_000
ANN = SessionId("ann")
BOB = SessionId("bob")
ORDER = RunRef("fulfil:order-1")

ROUTES = {
    "order.placed": Route(True, (StartRoute("fulfil", 1, ("=order-", "subject")),)),
    "order.packed": Route(True),
    "job": Route(False, (StartRoute("work", 1),)),
    "note": Route(False),
}
KNOWS = ("fulfil@1", "work@1", "other@1")


class Scene:
    """One partition at an instant that the example moves on by hand. `ann` and `bob` are two open sessions."""

    def __init__(self, limits: Limits | None = None, routes: dict[str, Route] | None = None) -> None:
        self.p = Partition(limits or Limits())
        self.now = T0
        self.numbers = {ANN: 0, BOB: 0}
        self._commits = 0
        self.register("m", ROUTES if routes is None else routes)
        progress.open_session(self.p, ANN, self.now)
        progress.open_session(self.p, BOB, self.now)

    def register(self, mark: str, routes: dict[str, Route], knows: tuple[str, ...] = KNOWS) -> None:
        arrivals.register(self.p, Registration(mark, routes, knows), self.now)

    def publish(self, event_type: str, event_id: str, subject: str | None = "1", **more: int | str) -> None:
        publish = Publish(Event(event_id, event_type, subject))
        for name, value in more.items():
            publish = msgspec.structs.replace(publish, **{name: value})
        arrivals.publish(self.p, [publish], self.now)

    def add(self, *fields: str | bytes) -> None:
        """A stranger's XADD."""
        self.p.add(tuple(f if isinstance(f, bytes) else f.encode() for f in fields), self.now)

    def ingest(self, session: SessionId = ANN, room: int = 10, mark: str = "m", **more: bool | str) -> Ingested:
        self.numbers[session] += 1
        request = Ingest(session, self.numbers[session], room, mark)
        for name, value in more.items():
            request = replace(request, **{name: value})
        outcome = arrivals.ingest(self.p, request, self.now)
        assert isinstance(outcome, Ingested)
        return outcome

    def lease_order(self) -> LeasedRun:
        """Place an order and lease its run."""
        self.publish("order.placed", "placed")
        return self.ingest().runs[0]

    def commit(self, run: LeasedRun, **changes: object) -> CommitOutcome:
        """A commit of `ann` on top of `run`, a keep unless told otherwise."""
        return progress.commit(self.p, [self.make_commit(run, **changes)], self.now)[0]

    def make_commit(self, run: LeasedRun, **changes: object) -> Commit:
        self._commits += 1
        commit = Commit(
            ref=run.ref,
            session=ANN,
            token=run.token,
            base=run.cid,
            cid=CommitId(f"ann/{self._commits}"),
            records=(b"record",),
            status=RunStatus.RUNNING,
            mode=Mode.KEEP,
        )
        return msgspec.structs.replace(commit, **changes)  # pyright: ignore[reportArgumentType] - checked by the struct's users

    def tick(self, after: int = 0, limit: int = 200) -> Ticked:
        self.now += after
        return ticking.tick(self.p, limit, self.now)

    def reasons(self) -> list[str]:
        return [letter.reason for letter in views.dead_letters(self.p, 100, "")]

    def dead_ids(self) -> list[str]:
        return [letter.id for letter in views.dead_letters(self.p, 100, "")]

    def entries(self, ref: RunRef = ORDER) -> list[str]:
        """Ids of the events in a mailbox."""
        return [
            dict(zip(e.fields[::2], e.fields[1::2], strict=True))[b"id"].decode()
            for e in self.p.state.runs[ref].mailbox
        ]


FRESH = NO_COMMIT
