"""asyncio's functions that take other steps from one Python to the next, in one form, on our loop only.

A history is read by whatever Python the worker runs on, so the same code must ask for the same steps on all of them.
These places of asyncio differ between 3.11 and 3.14 (read in CPython's ``Lib/asyncio`` and measured with the random
programs of the tests):

- ``wait_for`` was rewritten in 3.12: no task of its own, one timer.
- ``gather`` takes futures that are done already into account at once since 3.12, a turn of the loop later before.
- ``Semaphore`` and ``Condition`` wake waiters in another order, and after a cancel others, since 3.13.
- ``TaskGroup`` and ``timeout`` treat a cancel from outside that meets their own in three different ways.

For the first three we take the later form. For the task group we have our own: the cancel from outside is delivered
again at the next ``await`` after the group, on every version; it is never lost (as before 3.13), and a function that
returns without another ``await`` keeps its result (other than since 3.13).

``all_tasks`` is exchanged too, because the order of what it returns depends on the other runs of the process.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import functools
import inspect
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from types import FunctionType, TracebackType
from typing import Any, TypeVar, cast

from workflow_worker.runtime.futures import NumberedTask
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.nesting import running
from workflow_worker.runtime.ordered_set import OrderedSet

T = TypeVar("T")
_MARK = "_workflow_worker_parity"


def install() -> None:
    """Exchange the functions; once per process, repeating it does nothing."""
    namespace = asyncio.tasks.__dict__
    if _MARK in namespace:
        return
    namespace[_MARK] = True
    # Functions may have been imported by name before us, so their code is exchanged; methods are looked up when called.
    if sys.version_info < (3, 12):
        _exchange(asyncio.wait_for, _wait_for_elsewhere, "_workflow_worker_wait_for", _wait_for)
        _exchange(asyncio.gather, _gather_elsewhere, "_workflow_worker_gather", _gather)
    if sys.version_info < (3, 13):
        _override(asyncio.Semaphore, "acquire", _acquire)
        _override(asyncio.Condition, "wait", _wait_for_notice)
        _override(asyncio.Timeout, "__aexit__", _leave_timeout)
    if isinstance(asyncio.all_tasks, FunctionType):
        _exchange(asyncio.all_tasks, _all_tasks_elsewhere, "_workflow_worker_all_tasks", _all_tasks)
    else:  # written in C from Python 3.14 on
        asyncio.all_tasks = asyncio.tasks.all_tasks = functools.partial(_choose, _all_tasks, asyncio.all_tasks)
    _override(asyncio.TaskGroup, "create_task", _create_in_group)
    _override(asyncio.TaskGroup, "__aexit__", _leave_group)


def _override(owner: type, name: str, ours: Callable[..., Any]) -> None:
    stock: Callable[..., Any] = getattr(owner, name)
    if inspect.iscoroutinefunction(stock):

        @functools.wraps(stock)
        async def waiting(self: Any, *args: Any, **options: Any) -> Any:
            return await (ours if type(running()) is Loop else stock)(self, *args, **options)

        setattr(owner, name, waiting)
        return

    @functools.wraps(stock)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return (ours if type(running()) is Loop else stock)(self, *args, **options)

    setattr(owner, name, method)


def _exchange(function: Any, elsewhere: Any, name: str, ours: Callable[..., Any]) -> None:
    """Give `function` the code of `elsewhere`, which calls the global `name` of the module of `function`."""
    stock = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    stock.__kwdefaults__ = function.__kwdefaults__

    function.__globals__[name] = functools.partial(_choose, ours, stock)
    function.__code__ = elsewhere.__code__


def _choose(ours: Callable[..., Any], stock: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
    return ours(stock, *args, **options) if type(running()) is Loop else stock(*args, **options)


def _workflow_worker_wait_for(fut: Any, timeout: Any) -> Awaitable[Any]:
    raise NotImplementedError  # the name means something only inside asyncio, where `_exchange` sets it


def _workflow_worker_gather(*coros_or_futures: Any, return_exceptions: bool = False) -> Any:
    raise NotImplementedError  # likewise


def _workflow_worker_all_tasks(loop: Any = None) -> Any:
    raise NotImplementedError  # likewise


def _all_tasks_elsewhere(loop: Any = None) -> Any:
    return _workflow_worker_all_tasks(loop)


async def _wait_for_elsewhere(fut: Any, timeout: Any) -> Any:
    return await _workflow_worker_wait_for(fut, timeout)


def _gather_elsewhere(*coros_or_futures: Any, return_exceptions: bool = False) -> Any:
    return _workflow_worker_gather(*coros_or_futures, return_exceptions=return_exceptions)


async def _wait_for(_stock: object, fut: Awaitable[T], timeout: float | None) -> T:
    if timeout is not None and timeout <= 0:
        task = asyncio.ensure_future(fut)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        try:
            return task.result()
        except asyncio.CancelledError as error:
            raise TimeoutError from error
    async with asyncio.timeout(timeout):
        return await fut


def _gather(stock: Callable[..., Any], *awaitables: Any, return_exceptions: bool) -> Any:
    """The stock `gather`; then what it puts off for futures that are done is done at once, in order."""
    loop = cast("Loop", running())
    since = loop.ready_count
    outer = stock(*awaitables, return_exceptions=return_exceptions)
    done: list[Any] = [item for item in awaitables if isinstance(item, asyncio.Future) and cast("Any", item).done()]
    if done:
        loop.advance(since, done)
    return outer


def _all_tasks(stock: Callable[..., Any], loop: asyncio.AbstractEventLoop | None = None) -> Any:
    """The run's tasks in order of creation; asyncio goes through the tasks of all runs, in the order of chance."""
    asked = running() if loop is None else loop
    return OrderedSet(asked.live_tasks()) if type(asked) is Loop else stock(loop)


