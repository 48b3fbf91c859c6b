"""What must happen, written down apart from the machine: the fate and the recipients of every event, and every run's
mail, lease and history. It is rolled back together with the machine when a failover loses a suffix."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.kernel import require
from tests.simulation.programs import decode, judge
from tests.simulation.reading import Text, field_of, find_route, find_targets, id_of, is_ours, public_parts, text_of
from workflow_worker.model.ids import ENVELOPE_BYTES, CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.memory.machine.facts import Fate
from workflow_worker.store.memory.machine.state import DeadEntry, RunState
from workflow_worker.store.transitions import (
    REJECT_START,
    Commit,
    Ingest,
    Ingested,
    IngestOutcome,
    Limits,
    Registration,
    Route,
    SessionLost,
    Stale,
    Unregistered,
)


@dataclass
class Expected:
    """A live run. `due` lists all mail that it was ever due, in order; the first `recorded` of it is taken."""

    subject: str | None
    start_id: str
    ids: set[str]
    due: list[str] = field(default_factory=list[str])
    recorded: int = 0

    @property
    def waiting(self) -> int:
        return len(self.due) - self.recorded


@dataclass
class Kept:
    """An early event; `to` had it by a wait."""

    entry: str
    id: str | None
    type: str
    deadline: int
    to: set[RunRef]


@dataclass
class Book:
    """All that the specification remembers."""

    live: dict[RunRef, Expected] = field(default_factory=dict[RunRef, Expected])
    ended: dict[RunRef, bool] = field(default_factory=dict[RunRef, bool])
    """Ended runs; True when a rejected start event ended them."""
    early: dict[str, list[Kept]] = field(default_factory=dict[str, list[Kept]])
    waits: dict[RunRef, set[tuple[str, str]]] = field(default_factory=dict[RunRef, set[tuple[str, str]]])
    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    seen: set[str] = field(default_factory=set[str])
    accepted: Counter[str] = field(default_factory=Counter[str])
    allowed: Counter[str] = field(default_factory=Counter[str])
    emitted: set[str] = field(default_factory=set[str])
    arrived: set[str] = field(default_factory=set[str])
    leases: dict[RunRef, tuple[SessionId, int]] = field(default_factory=dict[RunRef, tuple[SessionId, int]])
    tokens: dict[RunRef, int] = field(default_factory=dict[RunRef, int])
    sessions: set[SessionId] = field(default_factory=set[SessionId])
    numbers: dict[SessionId, int] = field(default_factory=dict[SessionId, int])
    commits: dict[RunRef, CommitId] = field(default_factory=dict[RunRef, CommitId])
    ending: dict[RunRef, bool] = field(default_factory=dict[RunRef, bool])
    fates: Counter[str] = field(default_factory=Counter[str])


class Specification:
    """The judge. Its methods are told what was done, and raise `Violation` when that was wrong."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.book = Book()
        self._given_up: dict[RunRef, int] = {}

    def snapshot(self) -> bytes:
        return pickle.dumps(self.book, -1)

    def restore(self, saved: bytes) -> None:
        self.book = pickle.loads(saved)

    # ---- routing
    def judge_fate(self, fate: Fate, now: int) -> None:
        """Compare what ingest did with what it had to do, then write it down."""
        text = text_of(fate.entry)
        word, plan = self._predict(fate.entry, text)
        if fate.reason.startswith("quarantined"):
            word, plan = "duplicate" if self._was_seen(fate.entry, text) else "dead", {}
        self.book.fates[fate.word] += 1
        found = "dropped" if fate.reason.startswith("dropped") else fate.word
        require(found == word, "fate of", fate.entry, "is", fate.word, fate.reason, "instead of", word)
        require(plan == fate.got, "recipients of", fate.entry, "are", fate.got, "instead of", plan)
        event_id = None if text is None else text.get("id") or None
        if event_id is not None and text is not None:
            if not text.get("via"):
                self.book.seen.add(event_id)
            if text.get("via") == "emit":
                self.book.arrived.add(event_id)
            if word in ("routed", "early"):
                self.book.accepted[event_id] += 1
                twice = self.book.accepted[event_id] > 1 + self.book.allowed[event_id]
                require(not twice, "accepted twice:", event_id, fate.entry)
        if text is not None:
            self._write_down(fate.entry, text, word, plan, now)

    def _predict(self, entry: Entry, text: Text | None) -> tuple[str, dict[RunRef, tuple[str, ...]]]:
        book = self.book
        if self._was_seen(entry, text):
            return "duplicate", {}
        size, most = sum(len(part) for part in public_parts(entry)), self.limits.max_event_bytes
        bad = text is None or size > most + ENVELOPE_BYTES or len(text.get("data", "").encode()) > most
        if bad or text is None or not text.get("type") or text["type"].startswith("wf."):
            return "dead", {}
        sent = text.get("via") == "emit" or " " in text.get("via", "")
        if text["type"].startswith("ww.") and not sent:
            return "dead", {}
        if bool(text.get("workflow")) != bool(text.get("run")):
            return "dead", {}
        route = find_route(book.routes, text["type"])
        subject = text.get("subject") or None
        if text["type"].startswith("ww.") and text.get("run"):
            route = Route(False)
        if route is None or (subject is None and route.needs_subject):
            return "dead", {}
        alone = text.get("via", "").partition(" ")
        if alone[2]:
            return self._predict_copy(entry, text, route, RunRef(alone[2]), alone[0] == "start")
        return self._predict_all(entry, text, route)

    def _was_seen(self, entry: Entry, text: Text | None) -> bool:
        return id_of(entry, text) in self.book.seen and not is_ours(entry)

    def _predict_copy(
        self, entry: Entry, text: Text, route: Route, ref: RunRef, may_start: bool
    ) -> tuple[str, dict[RunRef, tuple[str, ...]]]:
        if ref in self.book.live:
            return "routed", {ref: self._copy(ref, entry)}
        startable = may_start and any(start.workflow == ref.partition(":")[0] for start in route.starts)
        if startable and self.book.ended.get(ref, True):
            return "routed", {ref: self._birth(ref, entry, text)}
        return "dead", {}

    def _predict_all(self, entry: Entry, text: Text, route: Route) -> tuple[str, dict[RunRef, tuple[str, ...]]]:
        book, subject, plan, was = self.book, text.get("subject") or None, dict[RunRef, tuple[str, ...]](), False
        for start, ref in find_targets(entry, text, route):
            if ref in book.live:
                plan[ref] = self._copy(ref, entry)
            elif start is None:
                return ("dropped" if text["type"].startswith("ww.") else "dead"), {}
            elif ref not in book.ended or start.restart or book.ended[ref]:
                plan[ref] = self._birth(ref, entry, text)
            else:
                was = True
        for ref, run in book.live.items():
            about = subject is not None and run.subject == subject
            wanted = about or (text["type"], subject) in book.waits.get(ref, ())
            if ref not in plan and wanted and not text["type"].startswith("ww."):
                plan[ref] = self._copy(ref, entry)
        if plan:
            return "routed", plan
        if was:
            return "duplicate", {}
        if subject is None or len(book.early.get(subject, ())) >= self.limits.early_cap:
            return "dead", {}
        return "early", {}

    def _copy(self, ref: RunRef, entry: Entry) -> tuple[str, ...]:
        """A copy is refused at the cap, but for what another run answers."""
        answer = (field_of(entry.fields, b"type")).startswith("ww.")
        return (entry.id,) if answer or self.book.live[ref].waiting < self.limits.mailbox_cap else ()

    def _birth(self, ref: RunRef, entry: Entry, text: Text) -> tuple[str, ...]:
        early = self.book.early.get(text.get("subject", ""), ())
        return (entry.id, *(kept.entry for kept in early if ref not in kept.to))

    def _write_down(self, entry: Entry, text: Text, word: str, plan: dict[RunRef, tuple[str, ...]], now: int) -> None:
        book, subject, event_id = self.book, text.get("subject") or None, text.get("id") or entry.id
        deadline = now + self.limits.early_event_ttl_ms
        subject_lives = any(run.subject == subject for run in book.live.values())
        born = [ref for ref in plan if ref not in book.live]
        names = {kept.entry: kept.id for kept in book.early.get(subject or "", ())}
        for ref, entries in plan.items():
            if ref in born:
                book.live[ref] = Expected(subject, event_id, {event_id})
                book.ended.pop(ref, None)
                book.commits.pop(ref, None)
                entries = entries[1:]
            for one in entries:
                self._due(ref, one, names.get(one) if one != entry.id else event_id)
        if born and subject is not None:
            book.early.pop(subject, None)
        beside = word == "routed" and not born and not subject_lives and not self._direct(entry, text)
        kept = Kept(entry.id, event_id, text.get("type", ""), deadline, set(plan))
        room = len(book.early.get(subject or "", ())) < self.limits.early_cap
        if subject is not None and room and (word == "early" or beside):
            book.early.setdefault(subject, []).append(kept)

    def _direct(self, entry: Entry, text: Text) -> bool:
        """Whether the event went to a run by its own name: such an event is not kept for others."""
        if " " in text.get("via", "") or text.get("run"):
            return True
        route = find_route(self.book.routes, text["type"])
        return route is not None and bool(find_targets(entry, text, route))

    def _due(self, ref: RunRef, entry: str, event_id: str | None) -> None:
        run = self.book.live[ref]
        if event_id is not None:
            require(event_id not in run.ids, "event twice to one run:", ref, event_id)
            run.ids.add(event_id)
        run.due.append(entry)

    # ---- what else happens to events
    def published(self, event_id: str) -> None:
        self.book.seen.add(event_id)

    def registered(self, registration: Registration) -> None:
        self.book.routes.update(registration.routes)

    def unclaimed(self, subject: str, entry: str, now: int) -> None:
        kept = next((kept for kept in self.book.early.get(subject, ()) if kept.entry == entry), None)
        require(kept is not None and kept.deadline <= now, "unclaimed, but not overdue:", subject, entry)
        self.book.early[subject] = [kept for kept in self.book.early[subject] if kept.entry != entry]

    def redriven(self, letter: DeadEntry) -> None:
        """A person sends an event again whose fate was decided before: it may be accepted once more."""
        event_id = field_of(letter.fields, b"id")
        if not event_id:
            return
        if letter.run is not None or letter.reason == "unclaimed" or letter.reason.startswith("quarantined"):
            self.book.allowed[event_id] += 1
        if letter.run is not None and letter.run in self.book.live:
            self.book.live[letter.run].ids.discard(event_id)

    def cancelled(self, run: RunState) -> None:
        """The request is mail, and the run is not left suspended with it."""
        self._due(run.ref, run.mailbox[-1].id, None)
        require(run.status is not RunStatus.SUSPENDED, "D: cancelled, but suspended:", run.ref)

    # ---- sessions and repeats
    def opened(self, session: SessionId) -> None:
        """A request to open that comes late brings a closed session back, with nothing known of its numbers: what it
        leases by other late requests is nobody's, and is reaped."""
        if session not in self.book.sessions:
            self.book.numbers.pop(session, None)
        self.book.sessions.add(session)

    def session_ended(self, session: SessionId) -> None:
        self.book.sessions.discard(session)

    def ingested(self, request: Ingest, outcome: IngestOutcome) -> None:
        """A number is answered with work once; a lost session gets none."""
        last = self.book.numbers.get(request.session, 0)
        match outcome:
            case SessionLost():
                require(request.session not in self.book.sessions, "lost, but alive:", request)
            case Ingested(again=False):
                require(request.session in self.book.sessions, "work for a lost session:", request)
                require(request.number > last, "ingest done again:", request)
                told = outcome.fates
                sum_told = told.routed + told.early + told.duplicate + told.dead
                require(sum_told == outcome.read, "fates told:", told, "of entries read:", outcome.read)
                self.book.numbers[request.session] = request.number
            case Ingested():
                require(request.number == last, "again, but never answered:", request)
            case Stale():
                require(request.number < last, "stale, but not answered:", request)
            case Unregistered():
                return

    def repeated(self, commits: Sequence[Commit]) -> set[CommitId]:
        """Commits that were accepted before and are the last of their run: the answer must be ``again``."""
        return {item.cid for item in commits if self.book.commits.get(item.ref) == item.cid}

    def resumed(self, ref: RunRef) -> None:
        """The run's last commit is the person's now."""
        self.book.commits.pop(ref, None)

    # ---- leases
    def token_raised(self, ref: RunRef, token: int) -> None:
        require(token > self.book.tokens.get(ref, 0), "C: token does not rise:", ref, token)
        self.book.tokens[ref] = token

    def leased(self, ref: RunRef, session: SessionId, token: int) -> None:
        require(ref not in self.book.leases, "two leases of", ref)
        self.book.leases[ref] = (session, token)

    def given_up(self, ref: RunRef) -> None:
        _, token = self.book.leases.pop(ref)
        self._given_up[ref] = token

    def after(self, verb: str, runs: dict[RunRef, RunState]) -> None:
        """C: whoever loses a run otherwise than by its own release has an old token."""
        if verb != "commit":
            for ref, token in self._given_up.items():
                require(runs[ref].token > token, "C: given up under its lease's token:", ref, token)
        self._given_up.clear()

    def renewed(
        self,
        session: SessionId,
        known: tuple[tuple[RunRef, int], ...],
        lost: tuple[tuple[RunRef, int], ...],
        unknown: tuple[tuple[RunRef, int], ...],
    ) -> None:
        """D and E: a renewal tells exactly what the session has lost, and what it holds without knowing it."""
        require(session in self.book.sessions, "a lost session was renewed:", session)
        held = {(ref, token) for ref, (owner, token) in self.book.leases.items() if owner == session}
        require(set(lost) == set(known) - held, "E: renewal told", lost, "lost, not", set(known) - held)
        require(set(unknown) == held - set(known), "D: renewal told", unknown, "unknown, not", held - set(known))

    # ---- histories
    def committed(self, item: Commit, taken: tuple[str, ...]) -> None:
        lease = self.book.leases.get(item.ref)
        self.book.commits[item.ref] = item.cid
        require(lease == (item.session, item.token), "C: commit accepted without the lease", item, lease)
        run = self.book.live[item.ref]
        rejected = {entry for entry, _ in item.rejects}
        due = tuple(run.due[run.recorded : run.recorded + len(taken)])
        require(due == taken and len(taken) == item.taken, "B: took", taken, "but was due", due, item)
        recorded = [record[1] for record in map(decode, item.records) if record[0] == "mail"]
        require(recorded == [entry for entry in taken if entry not in rejected], "B: recorded", recorded, item)
        run.due = [entry for entry in run.due if entry not in rejected]
        run.recorded += len(recorded)
        for emit in item.emits:
            self.book.emitted.add(f"{item.ref}:{run.start_id}:{emit.number}")
        if item.restart is not None:
            run.due = run.due[run.recorded - len(recorded) :]
            run.recorded, run.start_id = len(recorded), item.restart.event.id
        ends = REJECT_START in rejected or item.mode.value == "end"
        self.book.ending[item.ref] = REJECT_START in rejected
        if not ends:
            self._wait(item)

    def _wait(self, item: Commit) -> None:
        waits = self.book.waits.setdefault(item.ref, set())
        run = self.book.live[item.ref]
        for wait in item.waits_added:
            waits.add(wait)
            for kept in self.book.early.get(wait[1], ()):
                if kept.type == wait[0] and item.ref not in kept.to:
                    kept.to.add(item.ref)
                    if run.waiting < self.limits.mailbox_cap:
                        self._due(item.ref, kept.entry, kept.id)
        waits -= set(item.waits_removed)

    def ended(self, run: RunState) -> None:
        """B: the history holds all mail that was due, in order, and follows from itself."""
        expected = self.book.live.pop(run.ref)
        self.book.waits.pop(run.ref, None)
        self.book.ended[run.ref] = self.book.ending.pop(run.ref, False)
        require(not expected.waiting, "B: ended with mail unrecorded:", run.ref, expected.due[expected.recorded :])
        records = [decode(raw) for raw in run.history]
        mail = [record[1] for record in records if record[0] == "mail"]
        require(mail == expected.due, "B: mail of the history", run.ref, mail, "is not what was due", expected.due)
        if run.status is not RunStatus.FAILED:
            problem = judge(run.ref, run.subject, records, run.status.value)
            require(not problem, "B:", problem, run.ref, records)

    def purged(self, ref: RunRef) -> None:
        self.book.ended.pop(ref, None)
        self.book.commits.pop(ref, None)

    # ---- at any time
    def compare(self, runs: dict[RunRef, RunState], early: dict[str, list[str]]) -> None:
        """The machine's picture of live runs, their mail and early events is this one."""
        live = {ref for ref, run in runs.items() if not run.status.ended}
        require(live == set(self.book.live), "live runs differ:", live ^ set(self.book.live))
        mine = {subject: [one.entry for one in kept] for subject, kept in self.book.early.items() if kept}
        require(early == mine, "early events differ:", early, mine)
        for ref in live:
            expected = self.book.live[ref]
            boxed = [entry.id for entry in runs[ref].mailbox]
            require(boxed == expected.due[expected.recorded :], "B: mailbox differs:", ref, boxed, expected.due)

    def finished(self) -> None:
        """Nothing is under way any more: every follow-up event has arrived."""
        missing = self.book.emitted - self.book.arrived
        require(not missing, "emits lost:", missing)
        require(not self.book.arrived - self.book.emitted, "emits of nobody:", self.book.arrived - self.book.emitted)
