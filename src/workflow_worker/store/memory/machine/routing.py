"""One entry's way: examined, then given exactly one fate, with a copy for everyone who should have one.

Order of the checks (the first that fails decides): ``duplicate`` · ``too big`` · ``not utf-8`` · ``no type`` ·
``malformed`` · ``undeclared`` · ``subject missing``. Duplicates come first, or the redrive of an undeclared event
would double it. ``nobody can receive it`` comes last: an event without a subject that starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflow_worker.model.codec import MAX_VALUE_BYTES
from workflow_worker.model.ids import (
    ENVELOPE_BYTES,
    INTERNAL_PREFIX,
    MAX_NAME_BYTES,
    RESERVED_PREFIX,
    RunRef,
    SessionId,
    run_ref,
)
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine import entries, leases
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.memory.machine.facts import Fate, FateWord, Hint
from workflow_worker.store.memory.machine.room import TOO_MANY, is_early_full, put
from workflow_worker.store.memory.machine.rules import Rule
from workflow_worker.store.memory.machine.state import PARKED, READY, EarlyEntry, Partition, RunState
from workflow_worker.store.transitions import Route, StartRoute

_UNDECLARABLE = re.compile(r"[\x00-\x20\x7f#*]")
"""What no declared type holds. The hash of the routes has fields of other kinds, whose names begin with ``#``."""
_DROPPED = "dropped: its run is over"


@dataclass(slots=True)
class Intake:
    """One ingest under way: who asks, and what it has leased so far."""

    session: SessionId
    number: int
    room: int
    knows: frozenset[str]
    now: int
    leased: dict[RunRef, None] = field(default_factory=dict[RunRef, None])

    def has_room_for(self, run: RunState) -> bool:
        """Whether the caller can take this run too."""
        return len(self.leased) < self.room and run.kind in self.knows


@dataclass(slots=True)
class Arrival:
    """An entry that passed the checks. `address` is the run that its producer named; `alone` the run whose copy it
    is, `may_start` when that was the start event. `got` collects who received what."""

    entry: Entry
    type: str
    id: str
    subject: str | None
    route: Route
    address: RunRef | None
    alone: RunRef | None
    may_start: bool
    got: dict[RunRef, tuple[str, ...]] = field(default_factory=dict[RunRef, tuple[str, ...]])
    claimed: list[EarlyEntry] = field(default_factory=list[EarlyEntry])
    """Early events taken by the first run that this entry creates; the later ones get the same."""

    @property
    def no_run(self) -> str:
        """What becomes of it when the run that it names cannot have it, if not ``dead``: what one run sent to another
        concerns nobody else."""
        return _DROPPED if self.type.startswith(INTERNAL_PREFIX) else ""


def find_route(routes: dict[str, Route], event_type: str) -> Route | None:
    """The route of a type: its own, else that of the longest declared prefix, cut at dots.

    ``orders.eu.placed`` looks for itself, then ``orders.eu.*``, then ``orders.*``. ``orders`` alone does not match
    ``orders.*``.
    """
    found = routes.get(event_type)
    stem = event_type
    while found is None and "." in stem:
        stem = stem.rpartition(".")[0]
        found = routes.get(stem + ".*")
    return found


def make_run_id(template: Sequence[str], event_id: str, subject: str | None) -> str | None:
    """The id of the run that a start route begins: literals, the subject and the event's id joined. None when the
    template needs a subject that the event does not have."""
    if not template:
        return event_id
    parts: list[str] = []
    for part in template:
        if part.startswith("="):
            parts.append(part[1:])
        elif part == "id":
            parts.append(event_id)
        elif subject is None:
            return None
        else:
            parts.append(subject)
    return "".join(parts)


def route_entry(p: Partition, intake: Intake, entry: Entry) -> None:
    """Give one entry its fate: routed, early, duplicate or dead; each is counted once."""
    p.state.counts["ingested"] += 1
    if _is_duplicate(p, entry):
        return _settle(p, entry, "duplicate", "", {})
    arrival = _examine(p, entry)
    if isinstance(arrival, str):
        return bury_entry(p, entry, arrival, intake.now)
    refusal = _to_its_run(p, intake, arrival) if arrival.alone is not None else _to_everyone(p, intake, arrival)
    if refusal == "duplicate":
        return _settle(p, entry, "duplicate", "", {})
    if refusal == _DROPPED and p.on(Rule.ANSWERS_DROPPED):
        p.state.counts["unclaimed"] += 1
        return _settle(p, entry, "early", refusal, {})
    if refusal:
        return bury_entry(p, entry, refusal, intake.now)
    return _settle(p, entry, "routed" if arrival.got else "early", "", arrival.got)


