"""Ticker: asks the store to move what is due. Any number of workers may tick."""

from __future__ import annotations

import asyncio

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.facts import Emit, PartFailed, StoreFilling, StoreRelieved
from workflow_worker.model.failure import describe
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Patience
from workflow_worker.worker.standstill import TICKER

_SHORTEST_S = 0.001
_AFTER_ERROR_S = 1.0
_RELIEF = 2
"""Percentage points below MEMORY_HIGH_WATER at which the store counts as relieved."""


class Ticker:
    """Ticks when the next known thing is due, at the latest after a jittered interval (timers of others)."""

    def __init__(
        self,
        *,
        store: Store,
        patience: Patience,
        clock: ServerClock,
        environment: Environment,
        limits: WorkerLimits,
        worker: str,
        signs: VitalSigns,
        emit: Emit,
    ) -> None:
        self._worker = worker
        self._signs = signs
        self._high_water = limits.memory_high_water
        self._filling = False
        self._emit = emit
        self._store = store
        self._patience = patience
        self._clock = clock
        self._environment = environment
        self._interval_ms = limits.poll_interval_ms
        self._next_at: float | None = None
        self._sooner = asyncio.Event()

    def wake_at(self, due_ms: int) -> None:
        """This worker released a run that is due then; called on the worker's loop."""
        self._tick_in(due_ms - self._clock.now_ms())

    def _tick_in(self, span_ms: int) -> None:
        at = self._environment.monotonic() + max(_SHORTEST_S, span_ms / 1000)
        if self._next_at is None or at < self._next_at:
            self._next_at = at
            self._sooner.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._next_at = None
            try:
                with self._patience.turn(TICKER):
                    ticked = await self._patience.call(self._store.tick, part=TICKER)
            except Refused as error:
                # One thing that cannot be moved must not end every worker; the others' ticks say the same.
                self._emit(PartFailed(self._worker, "ticker", describe(error)))
                await self._environment.sleep(_AFTER_ERROR_S)
                continue
            assert ticked is not None
            self._clock.observe(ticked.now)
            self._note_memory(ticked.memory or 0)
            if ticked.full:
                continue
            due = min(filter(None, (ticked.next_due, ticked.sessions_due)), default=None)
            if due is not None:
                # By the server's own clock in this reply: by our idea of it the thing may be due already, and we would
                # tick without a pause until the server agrees.
                self._tick_in(due - ticked.now)
            await self._pause()

    def _note_memory(self, percent: int) -> None:
        """Say once that the store fills up, and once that it has room again; a little below the mark, for the figure
        goes up and down all the time."""
        self._signs.store_memory = percent
        limit = self._high_water
        if not self._filling and limit and percent > limit:
            self._filling = True
            self._emit(StoreFilling(self._worker, percent, limit))
        elif self._filling and percent <= max(0, limit - _RELIEF):
            self._filling = False
            self._emit(StoreRelieved(self._worker, percent))

    async def _pause(self) -> None:
        jittered = self._interval_ms * (0.75 + self._environment.random.random() / 2)
        until = self._environment.monotonic() + jittered / 1000
        while True:
            self._sooner.clear()
            wait_s = (until if self._next_at is None else min(until, self._next_at)) - self._environment.monotonic()
            if wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._sooner.wait()
            except TimeoutError:
                return
