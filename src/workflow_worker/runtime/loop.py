"""`Loop`: a tiny deterministic event loop, one per run; what it cannot make durable it refuses by name.

It has no selector and no clock: its time is the time of the last record. asyncio's whole surface for tasks, timers,
locks, queues and groups touches only the methods defined here; every other method raises `UsageError`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeVar, cast

from workflow_worker.model.exceptions import Evicted, UsageError
from workflow_worker.runtime.futures import Call, NumberedFuture, NumberedTask, Ready, Timer
from workflow_worker.runtime.ledger import Ledger
from workflow_worker.runtime.nesting import enter, leave, running
from workflow_worker.runtime.places import here, show

T = TypeVar("T")

_COMPLAINTS_KEPT = 20
_LATEST_MS = 253_402_300_800_000  # the year 10000
_PRUNE_AT = 32
_WARNINGS_WHEN_DEAD = 3
_new_task: Callable[..., Any] = cast("Any", asyncio.Task).__new__
_init_task: Callable[..., None] = cast("Any", asyncio.Task).__init__


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one run.

    `owner` is the execution that drives it; `dead` is set while and after the run is destroyed in memory.
    """

    # As in `Execution`: what most runs never change, and seldom look at, stands here.
    owner: object | None
    complaints: Sequence[str] = ()
    unfinished: Sequence[Any] = ()
    """Async generators that were left outside a drain."""
    _prune_at = _PRUNE_AT
    _warned = 0

    def __init__(self, ledger: Ledger, now_ms: int, owner: object, base: int = 0) -> None:
        """Make a loop.

        Args:
            ledger: Numbers actions and timers.
            now_ms: The loop's time, milliseconds since 1970.
            owner: See the class.
            base: What the hashes of tasks count from, the same in every replay, and below 2**30 so that a 32-bit build
                orders them alike. asyncio keeps the tasks of all runs in one set: if they all counted from one, that
                set would be searched from end to end. A multiple of a power of two, so small sets keep their order.
        """
        self.ledger = ledger
        self.now_ms = now_ms
        self.owner = owner
        self.dead = False
        self._base = base
        self._numbered = 0
        self._ready: deque[Ready | Timer] = deque()
        self._tasks: list[NumberedTask[Any]] = []

    # what asyncio touches

    def time(self) -> float:
        """Seconds since 1970 at the last record."""
        return self.now_ms / 1000

    def get_debug(self) -> bool:
        """Never: asyncio's debug mode reads the clock."""
        return False

    def is_running(self) -> bool:
        """Always, as seen from inside."""
        return True

    def is_closed(self) -> bool:
        """Never, as seen from inside."""
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Ready:
        """Run a callback in this turn."""
        # An empty context is falsy: `context or copy_context()` would leak variables between tasks.
        handle = Ready(callback, args, copy_context() if context is None else context)
        if not self.dead:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        """Start a durable timer."""
        return self.call_at(self.now_ms / 1000 + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        """Start a durable timer that is due at this time of the loop.

        Raises:
            UsageError: The time is not finite or beyond the year 9999.
        """
        if self.dead:
            self.refuse()
        milliseconds = when * 1000
        if not -_LATEST_MS < milliseconds < _LATEST_MS:
            raise UsageError(f"a timer due at {when!r} never fires: wait for an event without a timeout instead")
        timer = Timer(
            round(milliseconds), callback, args, copy_context() if context is None else context, self.ledger, here()
        )
        self.ledger.add(timer)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """A future that hashes by number."""
        number = self.next_number()
        future: NumberedFuture[Any] = NumberedFuture(loop=self)
        future.number = number
        return future

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Start a coroutine as a task; a `Call` is returned as it is, since it runs already.

        Raises:
            UsageError: ``eager_start`` was asked for; it would number steps differently from one Python to the next.
        """
        if isinstance(coro, Call):
            return cast("asyncio.Task[T]", coro)
        if options and any(options.values()):
            _discard(coro)
            raise UsageError(f"create_task({', '.join(options)}) cannot be replayed: start the task without it")
        if self.dead:
            _discard(coro)
            self.refuse()
        self._numbered = number = self._numbered + 1
        context = copy_context() if context is None else context
        task: NumberedTask[T] = _new_task(NumberedTask)
        task.number = self._base + number
        task.context = context
        task.owed = False
        starter: Any = asyncio.current_task(self) if self._tasks else None
        task.parent = None if starter is None else (starter.get_name(), starter.parent)
        # asyncio's own default name counts all tasks of the process
        _init_task(task, coro, loop=self, name=name or f"task-{number}", context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = self.live_tasks()
            self._prune_at = 2 * len(self._tasks) + _PRUNE_AT
        return task

    def get_task_factory(self) -> None:
        """There is none, and none can be set."""
        return

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what asyncio complains about (an error nobody retrieved) for the worker's log."""
        if self.dead or len(self.complaints) >= _COMPLAINTS_KEPT:
            return
        subject = context.get("future") or context.get("task")
        named = getattr(subject, "get_name", None)
        place = f" at {show(getattr(subject, 'place', None))}" if hasattr(subject, "place") else ""
        name = named() if named is not None else ""
        error = context.get("exception")
        self.complaints = (*self.complaints, f"{context.get('message', '')}: {name}{place}: {error!r}")

    # what the execution and the closing use

    def drain(self) -> None:
        """Run until nothing is ready.

        asyncio's own handle hands every error to the exception handler; then a watchdog's interrupt or `SystemExit`
        would leave a run that never moves and reports nothing. Here they leave.
        """
        ready = self._ready
        take = ready.popleft
        while ready:
            handle = take()
            if not handle.dropped:
                callback: Any = handle.callback
                handle.context.run(callback, *handle.arguments)
        ledger = self.ledger
        ledger.reached = ledger.number

    @property
    def ready_count(self) -> int:
        """How many callbacks are ready."""
        return len(self._ready)

    def run_next(self, callback: Callable[[], object]) -> None:
        """Run a callback before everything else that is ready."""
        self._ready.appendleft(Ready(callback, (), copy_context()))

    def advance(self, since: int, futures: Sequence[asyncio.Future[Any]]) -> None:
        """Run at once, in order, what became ready since that count to tell somebody that one of these is done."""
        later = [self._ready.pop() for _ in range(len(self._ready) - since)]
        known = {id(future) for future in futures}
        hurried: list[Ready | Timer] = []
        for handle in reversed(later):
            (hurried if [id(part) in known for part in handle.arguments] == [True] else self._ready).append(handle)
        for handle in hurried:
            handle.context.run(cast("Any", handle.callback), *handle.arguments)

    def next_number(self) -> int:
        """The next number to hash by, for what is not a step."""
        self._numbered = number = self._numbered + 1
        return number

    def fire(self, timer: Timer) -> None:
        """A timer came due."""
        self._ready.append(timer)

    def live_tasks(self) -> list[NumberedTask[Any]]:
        """Tasks that are not done, in order of creation."""
        return [task for task in self._tasks if not task.done()]

    @property
    def has_tasks(self) -> bool:
        """Whether a task is not done."""
        for task in self._tasks:  # noqa: SIM110 - a generator would cost more than the look
            if not task.done():
                return True
        return False

    def refuse(self) -> None:
        """Answer code that goes on although its run is being destroyed.

        Code that swallows everything in a loop would spin on the error, so after three it gets none, and the caller
        returns something that never completes.

        Raises:
            Evicted: The first three times.
        """
        if self._warned < _WARNINGS_WHEN_DEAD:
            self._warned += 1
            raise Evicted("this run is being removed from memory; nothing that it does now has an effect")

    def finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        """End an async generator that was left, on this loop and at the same place in every replay.

        Outside a drain there is no such place: it is kept, and ended when the run is closed.
        """
        if self.dead:
            self._end_now(generator)
        elif running() is self:
            self.call_soon(self.create_task, generator.aclose())
        else:
            self.unfinished = (*self.unfinished, generator)

    def _end_now(self, generator: AsyncGenerator[Any, Any]) -> None:
        outer = enter(self, self.finalize)
        try:
            generator.aclose().send(None)
        except BaseException:  # noqa: BLE001, S110 - the run is gone; there is nobody left to tell
            pass
        finally:
            leave(outer)

    def silence(self) -> None:
        """Drop what is ready and every task, so that nothing is left for the collector."""
        self._ready.clear()
        self._tasks.clear()
        self.unfinished = ()
        self.owner = None


def _discard(coro: Any) -> None:
    close = getattr(coro, "close", None)
    if close is not None:
        close()


_ACTION = "do it in an action: @app.action async def ..., and await the action here"
_THREAD = "make it a plain 'def' under @app.action: it runs in a thread, and await it here"
_NESTED = "the workflow runs on a loop already: just await"
_INSTEAD = {
    "run_in_executor": _THREAD,
    "set_default_executor": _THREAD,
    "call_soon_threadsafe": "threads cannot reach into a workflow: return the value from an action, or send an event",
    "run_forever": _NESTED,
    "run_until_complete": _NESTED,
    "stop": "return from the workflow, or raise wf.Failed",
    "close": "return from the workflow, or raise wf.Failed",
    "shutdown_asyncgens": "async generators end by themselves",
    "shutdown_default_executor": _THREAD,
    "set_task_factory": "tasks must be numbered alike in every replay",
    "set_debug": "asyncio's debug mode reads the clock",
    "add_signal_handler": "to be interrupted, let the run be cancelled (asyncio.CancelledError), or wait for an event",
    "remove_signal_handler": "to be interrupted, let the run be cancelled, or wait for an event",
    "set_exception_handler": "catch the error where the task is awaited",
    "get_exception_handler": "catch the error where the task is awaited",
    "default_exception_handler": "catch the error where the task is awaited",
    "_timer_handle_cancelled": _NESTED,
}


def _refusal(name: str) -> Callable[..., Any]:
    advice = _INSTEAD.get(name, _ACTION)

    def refuse(self: Loop, *_args: Any, **_options: Any) -> Any:
        raise UsageError(f"{name} is not available inside a workflow, because it could not be replayed; {advice}")

    refuse.__name__ = name
    return refuse


for _name in dir(asyncio.AbstractEventLoop):
    if _name not in vars(Loop) and (not _name.startswith("_") or _name == "_timer_handle_cancelled"):
        setattr(Loop, _name, _refusal(_name))
