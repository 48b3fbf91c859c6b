"""What the log says of each fact: level, words, fields. Pure, and the whole catalogue of our own log lines."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from workflow_worker.model.facts import (
    AttemptEnded,
    AttemptHung,
    AttemptLogged,
    AttemptStarted,
    CommitRefused,
    DeadLettered,
    EventProcessed,
    Fact,
    LeaseLost,
    MailRejected,
    PartFailed,
    PartStalled,
    RunComplained,
    RunLeased,
    RunRested,
    RunStuck,
    SessionLost,
    StoreBack,
    StoreFilling,
    StoreLost,
    StoreRelieved,
    StoreReplaced,
    WorkerDraining,
    WorkerStarted,
    WorkerStopped,
)
from workflow_worker.model.failure import Failure
from workflow_worker.service.facts import (
    CodeSuspected,
    HealthChanged,
    MetricsReported,
    NothingToRun,
    ProcessEnded,
    ProcessKilled,
    ProcessStarted,
    Reloaded,
    ReloadRefused,
    Scaled,
    ServerQuestioned,
    ServerRestarted,
    ServerUnfit,
    ServiceDraining,
    ServiceFact,
    ServiceStarted,
    ServiceStopped,
    SessionClosed,
)

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
"""The standard library's numbers; `logging` itself is not needed here."""

_AUTHOR_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": ERROR}

_CATALOGUE: dict[type[Fact | ServiceFact], tuple[int, str]] = {
    WorkerStarted: (INFO, "worker started"),
    WorkerDraining: (INFO, "worker draining"),
    WorkerStopped: (INFO, "worker stopped"),
    StoreLost: (ERROR, "Redis does not answer"),
    StoreBack: (INFO, "Redis answers again"),
    StoreReplaced: (ERROR, "Redis holds another namespace than before: flushed, restored, or another server"),
    StoreFilling: (WARNING, "Redis is short of memory: events that would start a run are refused"),
    StoreRelieved: (INFO, "Redis has memory again"),
    SessionLost: (WARNING, "session lost"),
    RunLeased: (DEBUG, "run leased"),
    LeaseLost: (WARNING, "lease lost"),
    AttemptStarted: (DEBUG, "attempt started"),
    AttemptEnded: (DEBUG, "attempt ended"),
    AttemptHung: (WARNING, "attempt hangs: it was given up and goes on, its result will be ignored"),
    AttemptLogged: (INFO, ""),
    EventProcessed: (DEBUG, "event processed"),
    RunRested: (DEBUG, "run at rest"),
    RunStuck: (ERROR, "workflow code does not yield"),
    RunComplained: (WARNING, "errors in a run that nobody awaited"),
    DeadLettered: (WARNING, "event became a dead letter"),
    MailRejected: (ERROR, "event rejected"),
    CommitRefused: (WARNING, "commit refused"),
    PartFailed: (ERROR, "part of the worker failed"),
    PartStalled: (ERROR, "part of the worker stands still though Redis answers others: the worker ends"),
    ServiceStarted: (INFO, "service started"),
    NothingToRun: (WARNING, "the app declares no workflow: no event starts anything"),
    CodeSuspected: (WARNING, "workflow code that may not replay, as `workflow-worker check` says"),
    ServiceDraining: (INFO, "service draining"),
    ServiceStopped: (INFO, "service stopped"),
    ProcessStarted: (DEBUG, "worker process started"),
    ProcessEnded: (WARNING, "worker process died"),
    ProcessKilled: (WARNING, "worker process killed"),
    SessionClosed: (INFO, "runs of a dead worker handed back"),
    Scaled: (INFO, "service scaled"),
    HealthChanged: (WARNING, "health changed"),
    MetricsReported: (INFO, "metrics"),
    Reloaded: (INFO, "reloaded"),
    ReloadRefused: (ERROR, "new code does not start; the old workers go on"),
    ServerRestarted: (WARNING, "embedded server had died and was restarted"),
    ServerQuestioned: (WARNING, "Redis could be safer"),
    ServerUnfit: (ERROR, "Redis is not set up as it must be: a start would be refused"),
}


def level_of(fact: Fact | ServiceFact) -> int:
    """The level of this fact's line; cheap, because it is asked for every fact before anything is built."""
    match fact:
        case AttemptEnded() if fact.failure is not None:
            return ERROR if fact.decision == "park" else WARNING
        case AttemptLogged():
            return _AUTHOR_LEVELS.get(fact.level, INFO)
        case EventProcessed() if fact.outcome == "failed":
            return WARNING
        case RunRested() if fact.failure is not None:
            return ERROR if fact.status == "suspended" else WARNING
        case ProcessStarted() if fact.restart:
            return INFO
        case ProcessEnded() if _went_well(fact):
            return DEBUG
        case ProcessEnded() if fact.reason:
            return ERROR
        case HealthChanged() if fact.after != "degraded":
            return ERROR if fact.after == "unhealthy" else INFO
        case _:
            return _CATALOGUE[type(fact)][0]


def line_of(fact: Fact | ServiceFact) -> tuple[str, dict[str, Any]]:
    """The words and the fields of this fact's line; fields keep the fact's own names, empty ones are left out."""
    words = _CATALOGUE[type(fact)][1]
    match fact:
        case AttemptLogged():
            own = {"worker": fact.worker, "run": fact.run, "action": fact.action, "attempt": fact.attempt}
            return fact.message, {**fact.fields, **own}
        case MetricsReported():
            return words, dict(fact.numbers)
        case StoreLost():
            return f"{words}: {fact.reason}", {"worker": fact.worker, "since_ms": fact.since_ms}
        case RunStuck():
            where = fact.stack.rstrip()
            return words, {"worker": fact.worker, "run": fact.run, "for_ms": fact.for_ms, "exception": where}
        case RunRested():
            words = f"run {fact.status}"
        case AttemptEnded() if fact.failure is not None:
            words = "attempt failed"
        case ProcessEnded() if _went_well(fact):
            words = "worker process ended"
        case ProcessStarted() if fact.restart:
            words = "worker process restarted"
        case _:
            pass
    return words, _fields_of(fact)


def _went_well(fact: ProcessEnded) -> bool:
    """A worker that is told to drain before it has a handler for SIGTERM dies of it, and has nothing to hand back."""
    return fact.planned and fact.code in (0, -15)


def _fields_of(fact: Fact | ServiceFact) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for each in fields(fact):
        value = getattr(fact, each.name)
        if isinstance(value, Failure):
            line |= {"error": str(value)[:500], "kind": value.kind.value}
            if level_of(fact) >= ERROR and value.traceback:
                line["exception"] = value.traceback.rstrip()
        elif isinstance(value, float):
            line[each.name] = round(value, 1)
        elif value not in ("", None, ()) and not (value == 0 and each.name.endswith("_in_ms")):
            line[each.name] = value
    return line