def quarantine_entry(p: Partition, entry: Entry, reason: str, now: int) -> None:
    """The fate of an entry that ingest has failed on: dead as it is, unless its id was seen.

    Only `id` and ``via`` are read: without the look at the id, a repeat of the event would be routed beside the letter,
    and the letter's redrive would double it.
    """
    p.state.counts["ingested"] += 1
    if _is_duplicate(p, entry):
        _settle(p, entry, "duplicate", "", {})
    else:
        bury_entry(p, entry, f"quarantined: {reason}", now)


def bury_entry(p: Partition, entry: Entry, reason: str, now: int) -> None:
    """The fate ``dead``: the raw fields and the reason go to a person.

    A redriven copy that its run cannot have stays that run's copy: sent again as an event of its own, it would reach
    those who had theirs long ago.
    """
    via = entries.field(entry.fields, entries.VIA) or b""
    alone, start = _alone(p, via.decode("utf-8", "replace"))
    p.bury(entries.without_via(entry.fields), reason, now, alone, start=start)
    _settle(p, entry, "dead", reason, {})


def _settle(p: Partition, entry: Entry, word: FateWord, reason: str, got: dict[RunRef, tuple[str, ...]]) -> None:
    p.state.counts[word] += 1
    p.tell(Fate(entry, word, reason, got))


# ------------------------------------------------------------------------------------------------------------ checks


def _is_duplicate(p: Partition, entry: Entry) -> bool:
    """Only bare ids are looked up and remembered here: `publish` did that for the entries it wrote."""
    event_id = entries.field(entry.fields, b"id")
    if event_id is None or not p.on(Rule.SEEN):
        return False
    if entries.field(entry.fields, entries.VIA) is not None and p.on(Rule.VIA_SKIPS_SEEN):
        return False
    if event_id in p.state.seen_new or event_id in p.state.seen_old:
        return True
    p.state.seen_new.add(event_id)
    return False


def _examine(p: Partition, entry: Entry) -> Arrival | str:
    """The entry as something to route, or the reason why it is not."""
    most, data = _most_bytes(p, entry), entries.field(entry.fields, b"data") or b""
    if len(data) > most or entries.size_of(entry.fields) > most + ENVELOPE_BYTES:
        return "too big"
    try:
        text = [part.decode() for part in entry.fields]
    except UnicodeDecodeError:
        return "not utf-8"
    found = dict(zip(text[::2], text[1::2], strict=True))
    event_type = found.get("type")
    if not event_type:
        return "no type"
    problem = _problem_of(event_type, found.get("via") or "")
    if problem:
        return f"malformed: type {problem}"
    for name in ("id", "type", "subject", "workflow", "run"):
        if len(found.get(name, "").encode()) > MAX_NAME_BYTES:
            return f"malformed: {name} is longer than {MAX_NAME_BYTES} bytes"
    address = _address_of(found)
    if isinstance(address, tuple):
        return address[0]
    route = find_route(p.state.routes, event_type) or _undeclared(event_type, address)
    if route is None:
        return "undeclared"
    subject, event_id = found.get("subject") or None, found.get("id") or entry.id
    alone, may_start = _alone(p, found.get("via", ""))
    missing = any(make_run_id(start.template, event_id, subject) is None for start in route.starts)
    if subject is None and (route.needs_subject or (missing and address is None)):
        return "subject missing"
    return Arrival(entry, event_type, event_id, subject, route, address, alone, may_start)


def _most_bytes(p: Partition, entry: Entry) -> int:
    """What one run sends another is not bound by what producers may send: the other waits for it."""
    via, event_type = (entries.field(entry.fields, name) or b"" for name in (entries.VIA, b"type"))
    ours = via == b"emit" or via.startswith((b"copy ", b"start "))
    if ours and event_type.startswith(INTERNAL_PREFIX.encode()):
        return max(p.limits.max_event_bytes, MAX_VALUE_BYTES)
    return p.limits.max_event_bytes


