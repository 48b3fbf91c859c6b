"""The commit of a run with more to write than records. Pure."""

from __future__ import annotations

import msgspec

from workflow_worker.model.command import Complete
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.failure import Failure
from workflow_worker.store.transitions import REJECT_START, Commit, Mode
from workflow_worker.worker.outcomes import Outcome, Rejected
from workflow_worker.worker.progress import Progress
from workflow_worker.worker.relations import notice_of_end

_failure_encoder = msgspec.msgpack.Encoder()


def with_the_rest(
    plain: Commit,
    progress: Progress,
    outcome: Outcome | None,
    *,
    failure: Failure | None,
    start: Event | None,
    wake: int | None,
    restart: Mail | None,
    began_at: int | None,
) -> Commit:
    """The same commit with what most do not have: mail taken, waits, events, state, how the run ended.

    Args:
        plain: The commit with its records.
        progress: What it writes.
        outcome: What the run came to, if it did.
        failure: The error that it stops with.
        start: Its start event: it says whose child the run is, who is told of its end.
        wake: When it is to go on, released.
        restart: The start event of the next history.
        began_at: The first instant of that.
    """
    result = outcome.result if isinstance(outcome, Complete) else None
    emits, rejects = tuple(progress.emits), tuple(progress.rejects)
    if plain.mode is Mode.END and start is not None and start.origin:
        emits += notice_of_end(plain.ref, start, plain.status, failure, result)
    if isinstance(outcome, Rejected):
        rejects = ((REJECT_START, outcome.failure.message), *rejects)
    # By position: the names of so many fields cost three times as much as the struct.
    return Commit(
        plain.ref,
        plain.session,
        plain.token,
        plain.base,
        plain.cid,
        plain.records,
        plain.status,
        plain.mode,
        progress.taken,
        progress.last_taken,
        rejects,
        progress.waits_that(begin=True),
        progress.waits_that(begin=False),
        emits,
        progress.state,
        result,
        None if failure is None else _failure_encoder.encode(failure),
        wake,
        plain.attempts,
        restart,
        began_at,
    )
