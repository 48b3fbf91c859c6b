"""The author's module, ``from workflow_worker import wf``: what a workflow can ask of its run besides plain asyncio.

Every function works only inside a run and raises `UsageError` elsewhere, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from random import Random
from types import UnionType
from typing import Any, TypeVar, cast, get_args, overload
from uuid import UUID

from workflow_worker.model.exceptions import ActionCancelled, ActionFailed, ActionTimeout, Failed, UsageError
from workflow_worker.model.instants import from_ms
from workflow_worker.runtime.context import RunInfo
from workflow_worker.runtime.execution import Execution, current_execution
from workflow_worker.runtime.waiting import MISSING

__all__ = [
    "ActionCancelled",
    "ActionFailed",
    "ActionTimeout",
    "Failed",
    "RunInfo",
    "info",
    "now",
    "random",
    "state",
    "time",
    "uuid4",
    "wait_for",
]

E = TypeVar("E")
D = TypeVar("D")


@overload
def wait_for(
    event: type[E] | tuple[type[E], ...], *, subject: str | None = None, timeout: float | timedelta | None = None
) -> Coroutine[Any, Any, E]: ...


@overload
def wait_for(
    event: type[E] | tuple[type[E], ...],
    *,
    subject: str | None = None,
    timeout: float | timedelta | None = None,
    default: D,
) -> Coroutine[Any, Any, E | D]: ...


def wait_for(
    event: Any, *, subject: str | None = None, timeout: float | timedelta | None = None, default: Any = MISSING
) -> Coroutine[Any, Any, Any]:
    """Wait for an event: the oldest that fits and that no other wait took, also if it came before.

    Args:
        event: A declared class, a tuple of them, or ``A | B``.
        subject: What the event must be about. Without it: what this run is about, or whatever was sent to this run.
        timeout: Seconds or a `timedelta`; zero or less only looks at what is there. Durable, like any timer.
        default: What to return when the time is over; without it `TimeoutError` is raised.

    Raises:
        UsageError: Called outside a run, or with a class that is not declared.
        TimeoutError: The time is over and there is no default.
        EventRejected: The event no longer fits its class.
    """
    execution = _here("wf.wait_for", "publish the event with a Client, or await its handle")
    classes = cast("tuple[Any, ...]", event if isinstance(event, tuple) else (event,))
    classes = tuple(part for found in classes for part in (get_args(found) if _is_union(found) else (found,)))
    for found in classes:
        if not isinstance(found, type):
            raise UsageError(f"wf.wait_for needs a declared event class, a tuple of them or A | B, not {found!r}")
    if not classes:
        raise UsageError("wf.wait_for needs at least one declared event class")
    return execution.wait_for(classes, subject, timeout, default)


def state(**fields: Any) -> None:
    """Publish fields of the run's state, merged into what it published before; readable without a worker.

    Raises:
        UsageError: Called outside a run.
    """
    _here("wf.state", "a run's state is read with Client or 'workflow-worker run show'").publish_state(fields)


def now() -> datetime:
    """The run's time, in UTC: when the fact that woke the code was recorded, not the clock of the machine.

    Raises:
        UsageError: Called outside a run.
    """
    return from_ms(_here("wf.now", "use datetime.now(UTC)").now_ms)


def time() -> float:
    """The run's time in seconds since 1970, see `now`.

    Raises:
        UsageError: Called outside a run.
    """
    return _here("wf.time", "use time.time()").now_ms / 1000


def uuid4() -> UUID:
    """An identifier that is the same in every replay.

    Raises:
        UsageError: Called outside a run.
    """
    return _here("wf.uuid4", "use uuid.uuid4()").chance.uuid4()


def random() -> Random:
    """A source of random numbers seeded by the run: ``wf.random().choice(...)``.

    Raises:
        UsageError: Called outside a run.
    """
    return _here("wf.random", "use the random module").chance.random()


def info() -> RunInfo:
    """Which run this is.

    Raises:
        UsageError: Called outside a run.
    """
    return _here("wf.info", "in an action, ask action.run for it").info()


def _is_union(found: Any) -> bool:
    return isinstance(found, UnionType) or (not isinstance(found, type) and bool(get_args(found)))


def _here(name: str, instead: str) -> Execution:
    execution = current_execution()
    if execution is None:
        raise UsageError(f"{name} works only inside a workflow; elsewhere {instead}")
    return execution