def _problem_of(event_type: str, via: str) -> str:
    """Internal mail comes from a run's emit, or is a run's own copy sent again. A stranger's letter that a person sends
    again stays a stranger's."""
    sent = via == "emit" or via.startswith(("copy ", "start "))
    for prefix, ours in ((RESERVED_PREFIX, False), (INTERNAL_PREFIX, sent)):
        if event_type.startswith(prefix) and not ours:
            return f"begins with {prefix}"
    return "that nobody can declare" if _UNDECLARABLE.search(event_type) else ""


def _undeclared(event_type: str, address: RunRef | None) -> Route | None:
    """What one run sends to another needs no declaration."""
    return Route(False) if address is not None and event_type.startswith(INTERNAL_PREFIX) else None


def _address_of(found: dict[str, str]) -> RunRef | tuple[str] | None:
    """The run that the producer named; a one-tuple holds the reason when the address is unusable."""
    workflow, run = found.get("workflow") or "", found.get("run") or ""
    if not workflow and not run:
        return None
    if not workflow or not run:
        return ("malformed: addressed without " + ("run" if workflow else "workflow"),)
    if ":" in workflow:
        return ("malformed: workflow name with a colon",)
    return run_ref(workflow, run)


def _alone(p: Partition, via: str) -> tuple[RunRef | None, bool]:
    word, _, ref = via.partition(" ")
    if word not in ("copy", "start") or not p.on(Rule.COPY_TO_ITS_RUN):
        return None, False
    return RunRef(ref), word == "start"


# -------------------------------------------------------------------------------------------------------- recipients


def _to_its_run(p: Partition, intake: Intake, arrival: Arrival) -> str:
    """A redriven copy: mail for its run while that lives. A start event creates the run again when it is missing or
    ended by the rejection of a start event. Returns the refusal, empty if delivered."""
    ref = arrival.alone
    assert ref is not None
    run = p.state.runs.get(ref)
    if run is not None and not run.status.ended:
        _deliver(p, intake, run, arrival)
        return ""
    start = _start_of(arrival.route, ref.partition(":")[0])
    if arrival.may_start and start is not None and (run is None or run.start_rejected):
        _create(p, intake, ref, start, arrival)
        return ""
    return "no such run" if run is None else "run ended"


def _to_everyone(p: Partition, intake: Intake, arrival: Arrival) -> str:
    """The addressed run, or the runs that the type starts; then every live run of the subject and every wait: one copy
    each, however many ways lead there. Returns the refusal, empty if delivered or early.

    An addressed event whose run cannot have it goes to ``dead`` as a whole, so that its redrive gives nobody a second
    copy. An event that only other subjects' waits received stays in ``early`` beside them.
    """
    reached_ended = False
    for start, ref in _targets(arrival):
        run = p.state.runs.get(ref)
        if run is not None and not run.status.ended:
            _deliver(p, intake, run, arrival)
        elif start is None:
            return arrival.no_run or ("no such run" if run is None else "run ended")
        elif run is None or ((start.restart or run.start_rejected) and p.on(Rule.RESTART)):
            _create(p, intake, ref, start, arrival)
        else:
            reached_ended = True
    direct = bool(arrival.got) or reached_ended or arrival.address is not None
    for ref in _interested(p, arrival):
        if ref not in arrival.got:
            _deliver(p, intake, p.state.runs[ref], arrival)
    if arrival.got:
        if not direct and arrival.subject not in p.state.subjects and p.on(Rule.KEEP_BESIDE_WAIT):
            _keep_beside_waits(p, arrival, intake.now)
        return ""
    if reached_ended:
        return "duplicate"
    if arrival.subject is None:
        return "nobody can receive it"
    if is_early_full(p, arrival.subject):
        return f"{TOO_MANY}: early events of the subject"
    _keep_early(p, arrival, arrival.subject, set(), intake.now)
    return ""


def _targets(arrival: Arrival) -> list[tuple[StartRoute | None, RunRef]]:
    if arrival.address is not None:
        return [(_start_of(arrival.route, arrival.address.partition(":")[0]), arrival.address)]
    targets: list[tuple[StartRoute | None, RunRef]] = []
    for start in arrival.route.starts:
        run_id = make_run_id(start.template, arrival.id, arrival.subject)
        if run_id is not None:
            targets.append((start, run_ref(start.workflow, run_id)))
    return targets


