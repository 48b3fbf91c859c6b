"""How a run ends, or stops, as its last commit tells it. Pure."""

from __future__ import annotations

from typing import assert_never

import msgspec

from workflow_worker.model.command import Cancelled, Complete, Fail, Restart, Suspend
from workflow_worker.model.failure import Failure
from workflow_worker.model.record import Record, RunCancelled, RunCompleted, RunFailed, RunSuspended
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import Mode


class Rejected(msgspec.Struct, frozen=True):
    """The start event does not fit its class: there is nothing to execute."""

    failure: Failure


Outcome = Complete | Fail | Cancelled | Restart | Suspend | Rejected
"""What a run comes to: its code's final command, or why there is no code to run."""


def ending_of(outcome: Outcome, at: int, unmatched: tuple[str, ...]) -> tuple[Mode, RunStatus, Record | None]:
    """What becomes of the lease and the status, and the record that says so; `unmatched` is the mail nobody took."""
    match outcome:
        case Complete(result=result):
            return Mode.END, RunStatus.COMPLETED, RunCompleted(at, result, unmatched)
        case Fail(failure=failure):
            return Mode.END, RunStatus.FAILED, RunFailed(at, failure, unmatched)
        case Cancelled():
            return Mode.END, RunStatus.CANCELLED, RunCancelled(at, unmatched)
        case Restart():
            return Mode.KEEP, RunStatus.RUNNING, None
        case Suspend(failure=failure):
            return Mode.RELEASE, RunStatus.SUSPENDED, RunSuspended(at, failure)
        case Rejected(failure=failure):
            return Mode.END, RunStatus.FAILED, RunFailed(at, failure)
        case _ as unreachable:
            assert_never(unreachable)


def failure_of(outcome: Outcome | None) -> Failure | None:
    """The error that the outcome tells of."""
    return outcome.failure if isinstance(outcome, Suspend | Fail | Rejected) else None
