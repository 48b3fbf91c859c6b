"""The simulated server: the machine and its specification under one clock, reached over a network that loses things."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.kernel import Kernel, require
from tests.simulation.specification import Specification
from workflow_worker.model.ids import CommitId
from workflow_worker.store.memory.machine.apply import apply
from workflow_worker.store.memory.machine.audit import audit
from workflow_worker.store.memory.machine.facts import (
    Committed,
    Ended,
    Fate,
    GivenUp,
    Hint,
    Leased,
    MachineFact,
    Purged,
    SessionEnded,
    TokenRaised,
    Unclaimed,
    Work,
)
from workflow_worker.store.memory.machine.state import DeadEntry, Partition, parse_id
from workflow_worker.store.transitions import POISON_ERROR, Ingested, Limits, Renewed

EPOCH = 1_000_000_000
"""The server's clock at the beginning."""

CHECK_EVERY = 11
"""Transitions between two looks at the whole state."""

CALLS_KEPT = 30
"""How many of the last calls are told with a violation."""

TIMEOUT = 120
"""How long a caller waits for an answer."""

UNANSWERED = object()
"""What a caller gets instead of an outcome when none came in time."""

Answer = Callable[[object], None]


class Lost(Exception):
    """A real server was not reached, or its answer did not come; what it did, the machine has done too."""


@dataclass(frozen=True)
class Snapshot:
    """What a failover goes back to. `keys` are a real server's, serialised by itself."""

    state: bytes
    book: bytes
    keys: tuple[tuple[bytes, bytes], ...] = ()


def _ignore(outcome: object) -> None:
    """For callers that do not wait for an answer."""
    del outcome