def _start_of(route: Route, workflow: str) -> StartRoute | None:
    return next((start for start in route.starts if start.workflow == workflow), None)


def _interested(p: Partition, arrival: Arrival) -> list[RunRef]:
    """Live runs of the subject in the order of their creation, then the waiting ones by name. None for what one run
    sends to another: the start events of children of one subject would make as many copies as they are, squared."""
    if arrival.subject is None or arrival.type.startswith(INTERNAL_PREFIX):
        return []
    runs = list(p.state.subjects.get(arrival.subject, ())) if p.on(Rule.SUBJECT_COPIES) else []
    return runs + sorted(p.state.waits.get((arrival.type, arrival.subject), ()))


def _create(p: Partition, intake: Intake, ref: RunRef, start: StartRoute, arrival: Arrival) -> None:
    """A new run, or a new incarnation of an ended one, whose token goes on rising. The start event is a field of the
    run and not mail; early events of the subject are mail, but for those that a wait of this very run had."""
    s, subject, old = p.state, arrival.subject, p.state.runs.get(ref)
    if subject is not None and len(s.subjects.get(subject, ())) >= p.limits.subject_cap:
        fields = entries.without_via(arrival.entry.fields)
        p.bury(fields, f"{TOO_MANY}: live runs of the subject", intake.now, ref, start=True)
        arrival.got[ref] = ()
        return
    s.ended.pop(ref, None)
    workflow, _, run_id = ref.partition(":")
    run = RunState(ref, workflow, run_id, start.version, subject, arrival.entry, intake.now, intake.now)
    run.began_at = intake.now
    run.token = old.token if old is not None else 0
    leases.raise_token(p, run, intake.now)  # else a stale entry of a purged run of this name would fit again
    s.runs[ref] = run
    arrival.got[ref] = (arrival.entry.id,)
    if subject is not None:
        s.subjects.setdefault(subject, {})[ref] = None
        _take_early(p, run, subject, arrival, intake.now)
    _place(p, intake, run)


def _take_early(p: Partition, run: RunState, subject: str, arrival: Arrival, now: int) -> None:
    if not p.on(Rule.EARLY_TAKEN):
        return
    if subject in p.state.early:
        arrival.claimed = p.state.early.pop(subject)
        p.state.early_due.pop(subject, None)
        p.state.counts["claimed"] += len(arrival.claimed)
    for kept in arrival.claimed:
        if run.ref not in kept.to and put(p, run, kept.entry, now):
            arrival.got[run.ref] += (kept.entry.id,)
    if not p.on(Rule.EARLY_FOR_EVERY_RUN):
        arrival.claimed = []


def _deliver(p: Partition, intake: Intake, run: RunState, arrival: Arrival) -> None:
    """A copy into the mailbox, and the run to whoever can drive it."""
    arrival.got[run.ref] = ()
    if not put(p, run, arrival.entry, intake.now):
        return
    arrival.got[run.ref] = (arrival.entry.id,)
    if run.held:
        if run.ref not in intake.leased:
            p.tell(Hint(run.owner, run.ref))
    elif run.owner != PARKED:
        _place(p, intake, run)


def _place(p: Partition, intake: Intake, run: RunState) -> None:
    """A run with something to do that nobody holds: leased when the caller has room and knows it, else in ``ready``
    once. A suspended one stays."""
    if run.status is RunStatus.SUSPENDED:
        return
    if intake.has_room_for(run):
        leases.lease(p, run, intake.session, intake.number, intake.now)
        intake.leased[run.ref] = None
    elif run.owner != READY or not p.on(Rule.ONE_READY_ENTRY):
        leases.make_ready(p, run, intake.now)


def _keep_early(p: Partition, arrival: Arrival, subject: str, to: set[RunRef], now: int) -> None:
    kept = EarlyEntry(arrival.entry, arrival.type, now + p.limits.early_event_ttl_ms, to)
    p.state.early.setdefault(subject, []).append(kept)
    p.state.early_due[subject] = min(p.state.early_due.get(subject, kept.deadline), kept.deadline)


def _keep_beside_waits(p: Partition, arrival: Arrival, now: int) -> None:
    """At the cap it is not kept: its waiters have it, so it is not lost."""
    assert arrival.subject is not None
    if not is_early_full(p, arrival.subject):
        p.state.counts["kept"] += 1
        _keep_early(p, arrival, arrival.subject, set(arrival.got), now)
