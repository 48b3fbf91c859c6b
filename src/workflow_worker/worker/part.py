"""`Part`: one loop of a worker, and the patience that all of them have with a store that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.facts import Emit, StoreBack, StoreLost
from workflow_worker.model.vitals import VitalSigns

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


async def end_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel and wait, again and again until all have ended: a library that swallows one cancellation (``wait_for``
    of Python 3.11 does when its inner task ends in the same turn) must not keep a drained process alive."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)


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
        self._down_since: float | None = None
        self._reported_at = float("-inf")

    async def call(self, request: Callable[[], Awaitable[T]], wanted: Callable[[], bool] = lambda: True) -> T | None:
        """Answer of `request`, repeated until it comes; None when `wanted` turned false before it did."""
        pause = _FIRST_PAUSE_S
        while True:
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