async def _acquire(self: Any) -> bool:
    """`Semaphore.acquire`: whoever leaves the queue of waiters, however, wakes as many as there is room for."""
    if not self.locked():
        self._value -= 1
        return True
    waiters: deque[asyncio.Future[bool]] = deque() if self._waiters is None else self._waiters
    self._waiters = waiters
    turn: asyncio.Future[bool] = self._get_loop().create_future()
    waiters.append(turn)
    try:
        try:
            await turn
        finally:
            waiters.remove(turn)
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled():
            self._value += 1  # it had been our turn; somebody else takes it
        raise
    finally:
        for waiter in waiters:
            if self._value <= 0:
                break
            if not waiter.done():
                self._value -= 1
                waiter.set_result(True)
    return True


async def _wait_for_notice(self: Any) -> bool:
    """`Condition.wait`: a notice that reaches a waiter which is being cancelled goes on to another."""
    if not self.locked():
        raise RuntimeError("cannot wait on un-acquired lock")
    notice: asyncio.Future[bool] = self._get_loop().create_future()
    self.release()
    try:
        try:
            self._waiters.append(notice)
            try:
                await notice
            finally:
                self._waiters.remove(notice)
        finally:
            await _acquire_at_any_rate(self)
    except BaseException:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(False)
                break
        raise
    return True


async def _acquire_at_any_rate(condition: Any) -> None:
    """The caller of ``wait`` holds the lock afterwards, also when it is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            await condition.acquire()
            break
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            cancelled = None  # the error's traceback holds this frame


async def _leave_timeout(
    self: Any, cls: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
) -> None:
    state = cast("Any", type(self._state))
    if self._timeout_handler is not None:
        self._timeout_handler.cancel()
        self._timeout_handler = None
    if self._state is state.ENTERED:
        self._state = state.EXITED
    elif self._state is state.EXPIRING:
        self._state = state.EXPIRED
        if self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error


def _create_in_group(
    self: Any, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
) -> asyncio.Task[Any]:
    """`TaskGroup.create_task`: what is done already (one of our calls) counts a turn later, like everything else."""
    obstacle = ""
    if not self._entered:
        obstacle = "has not been entered"
    elif self._exiting and not self._tasks:
        obstacle = "is finished"
    elif self._aborting:
        obstacle = "is shutting down"
    if obstacle:
        close = getattr(coro, "close", None)
        if close is not None:
            close()
        raise RuntimeError(f"TaskGroup {self!r} {obstacle}")
    task: asyncio.Task[Any] = self._loop.create_task(coro, name=name, context=context)
    self._tasks.add(task)
    task.add_done_callback(self._on_task_done)
    return task


async def _leave_group(
    self: Any, cls: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
) -> None:
    self._exiting = True
    if error is not None and self._base_error is None and self._is_base_error(error):
        self._base_error = error
    cancelled = error if isinstance(error, asyncio.CancelledError) else None
    if error is not None and not self._aborting:
        self._abort()
    while self._tasks:
        self._on_completed_fut = self._loop.create_future()
        try:
            await self._on_completed_fut
        except asyncio.CancelledError as late:
            if not self._aborting:
                cancelled = late
                self._abort()
        self._on_completed_fut = None
    if self._base_error is not None:
        raise self._base_error
    parent: asyncio.Task[Any] = self._parent_task
    if self._parent_cancel_requested and parent.uncancel() == 0:
        cancelled = None  # it was the group's own doing
    if cancelled is not None and not self._errors:
        raise cancelled
    if error is not None and not isinstance(error, asyncio.CancelledError):
        self._errors.append(error)
    if self._errors:
        if parent.cancelling():
            cast("NumberedTask[Any]", parent).cancel_again()
        try:
            raise BaseExceptionGroup("unhandled errors in a TaskGroup", self._errors) from None
        finally:
            self._errors = []
