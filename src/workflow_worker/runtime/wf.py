"""The author's module, ``from workflow_worker import wf``: what a workflow can ask of its run besides plain asyncio.

Every function works only inside a run and raises `UsageError` elsewhere, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from random import Random
from types import UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, overload
from uuid import UUID

from workflow_worker.model.exceptions import (
    ActionCancelled,
    ActionFailed,
    ActionTimeout,
    ChildFailed,
    ContinueAsNew,
    Failed,
    RunTimeout,
    UsageError,
)
from workflow_worker.model.ids import split_run_ref
from workflow_worker.model.instants import from_ms, to_ms
from workflow_worker.runtime.children import ChildHandle, Startable
from workflow_worker.runtime.context import RunInfo
from workflow_worker.runtime.execution import Execution, current_execution
from workflow_worker.runtime.locks import Lock
from workflow_worker.runtime.saga import Saga
from workflow_worker.runtime.ticks import Tick
from workflow_worker.runtime.updates import Handler, Validator
from workflow_worker.runtime.waiting import MISSING

__all__ = [
    "ActionCancelled",
    "ActionFailed",
    "ActionTimeout",
    "ChildFailed",
    "ChildHandle",
    "Failed",
    "RunInfo",
    "RunTimeout",
    "Tick",
    "continue_as_new",
    "emit",
    "info",
    "lock",
    "now",
    "on_update",
    "patched",
    "random",
    "saga",
    "signal",
    "start",
    "state",
    "time",
    "uuid4",
    "wait_for",
]

E = TypeVar("E")
D = TypeVar("D")
R = TypeVar("R")


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


@overload
def wait_for(
    event: UnionType, *, subject: str | None = None, timeout: float | timedelta | None = None, default: Any = ...
) -> Coroutine[Any, Any, Any]: ...


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


def saga() -> Saga:
    """``async with wf.saga():`` undo, last first, what the block did when it fails or is cancelled.

    Undone is every call of an action with a ``@….compensation`` made in the block or in tasks started there, unless it
    is known that nothing happened (a permanent error, or the action never began). The compensations run one after the
    other, each after its action has ended, and no cancel stops them; one that fails for good suspends the run, and a
    resume tries it again. A block inside another that went well is undone with the outer one.

    Raises:
        UsageError: Called outside a run.
    """
    return Saga(_here("wf.saga", "there is nothing to undo"))


def emit(event: object, *, subject: str | None = None, delay: float | timedelta | None = None) -> None:
    """Publish a follow-up event once, however often the code is replayed: with the commit of what led to it.

    Args:
        event: An object of a declared class, or an `Event`.
        subject: What it is about, where the class does not say or says otherwise.
        delay: Hold it back for so long, in seconds or as a `timedelta`.

    Raises:
        UsageError: Called outside a run, or with a class that is not declared.
    """
    execution = _here("wf.emit", "publish the event with a Client")
    delay_ms = 0 if delay is None else max(0, to_ms(delay))
    execution.letters.outbox.post(execution.events.outgoing(event, subject), delay_ms=delay_ms)


def signal(run: ChildHandle[Any] | str, event: object, *, subject: str | None = None) -> None:
    """Send an event to one run alone (``"<workflow>:<id>"``, or a child); it becomes a dead letter if there is none.

    Raises:
        UsageError: Called outside a run, with a class that is not declared, or the run's name cannot be read.
    """
    execution = _here("wf.signal", "send the event with a Client")
    workflow, run_id = split_run_ref(run if isinstance(run, str) else run.ref)
    execution.letters.outbox.post(execution.events.outgoing(event, subject), workflow=workflow, run=run_id)


def start(
    workflow: Startable[R],
    *args: Any,
    id: str | None = None,
    subject: str | None = None,
    detach: bool = False,
    **kwargs: Any,
) -> ChildHandle[R]:
    """Start a child run now; the handle can be awaited, or not. ``await child(…)`` does both in one.

    Args:
        workflow: The function under ``@app.workflow``.
        args: Its event, or its arguments if it has no ``on=``.
        id: The child's id; by default one made from this run's. One under way already makes the child fail.
        subject: What the child is about; by default what its event is about.
        detach: The child goes on when this run ends; otherwise it is cancelled then.
        kwargs: More of its arguments.

    Raises:
        UsageError: Called outside a run, or the arguments do not fit.
    """
    children = _here("wf.start", "start a run with a Client").letters.children
    return ChildHandle(children.start(workflow, args, kwargs, id=id, subject=subject, detached=detach))


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this history and begin another of the same run, with another event (or other arguments).

    Events that nobody took come along; published state, id and subject stay; what the code left running is cancelled.
    For runs that live long: see ``wf.info().records``.

    Raises:
        UsageError: Called outside a run, or the arguments do not fit.
    """
    workflow = _here("wf.continue_as_new", "call the function").workflow
    if workflow is None:
        raise UsageError("wf.continue_as_new works in a workflow declared with @app.workflow")
    raise ContinueAsNew(workflow.encode_input(args, kwargs)[0])


def lock(key: str, *, limit: int = 1) -> Lock:
    """``async with wf.lock("sku-1"):`` at most `limit` runs of this namespace are in the block at a time.

    Served in the order of asking; waiting holds no worker. Given back when the block is left and when the run ends; a
    suspended run keeps it. All who use one name should give the same limit. A run that asks again for what it holds
    waits for itself.

    Raises:
        UsageError: Called outside a run, or name or limit is not usable.
    """
    return _here("wf.lock", "let the resource refuse an old fencing token").letters.locks.make(key, limit)


def patched(patch: str) -> bool:
    """Whether this run takes the changed way: ``if wf.patched("ask-for-review"):``.

    True where the code runs for the first time, and noted then; False in a run whose history went by here before the
    change. A run keeps its first answer. When no run without the note is left, the test can go.

    Raises:
        UsageError: Called outside a run.
    """
    return _here("wf.patched", "the code is always the newest").patched(patch)


def on_update(event: type[E], handler: Handler, *, validate: Validator | None = None) -> None:
    """Answer requests of this class from here on; those that came before are answered now, oldest first.

    Args:
        event: The declared class of the request.
        handler: An ``async def`` that takes it and returns the reply; often a closure over the workflow's variables.
        validate: Raises, with the reason, if a request is not to be accepted; the handler is not called then.

    Raises:
        UsageError: Called outside a run, or with a class that is not declared.
    """
    _here("wf.on_update", "use @….update").published.updates.on(event, handler, validate)


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
