"""`VirtualLoop`: an asyncio loop with virtual time, on which several simulated processes live.

Every callback belongs to a *host*, found in its context. A host keeps asyncio's promise (its callbacks run in the order
in which they became ready); which host goes on next is drawn from the seed. So each schedule is one that separate
processes could have had. A dead host's callbacks never run again; a paused one's wait, and its timers come late.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_SAME_INSTANT_LIMIT = 50_000


class Stuck(Exception):
    """Nothing will ever happen again, or time does not go on."""


class Host:
    """One simulated process."""

    def __init__(self, name: str, session_prefix: str = "nobody") -> None:
        self.name = name
        self.session_prefix = session_prefix
        self.dead = False
        self.paused_until = 0.0
        self.cut_off_until = 0.0
        self.unanswered: frozenset[str] = frozenset()
        """Verbs that the store never answers to this process."""
        self.excused = False
        """Whether it was paused, or its session was taken away: then it may go on for a moment with a lost lease."""
        self.ready: deque[tuple[asyncio.Handle, Callable[..., object], tuple[Any, ...], Context]] = deque()
        self.worker: object = None
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return self.name


_host: ContextVar[Host] = ContextVar("simulated_host")


def current_host() -> Host:
    """The host whose code is running."""
    return _host.get()


class VirtualLoop(asyncio.BaseEventLoop):
    """Time stands still while anything can run, then jumps to the next timer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._clock = 0.0
        self._numbered = 0
        self._timers: list[tuple[float, int, Host, asyncio.TimerHandle, Callable[..., object], tuple[Any, ...]]] = []
        self._contexts: dict[int, Context] = {}
        self._turns_since_jump = 0
        self.turns = 0
        self.outside = Host("outside")
        """What is no worker: the store, producers, the operator, faults."""
        self.hosts = [self.outside]
        self.complaints: list[str] = []
        self.set_exception_handler(self._complain)

    def new_host(self, name: str, session_prefix: str) -> Host:
        """Another process, whose sessions' names begin like that."""
        host = Host(name, session_prefix)
        self.hosts.append(host)
        return host

    def kill(self, host: Host) -> None:
        """End a process at once: none of its code runs any more, no ``finally`` either."""
        host.dead = True

    def on(self, host: Host) -> Context:
        """A context whose callbacks and tasks belong to this host."""
        context = copy_context()
        context.run(_host.set, host)
        return context

    def start(self, host: Host, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task on a host."""
        return self.create_task(coro, context=self.on(host))

    async def bury(self, host: Host) -> None:
        """After all checks: end what is left of a dead process, so that nothing is left to the collector."""
        host.dead, host.paused_until = False, 0.0
        left = [task for task in host.tasks if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=30) if left else None

    # ---- what asyncio calls
    def time(self) -> float:
        """Virtual seconds."""
        return self._clock

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """As asyncio's, and noted for its host."""
        task: asyncio.Task[T] = asyncio.Task(
            coro, loop=self, name="task" if name is None else str(name), context=context
        )
        host = self._host_of(context)
        host.tasks.append(task)
        if len(host.tasks) > 500:
            host.tasks = [task for task in host.tasks if not task.done()]
        return task

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """As asyncio's."""
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._host_of(context).ready.append((handle, callback, args, context))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        context = copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbered += 1
        self._contexts[self._numbered] = context
        heapq.heappush(self._timers, (when, self._numbered, self._host_of(context), handle, callback, args))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        return self.call_at(self._clock + delay, callback, *args, context=context)

    def _host_of(self, context: Context | None) -> Host:
        return _host.get(self.outside) if context is None else context.get(_host, self.outside)

    # ---- one turn
    def _run_once(self) -> None:
        able = self._able()
        while not able:
            self._jump()
            able = self._able()
        self.turns += 1
        self._turns_since_jump += 1
        if self._turns_since_jump > _SAME_INSTANT_LIMIT:
            raise Stuck(f"time does not go on at {self._clock:.3f}: {able[0]} runs {able[0].ready[0][1]!r}")
        host = able[0] if len(able) == 1 else self._chance.choice(able)
        handle, callback, args, context = host.ready.popleft()
        if handle.cancelled():
            return
        try:
            context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - asyncio's own boundary
            self.call_exception_handler({"message": f"callback {callback!r}", "exception": error, "host": host})

    def _able(self) -> list[Host]:
        now = self._clock
        timers = self._timers
        while timers and timers[0][0] <= now:
            _, number, host, handle, callback, args = heapq.heappop(timers)
            context = self._contexts.pop(number)
            if not handle.cancelled():
                host.ready.append((handle, callback, args, context))
        return [host for host in self.hosts if host.ready and not host.dead and host.paused_until <= now]

    def _jump(self) -> None:
        due = [host.paused_until for host in self.hosts if host.ready and not host.dead]
        while self._timers and self._timers[0][3].cancelled():
            self._contexts.pop(heapq.heappop(self._timers)[1])
        if self._timers:
            due.append(self._timers[0][0])
        if not due:
            raise Stuck(f"deadlock at {self._clock:.3f}: nothing is ready and no timer is set")
        self._clock = max(self._clock, min(due))
        self._turns_since_jump = 0

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        host: Host | None = context.get("host")
        if host is None or not host.dead:
            error: BaseException | None = context.get("exception")
            self.complaints.append(f"{self._clock:.3f}: {context.get('message')}: {error!r}")
