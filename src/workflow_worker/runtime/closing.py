"""Ending a run in memory: under a dead loop, explicitly, never by dropping references.

A suspended run is a cycle of references. Left to the collector, its ``finally`` blocks would run at a random time while
another run is on the loop, and what they ask for would land in that run's history.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable, Coroutine
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import FrameType
from typing import Any, cast

from workflow_worker.runtime.futures import NumberedTask
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.nesting import enter, leave

_TRIES = 3
_DEEPEST = 1_000
_MAY_BE_SUSPENDED = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
"""Kinds of code whose frame may have caught the error and gone on; clearing would close it (up to Python 3.12)."""
_MARK_CANCELLED: Callable[[asyncio.Future[Any]], bool] = cast("Any", asyncio.Future).cancel


class Graveyard:
    """Coroutines that refused to end. Kept for ever: collected, they would run again on some other run's loop."""

    def __init__(self) -> None:
        self._buried: list[object] = []

    @property
    def count(self) -> int:
        """How many there are; a worker reports it in its health."""
        return len(self._buried)

    def bury(self, undead: object) -> None:
        """Keep one that would not end, beyond the end of this object and of the interpreter.

        A reference is leaked on purpose: collected at exit, the code would go on outside every run, where a call of an
        action is a plain call with real effects, and might never stop.
        """
        self._buried.append(undead)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(undead))


def close_loop(loop: Loop, graveyard: Graveyard) -> None:
    """Close every coroutine of a run, newest first, without a turn of its loop and without effect outside it.

    Synchronous ``finally`` code still runs; nothing can avoid that. Commands, timers and tasks that it asks for raise
    `Evicted`.
    """
    loop.dead = True
    if not (loop.has_tasks or loop.unfinished or loop.ledger.pending):
        loop.ledger.clear()
        loop.silence()
        return
    outer = enter(loop, loop.finalize)
    try:
        for task in reversed(loop.live_tasks()):
            _close_task(task, graveyard)
        for generator in list(loop.unfinished):
            loop.finalize(generator)
        for step in list(loop.ledger.pending.values()):
            step.cancel()
        loop.ledger.clear()
        loop.silence()
    finally:
        leave(outer)


def _close_task(task: NumberedTask[Any], graveyard: Graveyard) -> None:
    task._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage] - no public way
    coroutine = cast("Coroutine[Any, Any, Any]", task.get_coro())
    if not _ended(coroutine, task):
        graveyard.bury(task)
        return
    # The future that it waited for holds the task, the task holds that future: marking both cancelled (callbacks are
    # dropped by the dead loop) leaves no cycle to the collector.
    waited_for: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    if waited_for is not None and not isinstance(waited_for, asyncio.Task):
        waited_for.cancel()  # a gather passes it on to its children
    for future in (waited_for, task):
        if future is not None:
            _MARK_CANCELLED(future)


def _ended(coroutine: Coroutine[Any, Any, Any], task: NumberedTask[Any]) -> bool:
    frames = _frames_of(coroutine)
    for _ in range(_TRIES):
        try:
            # In the task's own context: resetting a context variable in a `finally` fails in any other.
            task.context.run(coroutine.close)
        except BaseException as error:  # noqa: BLE001 - it ignored GeneratorExit, or this is the code's own error on its
            _forget(error)  # way out; the run is gone, so nobody can be told, and closing again tells which it was
            continue
        break
    ended = getattr(coroutine, "cr_frame", None) is None
    if not ended:
        frames.clear()
    while frames:  # emptied, because each holds this very frame now, by its ``f_back``
        _clear(frames.pop())
    return ended


def _frames_of(awaitable: Any) -> list[FrameType]:
    """The frames of a suspended chain of coroutines and generators."""
    found: list[FrameType] = []
    while awaitable is not None and len(found) < _DEEPEST:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        if frame is not None:
            found.append(frame)
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
    return found


def _forget(error: BaseException) -> None:
    """Clear the frames that an error came through.

    An error kept in a variable holds its frame, which holds the variable and, by ``f_back``, all frames of ours below.
    """
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        found = errors.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        errors += [found.__context__, found.__cause__]
        link = found.__traceback__
        while link is not None:
            if not link.tb_frame.f_code.co_flags & _MAY_BE_SUSPENDED:
                _clear(link.tb_frame)
            link = link.tb_next
        found.__traceback__ = None


def _clear(frame: FrameType) -> None:
    with contextlib.suppress(RuntimeError):  # it runs
        frame.clear()
