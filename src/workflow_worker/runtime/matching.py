"""Compares a record with the step at its number, and says readably where history and code part."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

from workflow_worker.model.exceptions import NonDeterminism
from workflow_worker.model.record import (
    ActionCompleted,
    ActionParked,
    ActionRaised,
    AttemptFailed,
    Record,
    TimerFired,
)
from workflow_worker.runtime.futures import Call, NumberedTask, Timer
from workflow_worker.runtime.ledger import Ledger, Step
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.places import show

ActionRecord = ActionCompleted | ActionRaised | AttemptFailed | ActionParked
StepRecord = ActionRecord | TimerFired


def settle(record: StepRecord, loop: Loop) -> None:
    """Deliver a record to the step that it is about.

    Raises:
        NonDeterminism: The code has no such step at this number.
    """
    ledger = loop.ledger
    if isinstance(record, TimerFired):
        timer = timer_at(record, ledger)
        if timer is not None:
            del ledger.pending[record.number]
            loop.fire(timer)
        return
    call = call_at(record, ledger)
    if call is None:
        return
    match record:
        case ActionCompleted():
            del ledger.pending[record.number]
            call.complete(record.result)
        case ActionRaised():
            del ledger.pending[record.number]
            call.fail(record.failure)
        case AttemptFailed():
            call.attempts, call.due = record.attempt, record.due
            ledger.recover(record.number, record.recovery and record.recovery.about(record.failure))
        case ActionParked():
            call.park(record.failure, record.attempts)
            ledger.recover(record.number, None)


def check(record: Record, ledger: Ledger) -> None:
    """Compare a record, behind the end of the code, with the steps that the code had made.

    Raises:
        NonDeterminism: It has made no such step.
    """
    match record:
        case ActionCompleted() | ActionRaised() | AttemptFailed() | ActionParked():
            call_at(record, ledger)
        case TimerFired() if record.number:
            timer_at(record, ledger)
        case _:
            pass


def call_at(record: ActionRecord, ledger: Ledger) -> Call[Any] | None:
    """The pending call that the record is about; None if the code gave that call up, which is normal.

    Raises:
        NonDeterminism: The code makes no such call at this number.
    """
    found: Any = ledger.pending.get(record.number)
    if _is_call(found) and found.name == record.name and found.checksum == record.checksum:
        return found
    gone = ledger.gone.get(record.number)
    if _is_call(gone) and gone.name == record.name and gone.checksum == record.checksum:
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
    return isinstance(step, Call)


def _difference(record: ActionRecord | TimerFired, step: Step | None) -> str:
    number = record.number
    had = f"a timer (#{number})" if isinstance(record, TimerFired) else f"action '{record.name}' (#{number})"
    if step is None:
        return f"history has {had}, code has no step #{number} waiting for it"
    if isinstance(step, Timer):
        return f"history has {had}, code now starts a timer (#{number}) at {show(step.place)}"
    if not _is_call(step):
        return f"history has {had}, code now has {step} at {show(step.place)}"
    where = f"{show(step.place)}{_scope(step)}"
    if not isinstance(record, TimerFired) and step.name == record.name:
        return f"history has {had}, code now calls it with other arguments at {where}"
    return f"history has {had}, code now calls {step} at {where}"


def _scope(call: Call[Any]) -> str:
    """The task that awaits a call, with those that started it: ``, in main/task-2``."""
    tasks: list[NumberedTask[Any]] = cast("Any", call.get_loop()).live_tasks()
    for task in tasks:
        if getattr(task, "_fut_waiter", None) is call:
            return f", in {task.path}"
    return ""
