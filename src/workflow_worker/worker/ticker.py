"""Ticker: asks the store to move what is due. Any number of workers may tick."""

from __future__ import annotations

import asyncio

from workflow_worker.model.environment import Environment
from workflow_worker.store.protocol import Store
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.part import Patience

_SHORTEST_S = 0.001


class Ticker:
    """Ticks when the next known thing is due, at the latest after a jittered interval (timers of others)."""

    def __init__(
        self, store: Store, patience: Patience, clock: ServerClock, environment: Environment, interval_ms: int
    ) -> None:
        self._store = store
        self._patience = patience
        self._clock = clock
        self._environment = environment
        self._interval_ms = interval_ms
        self._next_due: int | None = None
        self._sooner = asyncio.Event()

    def wake_at(self, due_ms: int) -> None:
        """This worker released a run that is due then; called on the worker's loop."""
        if self._next_due is None or due_ms < self._next_due:
            self._next_due = due_ms
            self._sooner.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._next_due = None
            ticked = await self._patience.call(self._store.tick)
            assert ticked is not None
            self._clock.observe(ticked.now)
            if ticked.full:
                continue
            if ticked.next_due is not None:
                self.wake_at(ticked.next_due)
            await self._pause()

    async def _pause(self) -> None:
        jittered = self._interval_ms * (0.75 + self._environment.random.random() / 2)
        until = self._environment.monotonic() + jittered / 1000
        while True:
            self._sooner.clear()
            wait_s = until - self._environment.monotonic()
            if self._next_due is not None:
                wait_s = min(wait_s, (self._next_due - self._clock.now_ms()) / 1000)
            if wait_s <= 0:
                return
            try:
                async with asyncio.timeout(max(wait_s, _SHORTEST_S)):
                    await self._sooner.wait()
            except TimeoutError:
                return
