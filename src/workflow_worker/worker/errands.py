"""Errands: what runs need of the store besides commits: their history, and to be handed back."""

from __future__ import annotations

import asyncio

from workflow_worker.model.exceptions import Refused
from workflow_worker.model.ids import RunRef
from workflow_worker.store.protocol import Store
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.part import Patience
from workflow_worker.worker.planning import MOST_PER_CALL
from workflow_worker.worker.standstill import ERRANDS


class Errands:
    """Loop: load histories and hand runs back, as many at a time as fit one burst of requests."""

    def __init__(self, store: Store, holdings: Holdings, patience: Patience, clock: ServerClock) -> None:
        self._store = store
        self._holdings = holdings
        self._patience = patience
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        wanted = self._holdings.errands.wanted
        while True:
            await wanted.wait()
            wanted.clear()
            await self.turn()
            self._holdings.changed.set()

    async def turn(self) -> bool:
        """Do what there is to do now; whether there was something."""
        queue, busy = self._holdings.errands, False
        while loads := queue.take_loads(MOST_PER_CALL):
            busy = True
            with self._patience.turn(ERRANDS):
                await self._load(loads)
        if hand_backs := queue.take_hand_backs():
            busy = True
            with self._patience.turn(ERRANDS):
                await asyncio.gather(*(self._hand_back(*each) for each in hand_backs))
        queue.handed_back()
        self._holdings.start_waiting()  # a suspect waits until the others are safe
        return busy

    async def _load(self, executors: list[RunExecutor]) -> None:
        """Read the histories of these, in as few calls as their length allows."""
        holdings, session = self._holdings, self._holdings.session
        held = [(executor.ref, executor.token) for executor in executors]
        try:
            answer = await self._patience.call(
                lambda: self._store.load(session, held),
                wanted=lambda: holdings.session == session,
                part=ERRANDS,
            )
        except Refused as error:
            await self._load_apart(executors, error)
            return
        if answer is None or holdings.session != session:
            return
        with holdings:
            for executor, loaded in zip(executors, answer, strict=False):
                if loaded is not None:
                    self._clock.observe(loaded.now)
                holdings.loaded(executor, loaded)
        if len(answer) < len(executors):
            await self._load(executors[len(answer) :])

    async def _load_apart(self, executors: list[RunExecutor], error: Refused) -> None:
        """One of them cannot be read: find out which."""
        if len(executors) > 1:
            for executor in executors:
                await self._load([executor])
        elif self._holdings.holds(executors[0]):
            self._holdings.broke(executors[0], error)

    async def _hand_back(self, ref: RunRef, token: int, delay_ms: int) -> None:
        holdings, session = self._holdings, self._holdings.session
        try:
            await self._patience.call(
                lambda: self._store.hand_back(session, ref, token, delay_ms),
                wanted=lambda: holdings.session == session,
                part=ERRANDS,
            )
        except Refused as error:
            # The next renewal names the run as one that we do not know.
            holdings.reporting.part_failed("hand back", error)
