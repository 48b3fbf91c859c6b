"""Typed facts that the impure parts report. Logs, metrics, traces and tests subscribe to them.

A subscriber is synchronous, does not block and does not raise. Facts carry no payloads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workflow_worker.model.failure import Failure


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The worker's session is open; it takes work from now on. `epoch` is the mark of the namespace that it found."""

    worker: str
    session: str
    epoch: str = ""


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
class StoreReplaced:
    """A later session found another namespace than the one before: FLUSHALL, a restored backup, or another server.

    `before` and `after` are the namespaces' epoch marks. What the worker remembered of runs is dropped, and it goes on
    with what is there.
    """

    worker: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class StoreFilling:
    """Redis uses more of its maxmemory than MEMORY_HIGH_WATER allows: events that would start a run are refused."""

    worker: str
    percent: int
    limit: int


@dataclass(frozen=True, slots=True)
class StoreRelieved:
    """Redis is below MEMORY_HIGH_WATER again."""

    worker: str
    percent: int


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
class AttemptHung:
    """An attempt was given up and its body goes on: a thread cannot be stopped, and a coroutine may refuse to end.

    Whatever it brings is ignored, and the run's next attempts have a higher fencing token.
    """

    worker: str
    run: str
    action: str
    step: int
    attempt: int


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
class RunStuck:
    """Workflow code has not yielded for YIELD_LIMIT_MS; it is being interrupted, and its run suspended. `stack` is
    where it was. Told by another thread than the worker's, which stands still."""

    worker: str
    run: str
    for_ms: int
    stack: str


@dataclass(frozen=True, slots=True)
class RunComplained:
    """Errors in tasks of a run that nobody awaited; they change nothing, and are reported once per run and worker."""

    worker: str
    run: str
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """An event became a dead letter when it was taken in. `run` is set when it was that run's copy."""

    worker: str
    dead_id: str
    event_type: str
    reason: str
    run: str = ""


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


@dataclass(frozen=True, slots=True)
class PartStalled:
    """One loop of the worker has not moved for STALL_LIMIT_MS although the store answers others; the worker exits for
    its supervisor."""

    worker: str
    part: str
    for_ms: int


Fact = (
    WorkerStarted
    | WorkerDraining
    | WorkerStopped
    | StoreLost
    | StoreBack
    | StoreReplaced
    | StoreFilling
    | StoreRelieved
    | SessionLost
    | RunLeased
    | LeaseLost
    | AttemptStarted
    | AttemptEnded
    | AttemptHung
    | AttemptLogged
    | EventProcessed
    | RunRested
    | RunStuck
    | RunComplained
    | DeadLettered
    | MailRejected
    | CommitRefused
    | PartFailed
    | PartStalled
)

Emit = Callable[[Fact], None]
