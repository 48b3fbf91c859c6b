"""`Part`: one loop of a worker, and the patience that all of them have with a store that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.facts import Emit, StoreBack, StoreLost
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.worker.standstill import SIGN_OF

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_REPORT_EVERY_S = 5.0
_CANCEL_AGAIN_S = 1.0


class Part(Protocol):
    """A loop that runs until it is cancelled or drained; what it raises ends the worker."""

    async def run(self) -> None:
        """Work until done."""
        ...


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel and wait, again and again until all have ended: a library that swallows one cancellation (``wait_for``
    of Python 3.11 does when its inner task ends in the same turn) must not keep a drained process alive."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Let `work` run for at most so long, then cancel it and go on, whatever it makes of that; whether it was done.

    For the steps of an ending: an answer that never comes must not hold it up. What `work` raises goes on.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody else looks at it
    if task.done() and not task.cancelled():
        task.result()
        return True
    return False


async def until_interrupted(work: Coroutine[Any, Any, T], interrupt: asyncio.Event, moment_s: float) -> T | None:
    """Result of `work`; once interrupted it has `moment_s` seconds for an answer that is under way, then it is
    cancelled: None."""
    task = asyncio.ensure_future(work)
    interrupted = asyncio.ensure_future(interrupt.wait())
    try:
        await asyncio.wait((task, interrupted), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait((task,), timeout=moment_s)
    finally:
        interrupted.cancel()
        if not task.done():
            await end_all((task,))
    return None if task.cancelled() else task.result()


class Turn:
    """What `Patience.turn` returns. A class, because a generator's context manager costs five times as much.

    A part may be in several turns at once; its vital sign shows the one that has lasted longest.
    """

    __slots__ = ("_began_ms", "_others", "_sign", "_signs")

    def __init__(self, signs: VitalSigns, sign: str, began_ms: int, others: dict[Turn, None]) -> None:
        self._signs = signs
        self._sign = sign
        self._began_ms = began_ms
        self._others = others

    def __enter__(self) -> None:
        if not self._others:
            setattr(self._signs, self._sign, self._began_ms)
        self._others[self] = None

    def __exit__(self, *_: object) -> None:
        del self._others[self]
        oldest = next(iter(self._others), None)
        setattr(self._signs, self._sign, 0 if oldest is None else oldest._began_ms)


class Patience:
    """Repeats a store call, unchanged, until it is answered; says so once every 5 s.

    Repeating is safe because every transition repeated with equal arguments changes nothing (rule R2). One object
    serves all parts of a worker, so that an outage is reported once and not per part.
    """

    def __init__(self, worker: str, environment: Environment, signs: VitalSigns, emit: Emit) -> None:
        self._worker = worker
        self._environment = environment
        self._signs = signs
        self._emit = emit
        self._heard_at: dict[str, float] = {}
        self._turns: dict[str, dict[Turn, None]] = {part: {} for part in SIGN_OF}
        self._down_since: float | None = None
        self._reported_at = float("-inf")

    def turn(self, part: str) -> Turn:
        """Show in the part's vital sign since when its turn lasts; 0 when it is over."""
        now = self._environment.monotonic()
        self._heard_at[part] = now
        return Turn(self._signs, SIGN_OF[part], int(now * 1000), self._turns[part])

    def silent_ms(self, part: str) -> int:
        """For how long nothing has come back from the store in the part's turn, no error either."""
        return int((self._environment.monotonic() - self._heard_at[part]) * 1000)

    async def call(
        self, request: Callable[[], Awaitable[T]], wanted: Callable[[], bool] = lambda: True, *, part: str = ""
    ) -> T | None:
        """Answer of `request`, repeated until it comes; None when `wanted` turned false before it did. It is made in
        the turn of `part`."""
        pause = _FIRST_PAUSE_S
        while True:
            self._heard_at[part] = self._environment.monotonic()
            try:
                answer = await request()
            except StoreUnavailable as error:
                self._lost(str(error))
                if not wanted():
                    return None
                await self._environment.sleep(pause * (0.5 + self._environment.random.random() / 2))
                pause = min(_LONGEST_PAUSE_S, pause * 2)
                if not wanted():
                    return None
            else:
                self.answered()
                return answer

    def answered(self) -> None:
        """Note a round trip that succeeded."""
        now = self._environment.monotonic()
        self._signs.roundtrip_at = int(now * 1000)
        if self._down_since is not None:
            self._emit(StoreBack(self._worker, int((now - self._down_since) * 1000)))
            self._down_since = None
            self._reported_at = float("-inf")

    def _lost(self, reason: str) -> None:
        now = self._environment.monotonic()
        self._signs.store_errors += 1
        if self._down_since is None:
            self._down_since = now
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self._emit(StoreLost(self._worker, reason, int((now - self._down_since) * 1000)))
