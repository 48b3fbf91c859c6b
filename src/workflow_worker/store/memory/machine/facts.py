"""What the machine tells those who watch it: hints and wake-ups for the store, fates and leases for a specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.transitions import Commit

FateWord = Literal["routed", "early", "duplicate", "dead"]


@dataclass(frozen=True, slots=True)
class Work:
    """An entry was added to ``events`` or ``ready``: one sleeper may wake."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A run held by `session` got mail."""

    session: SessionId
    ref: RunRef


@dataclass(frozen=True, slots=True)
class Fate:
    """What ingest did with an entry. `got` names the entries that each recipient received, its start event first;
    nothing for a recipient at its cap, whose copy went to ``dead``."""

    entry: Entry
    word: FateWord
    reason: str
    got: dict[RunRef, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit was accepted; told before it is written. `taken` are the mail entries that it removes."""

    commit: Commit
    taken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run has ended, its history is complete."""

    ref: RunRef


@dataclass(frozen=True, slots=True)
class Purged:
    """Nothing is left of a run."""

    ref: RunRef


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session was closed, or its reaping has begun: nothing brings it back."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """An early event went past its deadline."""

    subject: str
    entry: str


@dataclass(frozen=True, slots=True)
class TokenRaised:
    """A run has a new fencing token."""

    ref: RunRef
    token: int


@dataclass(frozen=True, slots=True)
class Leased:
    """A session holds a run now."""

    ref: RunRef
    session: SessionId
    token: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """No session holds this run any more."""

    ref: RunRef


MachineFact = (
    Work | Hint | Fate | Committed | Ended | Purged | SessionEnded | Unclaimed | TokenRaised | Leased | GivenUp
)
