"""Where a run stands, in words: what it waits for, and what a person can do about it. Pure: view and records in, text
out; the web's and the command line's `runs show` say the same."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workflow_worker.client.timeline import span
from workflow_worker.model.failure import Failure
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.record import ActionParked, AttemptFailed, Record, RunResumed, RunSuspended, decode_record
from workflow_worker.model.run import RunStatus, RunView

_READY, _PARKED = "ready", "parked"
"""What stands for the owner where it is no session."""


def standing(run: RunView, history: Sequence[bytes], now_ms: int) -> list[str]:
    """Lines for a person; none for a run that has ended.

    Args:
        run: The run.
        history: Its encoded records, oldest first.
        now_ms: The present instant, by a clock that agrees with the server's.
    """
    if run.status.ended:
        return []
    if run.status is RunStatus.SUSPENDED:
        return _suspended(run, history)
    if run.owner == _READY:
        return ["has work to do and waits for a free worker"]
    if run.owner == _PARKED:
        return [f"was handed back because its worker had trouble, and continues {_when(run.wake, now_ms)}"]
    if run.owner:
        return ["is being executed"]
    return _waiting(run, history, now_ms)


def _waiting(run: RunView, history: Sequence[bytes], now_ms: int) -> list[str]:
    found: list[str] = []
    if run.wake is not None:
        retry = _retry(history, run.wake)
        what = "a timer" if retry is None else f"the next attempt of {retry.name} (step {retry.number})"
        if retry is not None and retry.recovery is not None:
            what = f"{retry.recovery.action}, which is to recover {retry.name} (step {retry.number})"
        found.append(f"waits for {what}, due {_when(run.wake, now_ms)}")
    found += [f"waits for {kind} about {subject}" for kind, subject in run.waits]
    about = f"about {run.subject}" if run.subject else "addressed to it"
    if not found:
        found.append(f"waits for an event {about} (its code says which)")
    elif not run.waits:
        found.append(f"or for an event {about}, if its code waits for one")
    return found


def _suspended(run: RunView, history: Sequence[bytes]) -> list[str]:
    resume, cancel = f"workflow-worker runs resume {run.id}", f"workflow-worker runs cancel {run.id}"
    parked, last = _since_resume(history)
    if last is None and parked:
        steps = ", ".join(f"step {each.number} ({each.name})" for each in parked)
        reasons = ", ".join(dict.fromkeys(each.reason for each in parked if each.reason))
        return [
            f"needs a person{reasons and f' ({reasons})'}: {steps} failed for good. Fix the cause, then",
            f"{resume}    tries the failed step again; earlier steps are not repeated",
            f"{cancel}    ends it instead; it may clean up first",
        ]
    kind = (last.type if last is not None else _shown_error(run)).rpartition(".")[2]
    if kind == "NonDeterminism":
        why = "its code no longer fits its history. Start code that does (see wf.patched and version=), then"
    elif kind == "poison":
        why = "its workers died again and again (MAX_TAKEOVERS). Look for the cause in the log, fix it, then"
    else:
        why = "its own code raised an error. Fix the code and start it, then"
    return [
        f"needs a person: {why}",
        f"{resume}    replays its history and continues; no recorded step is repeated",
        f"{cancel}    ends it instead",
    ]


def _since_resume(history: Sequence[bytes]) -> tuple[list[ActionParked], Failure | None]:
    """Steps that failed for good since the run was last resumed, and what suspended it as a whole."""
    parked: list[ActionParked] = []
    for record in _newest_first(history):
        if isinstance(record, RunSuspended):
            return parked, record.failure
        if isinstance(record, RunResumed):
            break
        if isinstance(record, ActionParked):
            parked.append(record)
    return parked[::-1], None


def _shown_error(run: RunView) -> str:
    try:
        return msgspec.msgpack.decode(run.error, type=Failure).type if run.error else ""
    except msgspec.DecodeError:
        return ""


def _retry(history: Sequence[bytes], due: int) -> AttemptFailed | None:
    for record in _newest_first(history):
        if isinstance(record, AttemptFailed) and record.due == due:
            return record
    return None


def _newest_first(history: Sequence[bytes]) -> list[Record]:
    found: list[Record] = []
    for raw in reversed(history):
        try:
            found.append(decode_record(raw))
        except msgspec.DecodeError:
            continue  # of a newer release: the timeline shows it as such
    return found


def _when(at_ms: int | None, now_ms: int) -> str:
    if at_ms is None:
        return "soon"
    if at_ms > now_ms:
        return f"{iso_ms(at_ms)} (in {span(at_ms - now_ms)})"
    late = now_ms - at_ms
    return f"{iso_ms(at_ms)} ({span(late)} ago: {'now' if late < 5_000 else 'is a service running?'})"
