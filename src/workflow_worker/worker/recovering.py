"""Attempts of a recovery: what they are called, and what their errors mean for the step that needs it. Pure."""

from __future__ import annotations

import msgspec

from workflow_worker.errors.retry import ParkRun, Raise, RetryIn
from workflow_worker.model.command import StartAction
from workflow_worker.model.failure import ErrorKind, Failure
from workflow_worker.model.recovery import Recovery
from workflow_worker.worker.attempt import Ended


def as_seen(start: StartAction) -> StartAction:
    """The attempt as its body, logs and facts see it: that of a recovery under the recovery's own name and count."""
    recovery = start.recovery
    if recovery is None:
        return start
    return msgspec.structs.replace(start, name=recovery.action, attempts=recovery.attempts)


def of_recovery(ended: Ended, recovery: Recovery, failed: str) -> Ended:
    """A failed attempt of a recovery, with what follows for the action: the recovery again, or what its rule says.

    Its error tells what it was to put right, as ``raise … from`` would.
    """
    assert ended.failure is not None
    failure = _caused(ended.failure, recovery.error)
    if isinstance(ended.decision, RetryIn):
        again = msgspec.structs.replace(recovery, attempts=ended.attempt)
        return msgspec.structs.replace(ended, failure=failure, decision=RetryIn(ended.decision.delay_ms, again))
    # Its kind is that of the error before: a saga must not take a permanent one for "the action did not happen".
    failure = msgspec.structs.replace(
        failure, kind=ErrorKind.RECOVERABLE if recovery.error is None else recovery.error.kind
    )
    note = f"raised by {recovery.action}, which was to recover {failed}"
    if recovery.raises:
        failure = msgspec.structs.replace(failure, notes=(*failure.notes, note))
        return msgspec.structs.replace(ended, failure=failure, decision=Raise())
    text = f"recovery {recovery.action} of {failed} failed: {failure.message}"
    failure = msgspec.structs.replace(failure, message=text)
    return msgspec.structs.replace(ended, failure=failure, decision=ParkRun(recovery.reason))


def _caused(failure: Failure, cause: Failure | None) -> Failure:
    """Where the error has a cause of its own, that stays: it is nearer."""
    return failure if failure.cause is not None else msgspec.structs.replace(failure, cause=cause)