class Server:
    """Performs transitions, tells the specification, and can be rolled back to a snapshot (a failover)."""

    check_every = CHECK_EVERY
    ids_name_runs = True
    """Whether runs may be named by the ids of entries."""

    def __init__(self, kernel: Kernel, limits: Limits, off: frozenset[str], *, aimed: bool) -> None:
        self.kernel = kernel
        self.partition = Partition(limits, off, self._hear)
        self.specification = Specification(limits)
        self.hint: Callable[[Hint], None] = lambda hint: None
        self.offset = 0
        self.furthest = 0
        self.down_until = 0
        self.quiet = False
        self.loss = kernel.random.choice([0.0, 0.01, 0.03, 0.06])
        self._aimed = aimed
        self._aim: tuple[int, Snapshot] | None = None
        self._transitions = 0
        self.answer_lost = False
        self.last_calls: deque[tuple[int, str, tuple[Any, ...], object]] = deque(maxlen=CALLS_KEPT)

    def now(self) -> int:
        """The server's clock in milliseconds: what it says may jump."""
        return EPOCH + self.kernel.now + self.offset

    def fill(self, percent: int | None) -> None:
        """Let the server's memory be used up to so much."""
        self.partition.memory = percent

    def shift(self, milliseconds: int) -> None:
        """Let the clock jump."""
        self.offset += milliseconds
        self.furthest = max(self.furthest, self.offset)

    # ---- the network
    def call(self, verb: str, arguments: tuple[object, ...], answer: Answer = _ignore) -> None:
        """One request. `answer` gets the outcome, or `UNANSWERED`: the caller cannot know whether it
        was performed; a late request may still be."""
        kernel = self.kernel
        luck = 1.0 if self.quiet else kernel.random.random()

        def unanswered() -> None:
            kernel.after(TIMEOUT, lambda: answer(UNANSWERED))

        def arrive(*, late: bool = False) -> None:
            if self.down_until > kernel.now:
                return None if late else unanswered()
            try:
                outcome = self.perform(verb, arguments)
            except Lost:
                return None if late else unanswered()
            if late:
                return None
            if self.loss / 3 <= luck < self.loss * 2 / 3:
                kernel.counts["replies lost"] += 1
                return unanswered()
            return kernel.after(kernel.between(1, 6), lambda: answer(outcome))

        if self.down_until > kernel.now or luck < self.loss / 3:
            kernel.counts["requests lost"] += 1
            unanswered()
        elif self.loss * 2 / 3 <= luck < self.loss:
            kernel.counts["requests late"] += 1
            kernel.after(kernel.between(TIMEOUT + 10, 2_000), lambda: arrive(late=True))
            unanswered()
        else:
            kernel.after(kernel.between(1, 6), arrive)

    # ---- transitions
    def perform(self, verb: str, arguments: tuple[Any, ...]) -> object:
        """One transition, now; the specification sees it, and every so often the whole state is checked."""
        self._transitions += 1
        if self._aimed and not self.quiet and verb == "ingest" and self.kernel.chance(0.04):
            self._aim = (self.kernel.now, self.snapshot())
        letter = self._letter(str(arguments[0])) if verb == "redrive" else None
        repeated = self.specification.repeated(arguments[0]) if verb == "commit" else set[CommitId]()
        self.last_calls.append((self.kernel.now, verb, arguments, "?"))
        outcome: Any = self.transition(verb, arguments)
        lost, self.answer_lost = self.answer_lost, False
        self.last_calls[-1] = (self.kernel.now, verb, arguments, outcome)
        if letter is not None:
            self.specification.redriven(letter)
        self.kernel.counts[verb] += 1
        self.kernel.note(verb, arguments, "->", outcome)
        self._judge(verb, arguments, outcome)
        self.specification.after(verb, self.partition.state.runs)
        for commit, answer in zip(arguments[0], outcome, strict=True) if repeated else ():
            require(answer.word == "again" or commit.cid not in repeated, "R2: repeated, but", answer, commit)
        if self._transitions % self.check_every == 0:
            self.check()
        self._strike(verb, outcome)
        if lost:
            raise Lost
        return outcome

    def transition(self, verb: str, arguments: tuple[Any, ...]) -> Any:
        """What the store makes of it, now."""
        return apply(self.partition, verb, arguments, self.now())

    def _judge(self, verb: str, arguments: tuple[Any, ...], outcome: Any) -> None:
        """Tell the specification what the facts do not: who asked for what, and how often."""
        judge, counts = self.specification, self.kernel.counts
        match verb:
            case "renew" if isinstance(outcome, Renewed):
                judge.renewed(arguments[0], arguments[1], outcome.lost, outcome.unknown)
            case "ingest":
                judge.ingested(arguments[0], outcome)
                counts["ingests again"] += isinstance(outcome, Ingested) and outcome.again
            case "open":
                judge.opened(arguments[0])
            case "publish":
                for item, published in zip(arguments[0], outcome, strict=True):
                    counts["publishes full"] += published.full
                    if not published.duplicate and not published.full:
                        judge.published(item.event.id)
            case "register":
                judge.registered(arguments[0])
            case "cancel" if outcome == "ok":
                judge.cancelled(self.partition.state.runs[arguments[0]])
            case "resume" if outcome == "ok":
                judge.resumed(arguments[0])
            case "commit":
                counts.update("commit " + item.word for item in outcome)
            case _:
                return

    def _letter(self, dead_id: str) -> DeadEntry | None:
        letter = self.partition.state.dead.get(parse_id(dead_id))
        return letter if letter is not None and letter.redriven_at is None else None

    def _hear(self, fact: MachineFact) -> None:
        judge = self.specification
        match fact:
            case Fate():
                judge.judge_fate(fact, self.now())
            case Leased(ref, session, token):
                judge.leased(ref, session, token)
            case GivenUp(ref):
                self.kernel.counts["suspended by poison"] += self.partition.state.runs[ref].error == POISON_ERROR
                judge.given_up(ref)
            case TokenRaised(ref, token):
                judge.token_raised(ref, token)
            case Committed(commit, taken):
                judge.committed(commit, taken)
            case Ended(ref):
                judge.ended(self.partition.state.runs[ref])
            case Purged(ref):
                self.kernel.counts["runs purged"] += 1
                judge.purged(ref)
            case SessionEnded(session):
                judge.session_ended(session)
            case Unclaimed(subject, entry):
                judge.unclaimed(subject, entry, self.now())
            case Hint():
                self.hint(fact)
            case Work():
                return

    def check(self) -> None:
        """Invariants A to D and F on the present state, and the specification's picture against it."""
        found = audit(self.partition)
        require(found.balanced, "audit:", *found.problems)
        state = self.partition.state
        early = {subject: [kept.entry.id for kept in entries] for subject, entries in state.early.items()}
        self.specification.compare(state.runs, early)

    def look_closely(self) -> None:
        """At the end: all that can be checked, however long it takes."""
        self.check()

    # ---- failovers
    def snapshot(self) -> Snapshot:
        """Machine and specification as they are now."""
        return Snapshot(pickle.dumps(self.partition.state, -1), self.specification.snapshot())

    def restore(self, saved: Snapshot) -> None:
        """A failover: everything since the snapshot is lost, acknowledged or not."""
        self.kernel.counts["failovers"] += 1
        self.partition.state = pickle.loads(saved.state)
        self.specification.restore(saved.book)
        self.kernel.note("failover")

    def _strike(self, verb: str, outcome: Any) -> None:
        """An aimed failover: to before an ingest, just after what it had handed over was used."""
        if self._aim is None or self.quiet or self.kernel.now - self._aim[0] > 200:
            return
        words = {item.word for item in outcome} if verb == "commit" else set[str]()
        if verb == "load" or "mail" in words:
            likely = 0.5
        elif "ok" in words:
            likely = 0.02
        else:
            return
        if self.kernel.chance(likely):
            self.restore(self._aim[1])
            self._aim = None
            self.kernel.counts["failovers aimed"] += 1
            self.shift(self.kernel.random.choice([0, 0, 0, -3, -40, 200]))
