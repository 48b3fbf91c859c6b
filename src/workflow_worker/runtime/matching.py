"""Compares a record with the step at its number, and says readably where history and code part."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

from workflow_worker.model.exceptions import NonDeterminism
from workflow_worker.model.record import ActionCompleted, ActionParked, ActionRaised, AttemptFailed, TimerFired
from workflow_worker.runtime.futures import Call, Timer
from workflow_worker.runtime.ledger import Ledger, Step
from workflow_worker.runtime.places import show

ActionRecord = ActionCompleted | ActionRaised | AttemptFailed | ActionParked


def call_at(record: ActionRecord, ledger: Ledger) -> Call[Any] | None:
    """The pending call that the record is about; None if the code gave that call up, which is normal.

    Raises:
        NonDeterminism: The code makes no such call at this number.
    """
    found: Any = ledger.pending.get(record.number)
    if _is_call(found) and found.name == record.name and found.checksum == record.checksum:
        return found
    gone = ledger.gone.get(record.number)
    if type(gone) is Call and gone.name == record.name and gone.checksum == record.checksum:
        return None
    raise NonDeterminism(_difference(record, ledger.pending.get(record.number) or gone))


def timer_at(record: TimerFired, ledger: Ledger) -> Timer | None:
    """The pending timer that the record is about; None if the code gave it up.

    Its due time is not compared: a changed duration moves no step, and the order of what happened is in the history.

    Raises:
        NonDeterminism: The code starts no timer at this number.
    """
    step = ledger.pending.get(record.number)
    if type(step) is Timer:
        return step
    gone = ledger.gone.get(record.number)
    if type(gone) is Timer:
        return None
    raise NonDeterminism(_difference(record, step or gone))


def _is_call(step: object) -> TypeGuard[Call[Any]]:
    return type(step) is Call


def _difference(record: ActionRecord | TimerFired, step: Step | None) -> str:
    number = record.number
    had = f"a timer (#{number})" if isinstance(record, TimerFired) else f"action '{record.name}' (#{number})"
    if step is None:
        return f"history has {had}, code has no step #{number} waiting for it"
    if isinstance(step, Timer):
        return f"history has {had}, code now starts a timer (#{number}) at {show(step.place)}"
    call = cast("Call[Any]", step)
    if not isinstance(record, TimerFired) and call.name == record.name:
        return f"history has {had}, code now calls it with other arguments at {show(call.place)}"
    return f"history has {had}, code now calls {call} at {show(call.place)}"
