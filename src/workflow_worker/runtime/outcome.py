"""How a run ends: what its function returned or raised, and the texts for a run that cannot go on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from workflow_worker.model.command import Cancelled, Complete, Fail, Restart, Suspend
from workflow_worker.model.exceptions import ContinueAsNew, Deadlock, Failed, NonDeterminism, RunTimeout
from workflow_worker.model.failure import ErrorKind, Failure, describe


def outcome_of(
    task: asyncio.Task[Any], encode: Callable[[Any], bytes], cancel_requested: bool = False, timed_out: bool = False
) -> Complete | Fail | Cancelled | Restart | Suspend:
    """The final command of a run whose workflow function is over."""
    try:
        return Complete(encode(task.result()))
    except ContinueAsNew as error:
        return Restart(error.data)
    except asyncio.CancelledError as error:
        if timed_out and not cancel_requested:
            late = RunTimeout("the run took longer than its workflow's time limit (timeout=)")
            return Fail(describe(late, ErrorKind.PERMANENT))
        return Cancelled() if cancel_requested else Suspend(describe(error, ErrorKind.PERMANENT))
    except BaseException as error:  # noqa: BLE001 - whatever leaves the author's function is the run's outcome
        failure = describe(error, ErrorKind.PERMANENT)
        return Fail(failure) if _is_failed(error) else Suspend(failure)


def deadlock(stack: Sequence[str]) -> Suspend:
    """The command of a run that nothing can wake."""
    error = Deadlock(
        f"the run waits for something that only its own code could do, and no code can run: {'; '.join(stack)}"
    )
    return Suspend(describe(error, ErrorKind.PERMANENT))


def mismatch(error: NonDeterminism, records: int, python: str, stack: Sequence[str]) -> Failure:
    """The failure of a run whose code does not fit its history: where, and which Python wrote the history.

    Args:
        error: The difference.
        records: How many records were read, with the one that does not fit.
        python: The version of Python in the history's first record; empty if unknown.
        stack: Where the code waits.
    """
    this_python = f"{sys.version_info.major}.{sys.version_info.minor}"
    written_by = ".".join(python.split(".")[:2])
    version = ""
    if written_by and written_by != this_python:
        version = f"; the history was written by Python {written_by}, this is {this_python}"
    waits = f"; the code waits at {'; '.join(stack)}" if stack else "; the workflow function has ended"
    found = NonDeterminism(f"at record {records}: {error}{waits}{version}")
    return msgspec.structs.replace(describe(found, ErrorKind.PERMANENT), traceback="\n".join(stack))


def _is_failed(error: BaseException) -> bool:
    """``wf.Failed``, also out of a task group where nothing else went wrong."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_is_failed(member) for member in group.exceptions)
    return isinstance(error, Failed)
