"""How events come in: declarations, publishing, and *ingest*, which reads, routes, delivers and leases at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec

from workflow_worker.store.bounds import check_published
from workflow_worker.store.memory.machine import entries, leases
from workflow_worker.store.memory.machine.operations import sweep_undeclared
from workflow_worker.store.memory.machine.routing import Intake, find_route, quarantine_entry, route_entry
from workflow_worker.store.memory.machine.rules import Rule
from workflow_worker.store.memory.machine.state import PER_CALL, DeadEntry, Partition, SessionState, format_id, parse_id
from workflow_worker.store.transitions import (
    LETTERS_TOLD,
    Fates,
    Ingest,
    Ingested,
    IngestOutcome,
    Letter,
    Publish,
    Published,
    Registration,
    Route,
    SessionLost,
    Stale,
    StartRoute,
    Unregistered,
)


def register(p: Partition, registration: Registration, now: int) -> None:
    """Declare an app's routes. A mark that is known changes nothing, so an old release cannot undo a newer one.

    A type that is new here is taken as it stands. For a known type the last word on `needs_subject` counts; a start
    route replaces the one of the same workflow unless its version is lower; none is removed. Then up to 200 dead
    letters ``undeclared`` of types declared now are redriven; `tick` goes on with the rest.
    """
    s = p.state
    if registration.mark not in s.marks:
        s.marks[registration.mark] = frozenset(registration.knows)
        for event_type, route in registration.routes.items():
            known = s.routes.get(event_type)
            s.routes[event_type] = route if known is None else _raised(known, route)
        s.sweep = (0, 0)
    sweep_undeclared(p, now, PER_CALL)


def _raised(known: Route, new: Route) -> Route:
    starts: dict[str, StartRoute] = {start.workflow: start for start in known.starts}
    for start in new.starts:
        present = starts.get(start.workflow)
        if present is None or start.version >= present.version:
            starts[start.workflow] = start
    return Route(new.needs_subject, tuple(starts.values()))


def publish(p: Partition, items: Sequence[Publish], now: int) -> list[Published]:
    """Add events in order, each once per id within the dedup window. An event without id gets its entry's. While memory
    is scarce, what would start a run is refused as ``full``.

    Raises:
        ValueError, EventRejected: See `check_published`.
    """
    check_published(items)
    return [_publish_one(p, item, now) for item in items]


def _publish_one(p: Partition, item: Publish, now: int) -> Published:
    s, event = p.state, item.event
    event_id = event.id.encode()
    if event_id and (event_id in s.seen_new or event_id in s.seen_old):
        s.counts["again"] += 1
        return Published(event.id, duplicate=True)
    if now < s.full_until and _would_start(p, item):
        return Published(event.id, full=True)
    if event_id:
        s.seen_new.add(event_id)
    if item.delay_ms > 0:
        delayed_id = p.next_id(now)
        # Told at once, so it must be the event's own later; "d" keeps it apart from the ids of entries.
        named = msgspec.structs.replace(event, id=event.id or "{}-d{}".format(*delayed_id))
        s.delayed[delayed_id] = (now + item.delay_ms, entries.encode(named, "delay", item.workflow, item.run))
        return Published(named.id)
    entry_id = p.add(entries.encode(event, "p", item.workflow, item.run), now)
    return Published(event.id or entry_id)


def _would_start(p: Partition, item: Publish) -> bool:
    """Whether the event can begin a run, by its type or at its address."""
    route = find_route(p.state.routes, item.event.type)
    if route is None:
        return False
    return any(item.workflow in (None, start.workflow) for start in route.starts)


def ingest(p: Partition, request: Ingest, now: int) -> IngestOutcome:
    """Take ready runs, then read, route and deliver the oldest events and lease what there is room for.

    Refusals, all before any write: `SessionLost` (missing or being reaped), again (this number was answered: the runs
    that it leased and that the session still holds, as they are now), `Stale` (a later number was answered),
    `Unregistered` (the mark of the caller's app is not known here). Room above 200 counts as 200. A call that has made
    `copies_cap` copies leaves the other entries to the next one: a busy subject makes thousands of a few.
    """
    session = p.state.sessions.get(request.session)
    if session is None or session.reaping:
        if p.on(Rule.SESSION_CHECK):
            return SessionLost()
        session = p.state.sessions.setdefault(request.session, SessionState(now + p.limits.lease_ttl_ms * 2 // 3))
    if p.on(Rule.NUMBERED_INGEST):
        if request.number == session.number:
            return _answer_again(p, request, session, now)
        if request.number < session.number:
            return Stale()
    knows = p.state.marks.get(request.mark)
    if knows is None:
        return Unregistered()
    session.number = request.number
    tally = _Tally(p)
    if request.quarantine:
        head = _quarantine(p, request, now)
        return Ingested(now, (), request.cursor, head, fates=tally.fates(), letters=tally.letters())
    intake = Intake(request.session, request.number, max(0, min(request.room, PER_CALL)), knows, now)
    cursor = _take_ready(p, intake, request.cursor)
    room_left = intake.room - len(intake.leased)
    read = 0
    for entry in p.state.events[:room_left]:
        route_entry(p, intake, entry)
        read += 1
        if tally.copies() >= p.limits.copies_cap:
            break
    del p.state.events[:read]
    runs = tuple(leases.leased_view(p.state.runs[ref]) for ref in intake.leased)
    return Ingested(now, runs, cursor, read, fates=tally.fates(), letters=tally.letters())


class _Tally:
    """What one call has done so far, by the difference to before."""

    def __init__(self, p: Partition) -> None:
        self._state = p.state
        self._counts, self._dead = p.state.counts.copy(), len(p.state.dead)

    def copies(self) -> int:
        """Copies that went to mailboxes or, at a cap, to ``dead``."""
        return self._of("deliveries") + len(self._state.dead) - self._dead - self._of("dead")

    def fates(self) -> Fates:
        return Fates(self._of("routed"), self._of("early"), self._of("duplicate"), self._of("dead"))

    def letters(self) -> tuple[Letter, ...]:
        made = islice(self._state.dead.items(), self._dead, self._dead + LETTERS_TOLD)
        return tuple(
            Letter(format_id(dead_id), letter.reason, _type_of(letter), letter.run or "") for dead_id, letter in made
        )

    def _of(self, name: str) -> int:
        return self._state.counts[name] - self._counts[name]


def _type_of(letter: DeadEntry) -> str:
    return (entries.field(letter.fields, b"type") or b"").decode("utf-8", "backslashreplace")


def _answer_again(p: Partition, request: Ingest, session: SessionState, now: int) -> Ingested:
    p.state.counts["again"] += 1
    held = [ref for ref, number in session.held.items() if number == request.number]
    runs = tuple(leases.leased_view(p.state.runs[ref]) for ref in held)
    return Ingested(now, runs, request.cursor, 0, again=True)


def _quarantine(p: Partition, request: Ingest, now: int) -> int:
    """The head entry goes raw to ``dead``, and nothing else is done. Returns how many entries that are."""
    head = p.state.events[:1]
    del p.state.events[:1]
    for entry in head:
        quarantine_entry(p, entry, request.reason or "ingest failed on it", now)
    return len(head)


def _take_ready(p: Partition, intake: Intake, cursor: str) -> str:
    """Lease runs from ``ready``, looking at no more than four entries for each of the room, from the cursor on.

    Stale entries are dropped, runs that the caller does not know are left for others. Returns where the look stopped,
    so that entries of unknown workflows cannot hide those behind them; ``0`` when it reached the end.
    """
    ready, start = p.state.ready, parse_id(cursor)
    looked = [(entry_id, *entry) for entry_id, entry in ready.items() if entry_id > start][: 4 * intake.room]
    last = start
    for entry_id, ref, token in looked:
        if len(intake.leased) >= intake.room:
            return format_id(last)
        last = entry_id
        if not leases.is_valid(p, ref, token):
            del ready[entry_id]
            continue
        run = p.state.runs[ref]
        if run.kind in intake.knows:
            del ready[entry_id]
            leases.lease(p, run, intake.session, intake.number, intake.now)
            intake.leased[ref] = None
    return format_id(last) if looked and len(looked) == 4 * intake.room else "0"
