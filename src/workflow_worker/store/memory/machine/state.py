"""All that one partition holds, as plain data: what Redis has in keys, the machine has in fields.

`Partition` is what every transition takes: the state, the limits, the rules switched off, and whom to tell.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.memory.machine.facts import MachineFact, Work
from workflow_worker.store.memory.machine.rules import Rule
from workflow_worker.store.transitions import Limits, OperatorAct, Route

IDLE = SessionId("")
READY = SessionId("ready")
PARKED = SessionId("parked")
NOBODY = frozenset({IDLE, READY, PARKED})
"""Owners that are no session: nothing to do, an entry in ``ready``, waiting for the wake of a hand back."""

ACTS_KEPT = 10_000
"""Acts of people that are remembered."""

FULL_MS = 10_000
"""How long one look at the memory counts; then a namespace without workers takes events again."""

PER_CALL = 200
"""Entries or runs that one transition may touch: no script holds the server for long."""

StreamId = tuple[int, int]
Wait = tuple[str, str]
"""Event type and subject."""


def format_id(stream_id: StreamId) -> str:
    """``<milliseconds>-<sequence>``, as Redis writes it."""
    return f"{stream_id[0]}-{stream_id[1]}"


def parse_id(text: str) -> StreamId:
    """The inverse of `format_id`; a lone number is the first id of its millisecond."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


@dataclass(slots=True)
class RunState:
    """One run: its hash, its history and its mailbox."""

    ref: RunRef
    workflow: str
    id: str
    version: int
    subject: str | None
    start: Entry
    created_at: int
    updated_at: int
    status: RunStatus = RunStatus.PENDING
    owner: SessionId = IDLE
    token: int = 0
    cid: CommitId = NO_COMMIT
    emitted: int = 0
    attempts: int = 0
    takeovers: int = 0
    strikes: int = 0
    """Takeovers since the last record: what makes a poison pill."""
    cancel_requested: bool = False
    start_rejected: bool = False
    state: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    began_at: int = 0
    """The first instant on the run's own clock: its creation, or its last restart."""
    history: list[bytes] = field(default_factory=list[bytes])
    mailbox: list[Entry] = field(default_factory=list[Entry])
    waits: dict[Wait, None] = field(default_factory=dict[Wait, None])

    @property
    def held(self) -> bool:
        """Whether a session owns the run."""
        return self.owner not in NOBODY

    @property
    def kind(self) -> str:
        """``workflow@version``: what a worker must know to execute the run."""
        return f"{self.workflow}@{self.version}"


@dataclass(slots=True)
class SessionState:
    """One living session. `held` maps each run to the number of the ingest that leased it."""

    expiry: int
    marked: int | None = None
    reaping: bool = False
    number: int = 0
    held: dict[RunRef, int] = field(default_factory=dict[RunRef, int])


@dataclass(slots=True)
class EarlyEntry:
    """An event about a subject without a live run. `to`: runs of other subjects that had a copy by their wait."""

    entry: Entry
    type: str
    deadline: int
    to: set[RunRef] = field(default_factory=set[RunRef])


@dataclass(slots=True)
class DeadEntry:
    """A dead letter. `run` names the run whose copy it was, `start` tells that it was the run's start event."""

    fields: tuple[bytes, ...]
    reason: str
    at: int
    run: RunRef | None = None
    start: bool = False
    redriven_at: int | None = None


@dataclass(slots=True)
class State:
    """Everything in one partition. Dictionaries keep the order of insertion, like streams and lists."""

    events: list[Entry] = field(default_factory=list[Entry])
    ready: dict[StreamId, tuple[RunRef, int]] = field(default_factory=dict[StreamId, tuple[RunRef, int]])
    dead: dict[StreamId, DeadEntry] = field(default_factory=dict[StreamId, DeadEntry])
    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    marks: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Registration mark → the ``workflow@version`` that its app can execute."""
    runs: dict[RunRef, RunState] = field(default_factory=dict[RunRef, RunState])
    subjects: dict[str, dict[RunRef, None]] = field(default_factory=dict[str, dict[RunRef, None]])
    early: dict[str, list[EarlyEntry]] = field(default_factory=dict[str, list[EarlyEntry]])
    waits: dict[Wait, dict[RunRef, None]] = field(default_factory=dict[Wait, dict[RunRef, None]])
    sessions: dict[SessionId, SessionState] = field(default_factory=dict[SessionId, SessionState])
    wakes: dict[RunRef, int] = field(default_factory=dict[RunRef, int])
    early_due: dict[str, int] = field(default_factory=dict[str, int])
    delayed: dict[StreamId, tuple[int, tuple[bytes, ...]]] = field(
        default_factory=dict[StreamId, tuple[int, tuple[bytes, ...]]]
    )
    seen_new: set[bytes] = field(default_factory=set[bytes])
    seen_old: set[bytes] = field(default_factory=set[bytes])
    rotated_at: int | None = None
    ended: dict[RunRef, int] = field(default_factory=dict[RunRef, int])
    """Ended runs by the time of their end: what retention looks at."""
    sweep: StreamId | None = None
    """Where the search for undeclared dead letters of a newly declared type goes on; None: nothing to search."""
    highest_token: int = 0
    epoch: str = ""
    acts: deque[OperatorAct] = field(default_factory=lambda: deque[OperatorAct](maxlen=ACTS_KEPT))
    full_until: int = 0
    """Until then no event is taken that would start a run: memory was above the high-water mark."""
    last_id: StreamId = (0, 0)
    counts: Counter[str] = field(default_factory=Counter[str])


def tell_nobody(fact: MachineFact) -> None:
    """Listener of a machine that nobody watches."""
    del fact


@dataclass(slots=True)
class Partition:
    """A state, and what its transitions obey. `off` lists the rules that a mutation test has switched off."""

    limits: Limits
    off: frozenset[str] = frozenset()
    tell: Callable[[MachineFact], None] = tell_nobody
    state: State = field(default_factory=State)
    memory: int | None = None
    """Percent of its memory that the server uses: what a simulated server says when `tick` asks."""

    def on(self, rule: Rule) -> bool:
        """Whether a rule holds here: always, but in a mutant."""
        return rule not in self.off

    def next_id(self, now: int) -> StreamId:
        """The next stream id: rises even when the clock does not."""
        last = self.state.last_id
        self.state.last_id = (now, 0) if now > last[0] else (last[0], last[1] + 1)
        return self.state.last_id

    def add(self, fields: tuple[bytes, ...], now: int) -> str:
        """Append an entry to ``events``, as a plain XADD does; returns its id."""
        entry = Entry(format_id(self.next_id(now)), fields)
        self.state.events.append(entry)
        self.state.counts["added"] += 1
        self.tell(Work())
        return entry.id

    def bury(
        self, fields: tuple[bytes, ...], reason: str, now: int, run: RunRef | None = None, *, start: bool = False
    ) -> None:
        """Make a dead letter of an entry's fields; `run` when it was that run's copy."""
        self.state.dead[self.next_id(now)] = DeadEntry(fields, reason, now, run, start)
