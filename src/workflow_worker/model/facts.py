"""Typed facts that the impure parts report. Logs, metrics, traces and tests subscribe to them.

A subscriber is synchronous, does not block and does not raise. Facts carry no payloads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workflow_worker.model.failure import Failure


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The worker's session is open; it takes work from now on."""

    worker: str
    session: str


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker takes no new work."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """The worker has handed everything back and closed its session."""

    worker: str


@dataclass(frozen=True, slots=True)
class StoreLost:
    """Redis does not answer; reported at most every 5 s while it lasts."""

    worker: str
    reason: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class StoreBack:
    """Redis answers again."""

    worker: str
    after_ms: int


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The session ended without us: its runs belong to others now, all attempts are cancelled."""

    worker: str
    session: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunLeased:
    """A run is ours now. `takeovers` is above 0 when a dead session held it before."""

    worker: str
    run: str
    token: int
    takeovers: int
    mail: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A run is ours no more; what was computed since the last accepted commit is void."""

    worker: str
    run: str
    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """One attempt of an action begins."""

    worker: str
    run: str
    action: str
    step: int
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """One attempt of an action ended: well (`failure` is None), or with an error and what follows from it.

    `decision` is ``retry``, ``raise``, ``park`` or empty; `retry_in_ms` belongs to ``retry``, `rule` names the rule of
    the classification that matched.
    """

    worker: str
    run: str
    action: str
    step: int
    attempt: int
    took_ms: float
    failure: Failure | None = None
    decision: str = ""
    retry_in_ms: int = 0
    rule: str = ""


@dataclass(frozen=True, slots=True)
class AttemptLogged:
    """A line that an author's action wrote with ``action.log``."""

    worker: str
    run: str
    action: str
    attempt: int
    level: str
    message: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class EventProcessed:
    """An accepted commit recorded this event. `took_ms` runs from the lease to the record."""

    worker: str
    run: str
    event_id: str
    event_type: str
    subject: str
    took_ms: float
    outcome: str
    """``succeeded`` or ``failed``."""


@dataclass(frozen=True, slots=True)
class RunRested:
    """A run left this worker's hands: it waits, ended, or was suspended (then with the failure)."""

    worker: str
    run: str
    status: str
    records: int
    took_ms: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class MailRejected:
    """An event did not fit its declared class; it is a dead letter now."""

    worker: str
    run: str
    entry: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The store refused a commit: ``fenced``, ``conflict`` or ``gone``."""

    worker: str
    run: str
    token: int
    word: str


@dataclass(frozen=True, slots=True)
class PartFailed:
    """One loop of the worker raised something unexpected; the worker exits for its supervisor."""

    worker: str
    part: str
    failure: Failure


Fact = (
    WorkerStarted
    | WorkerDraining
    | WorkerStopped
    | StoreLost
    | StoreBack
    | SessionLost
    | RunLeased
    | LeaseLost
    | AttemptStarted
    | AttemptEnded
    | AttemptLogged
    | EventProcessed
    | RunRested
    | MailRejected
    | CommitRefused
    | PartFailed
)

Emit = Callable[[Fact], None]
