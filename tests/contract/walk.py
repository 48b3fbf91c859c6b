"""`Walk`: one store's side of a sequence of operations by two workers, a producer and a person.

The same walk is made on the memory machine and on a real server; whatever an operation answers must be equal. What each
server makes by itself (ids of entries, the order of hashes) is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.contract.actor import LIMITS, ROUTES, Clock
from tests.contract.picture import Picture
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    REJECT_START,
    Commit,
    Emit,
    Ingest,
    Ingested,
    LeasedRun,
    Loaded,
    Mode,
    Publish,
    Registration,
    Renewed,
    Route,
    RunQuery,
    StartRoute,
)

Operation = tuple[Any, ...]
AddRaw = Callable[[Sequence[bytes]], Awaitable[str]]
SetFull = Callable[[int], Awaitable[None]]

LATER = Registration(
    "m2", {"what": Route(False, (StartRoute("bare", 1),)), "order.placed": Route(True, (StartRoute("fulfil", 0),))}, ()
)
"""What a second app declares: a type that was undeclared, and an older version of a route, which must not win."""


@dataclass(slots=True)
class Lease:
    """A run as a worker had it once, perhaps long ago: zombies write with these too."""

    session: SessionId
    ref: RunRef
    token: int
    cid: CommitId


@dataclass(slots=True)
class Worker:
    """One worker, which opens another session when its own is lost."""

    session: SessionId
    number: int = 0
    cursor: str = "0"


@dataclass(slots=True)
class Walk:
    """Runs are named by their place among the last leases, the newest first."""

    store: Store
    clock: Clock
    add_raw: AddRaw
    set_full: SetFull
    """Marks memory as scarce until then, as a tick does that finds it so."""
    look: Callable[[], Awaitable[Picture]]
    workers: list[Worker] = field(default_factory=list[Worker])
    leases: list[Lease] = field(default_factory=list[Lease])
    sessions: int = 0
    published: int = 0
    commits: int = 0
    last: list[Commit] = field(default_factory=list[Commit])

    async def begin(self) -> None:
        """Register and open two sessions."""
        await self.store.register(ROUTES)
        for _ in range(2):
            self.workers.append(Worker(self._new_session()))
            await self.store.open(self.workers[-1].session)

    def _new_session(self) -> SessionId:
        """Names rise, so that sessions that die in one moment are reaped in one order everywhere."""
        self.sessions += 1
        return SessionId(f"s{self.sessions:03}")

    async def do(self, operation: Operation) -> Any:
        """One operation; what it answered."""
        self.clock.now += 1
        name, *arguments = operation
        step: Callable[..., Awaitable[Any]] = getattr(self, f"_{name}")
        return await step(*arguments)

    # ---- producers
    async def _publish(self, kind: str, subject: str | None, old: int = 0, delay: int = 0) -> Any:
        """`old` repeats the id of the event so many publications ago."""
        self.published += not old
        event = Event(f"e{max(1, self.published - old)}", kind, subject)
        [done] = await self.store.publish([Publish(event, delay_ms=delay)])
        return done

    async def _twice(self, kind: str, subject: str | None) -> Any:
        self.published += 1
        event = Event(f"e{self.published}", kind, subject)
        return await self.store.publish([Publish(event), Publish(event)])

    async def _address(self, kind: str, subject: str | None, run: str) -> Any:
        self.published += 1
        event = Event(f"e{self.published}", kind, subject)
        return await self.store.publish([Publish(event, workflow="fulfil", run=run)])

    async def _raw(self, kind: str, subject: str | None, number: int, data: bytes = b"1") -> None:
        fields = [b"type", kind.encode(), b"subject", (subject or "").encode(), b"data", data]
        await self.add_raw([b"id", b"r%d" % number, *fields])

    # ---- workers
    async def _ingest(self, which: int, room: int, how: str = "") -> Any:
        worker = self.workers[which]
        worker.number += how not in ("again", "stale")
        number, mark = worker.number - (how == "stale"), "none" if how == "unregistered" else ROUTES.mark
        request = Ingest(worker.session, number, room, mark, worker.cursor, how == "quarantine", "why")
        outcome = await self.store.ingest(request)
        if not isinstance(outcome, Ingested):
            return type(outcome).__name__, await self._reopen(worker) if worker.number == number else None
        if how != "again":
            worker.cursor = outcome.cursor
        found: list[LeasedRun] = sorted(outcome.runs, key=lambda run: run.ref) if how == "again" else [*outcome.runs]
        self.leases += [Lease(worker.session, run.ref, run.token, run.cid) for run in found]
        told = [
            (run.ref, run.token, run.cid, run.version, run.created_at, run.strikes, _start(run), _events(run.mail))
            for run in found
        ]
        letters = [(letter.reason, letter.type, letter.run) for letter in outcome.letters]
        return outcome.read, outcome.cursor == "0", outcome.again, told, outcome.fates, letters

    async def _reopen(self, worker: Worker) -> None:
        worker.session, worker.number, worker.cursor = self._new_session(), 0, "0"
        await self.store.open(worker.session)

    def _pick(self, place: int) -> Lease | None:
        return self.leases[-1 - place % len(self.leases)] if self.leases else None

    async def _step(self, place: int, mode: Mode, takes: int, extra: str = "") -> Any:
        """A commit of a lease, right or wrong as `extra` says; `takes` is how much mail is left in the mailbox."""
        lease = self._pick(place)
        if lease is None:
            return None
        [loaded] = await self.store.load(lease.session, [(lease.ref, lease.token)])
        self.commits += 1
        mail = loaded.mail[: max(0, len(loaded.mail) - takes)] if loaded else ()
        base = loaded.cid if loaded else lease.cid
        step = Commit(
            lease.ref,
            lease.session,
            lease.token,
            base,
            CommitId(f"{lease.session}/{self.commits}"),
            (b"record",),
            {Mode.KEEP: RunStatus.RUNNING, Mode.RELEASE: RunStatus.WAITING, Mode.END: RunStatus.COMPLETED}[mode],
            mode,
            taken=len(mail),
            last_taken=mail[-1].entry if mail else "",
            wake=self.clock.now + 500 if extra == "wake" else None,
            attempts=self.commits % 3,
        )
        if extra == "nobody":
            present = await self.store.run(lease.ref)
            if present is not None and present.owner in ("ready", "parked", ""):
                step = _replace(step, session=SessionId(present.owner), token=present.token)
        step = self._bent(step, extra, mail)
        repeated = [self.last[-1]] if extra == "earlier" and self.last else []
        outcomes = await self.store.commit([step] * (2 if extra == "repeat" else 1) + repeated)
        self.last.append(step)
        if outcomes[0].word == "ok":
            lease.cid = step.cid
        seen = _seen(loaded), [(one.word, one.held, _events(one.mail)) for one in outcomes]
        return seen, await self._redo(outcomes[0].mail, step) if extra == "redo" else None

    async def _redo(self, mail: tuple[Mail, ...], step: Commit) -> Any:
        """The commit again under a new name, as a worker does that was refused for mail."""
        self.commits += 1
        taken = step.taken + len(mail)
        last = mail[-1].entry if mail else step.last_taken
        cid = CommitId(f"{step.session}/{self.commits}")
        [outcome] = await self.store.commit([_replace(step, cid=cid, taken=taken, last_taken=last)])
        return outcome.word, outcome.held, _events(outcome.mail)

    def _bent(self, step: Commit, extra: str, mail: tuple[Mail, ...]) -> Commit:
        entry = next((each.entry for each in mail if not each.is_cancel), REJECT_START)
        number = int(step.cid.rpartition("/")[2])
        bends: dict[str, dict[str, Any]] = {
            "wait 1": {"waits_added": (("order.paid", "1"),)},
            "wait 2": {"waits_added": (("order.paid", "2"),)},
            "unwait": {"waits_removed": (("order.paid", "1"), ("order.paid", "2"))},
            "reject": {"rejects": ((entry, "no"),)},
            "reject start": {"rejects": ((REJECT_START, "no"),)},
            "emit": {"emits": (Emit(1, Event("", "order.paid", "1")), Emit(number, Event("", "order.paid", "2")))},
            "suspend": {"status": RunStatus.SUSPENDED, "error": b"e", "mode": Mode.RELEASE, "wake": self.clock.now + 9},
            "wrong base": {"base": CommitId("x/1")},
            "wrong mail": {"last_taken": "0-1", "taken": max(1, step.taken)},
            "old token": {"token": step.token - 1},
            "other session": {"session": SessionId(next(w.session for w in self.workers if w.session != step.session))},
            "no records": {"records": ()},
            "fields": {"state": b"s", "result": b"r"},
            "emit late": {"emits": (Emit(number, Event("", "order.paid", "2"), delay_ms=300),)},
            "emit note": {"emits": (Emit(number, Event("", "ww.note"), "fulfil", "order-1"),)},
            "emit start": {"emits": (Emit(number, Event("", "order.placed", "2"), "fulfil", "order-2"),)},
            "restart": self._restart(step, number, None),
            "restart then": self._restart(step, number, self.clock.now - 7),
        }
        return _replace(step, **bends.get(extra, {}))

    def _restart(self, step: Commit, number: int, began_at: int | None) -> dict[str, Any]:
        start = Mail(f"again-{number}", Event(f"again-{number}", "order.placed", "1", b'{"n":1}'))
        last = {"emits": (Emit(number, Event("", "order.paid", "1")),)} if number % 2 else {}
        return {"mode": Mode.KEEP, "status": RunStatus.RUNNING, "restart": start, "began_at": began_at, **last}

    async def _hand_back(self, place: int, delay: int) -> Any:
        lease = self._pick(place)
        return lease and await self.store.hand_back(lease.session, lease.ref, lease.token, delay)

    async def _renew(self, which: int) -> Any:
        worker = self.workers[which]
        known = [(lease.ref, lease.token) for lease in self.leases[-3:]]
        renewed = await self.store.renew(worker.session, known)
        if not isinstance(renewed, Renewed):
            return await self._reopen(worker)
        return renewed.lost, sorted(renewed.unknown), sorted(renewed.mail)

    async def _close(self, which: int, died: bool = False) -> Any:
        worker = self.workers[which]
        closed = await self.store.close(worker.session, died)
        await self._reopen(worker)
        return closed

    # ---- time
    async def _tick(self, after: int) -> Any:
        self.clock.now += after
        ticked = await self.store.tick()
        return ticked.moved, ticked.full, ticked.next_due, ticked.sessions_due

    async def _die(self, which: int, pause: int = LIMITS.lease_ttl_ms // 2) -> Any:
        """One worker is silent until it is reaped, the other goes on; `pause` is how often time is looked at."""
        told: list[Any] = []
        for _ in range(3):
            self.clock.now += pause
            told += [await self._renew(1 - which), await self._tick(0)]
        return told

    # ---- people
    async def _cancel(self, place: int, times: int = 1) -> Any:
        lease = self._pick(place)
        return lease and [await self.store.cancel(lease.ref, "ann", "why") for _ in range(times)]

    async def _resume(self, place: int) -> Any:
        lease = self._pick(place)
        return lease and await self.store.resume(lease.ref, b"resumed", "ann")

    async def _redrive(self, place: int) -> Any:
        letters = await self._letters()
        return letters and [await self.store.redrive(letters[place % len(letters)].id, "ann") for _ in range(2)]

    async def _letters(self) -> list[DeadLetter]:
        """What becomes dead in one moment has no order of its own: subjects whose early events are overdue."""
        found = await self.store.dead_letters()
        return sorted(found, key=lambda letter: (letter.at, letter.reason, letter.raw, letter.run))

    async def _drop(self, place: int) -> Any:
        letters = await self._letters()
        return letters and await self.store.drop(letters[place % len(letters)].id, "ann")

    async def _drop_letters(self, reason: str, kind: str | None, age: int | None, limit: int) -> Any:
        before = None if age is None else self.clock.now - age
        return await self.store.drop_letters(reason, kind, before, limit, "bob")

    async def _scarce(self) -> None:
        await self.set_full(self.clock.now + 500)

    async def _register(self) -> None:
        await self.store.register(LATER)

    # ---- looking
    async def observe(self) -> Any:
        """All that can be seen from outside; the books must balance."""
        page = await self.store.runs(RunQuery(limit=1_000))
        letters = [(letter.reason, letter.raw, letter.run, letter.at) for letter in await self._letters()]
        audit = await self.store.audit()
        assert audit.balanced, audit.problems
        histories = [await self.store.history(RunRef(run.ref)) for run in page.items]
        acts = [
            (act.at, act.by, act.act, act.note, act.on if ":" in act.on else "")
            for act in await self.store.operator_log(1_000)
        ]
        return page, letters, audit, await self.store.depth(), histories, acts


def _replace(step: Commit, **changes: Any) -> Commit:
    return msgspec.structs.replace(step, **changes)


def _start(run: LeasedRun) -> str | None:
    return None if run.start is None else run.start.event.id


def _events(mail: tuple[Mail, ...]) -> list[tuple[str, bytes]]:
    return [("" if one.is_cancel else one.event.id, one.event.data) for one in mail]


def _seen(loaded: Loaded | None) -> Any:
    if loaded is None:
        return None
    found = loaded.now, loaded.cid, loaded.created_at, loaded.start.event.id, loaded.records
    return found, _events(loaded.mail), loaded.waits


class Difference(AssertionError):
    """Two stores answered differently."""


async def compare(left: Walk, right: Walk, operations: Sequence[Operation]) -> None:
    """Make the walk on both stores. Answers are compared, what can be seen at the end, and all that the stores hold.

    Raises:
        Difference: An operation was answered differently, or the stores look different afterwards.
    """
    for walk in (left, right):
        await walk.begin()
    for place, operation in enumerate(operations):
        one, other = await left.do(operation), await right.do(operation)
        if one != other:
            raise Difference(f"{place}: {operation}: {one} != {other}")
    one, other = await asyncio.gather(left.observe(), right.observe())
    if one != other:
        raise Difference(f"at the end: {one} != {other}")
    here, there = await left.look(), await right.look()
    for name, value in here.items():
        if value != there[name]:
            raise Difference(f"at the end, {name}: {value} != {there[name]}")
