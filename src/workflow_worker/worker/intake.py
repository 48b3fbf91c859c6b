"""Intake: plan, sleep until there is work, ingest, hand leased runs over.

Reading, routing, delivering and leasing are one transition of the store (reading in one call and accepting in another
reorders events as soon as two workers read one stream). What this loop decides is only *how much* and *when*.
"""

from __future__ import annotations

import asyncio

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Ingest, Ingested, Registration, SessionLost, Stale, Unregistered
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Patience
from workflow_worker.worker.planning import plan_intake
from workflow_worker.worker.standstill import INTAKE, longest_silence_ms

_SAME_ERROR_LIMIT = 3


class _SessionGone(Exception):
    """The store does not know our session any more."""


class Intake:
    """Loop: plan → sleep → ingest → accept. One request is out at a time; its number rises by one."""

    def __init__(
        self,
        *,
        store: Store,
        registration: Registration,
        holdings: Holdings,
        patience: Patience,
        clock: ServerClock,
        limits: WorkerLimits,
        environment: Environment,
        signs: VitalSigns,
    ) -> None:
        self._store = store
        self._registration = registration
        self._holdings = holdings
        self._patience = patience
        self._clock = clock
        self._limits = limits
        self._environment = environment
        self._signs = signs
        self._number = 0
        self._cursor = "0"
        self._backlog = False
        self._same_error = 0
        self._interrupted: asyncio.Task[bool] | None = None

    def begin_session(self) -> None:
        """A new session counts its requests from one."""
        self._number = 0
        self._cursor = "0"
        self._interrupted = None

    async def run(self) -> bool:
        """Take work in until the worker is interrupted, by a drain or the loss of its session; False: the store does
        not know the session any more, the worker must open another."""
        try:
            while not self._holdings.interrupt.is_set():
                with self._patience.turn(INTAKE):
                    await self._turn()
        except _SessionGone:
            return False
        finally:
            if self._interrupted is not None:
                self._interrupted.cancel()
        return True

    async def _turn(self) -> None:
        holdings = self._holdings
        holdings.hand_back_overdue()
        holdings.changed.clear()
        plan = plan_intake(holdings.load(self._backlog), self._limits)
        if plan.room == 0:
            await self._until_changed()
            return
        taken = await self._ingest(plan.room)
        if not taken and not holdings.interrupt.is_set():
            await self._sleep()

    async def _until_changed(self) -> None:
        """Wait for room, at most until the oldest leased run must be handed back."""
        try:
            async with asyncio.timeout(self._limits.start_within_ms / 1000):
                await self._holdings.changed.wait()
        except TimeoutError:
            return  # the next turn of the loop hands back what is overdue

    async def _sleep(self) -> None:
        """Until an event or a ready run may be there, the poll interval is over, or the worker is interrupted.

        A read that does not come back in time is given up: then this worker polls, late but not deaf.
        """
        poll_ms = self._limits.poll_interval_ms
        longest_s = (poll_ms + longest_silence_ms(poll_ms) / 2) / 1000
        interrupted = self._interrupted = self._interrupted or asyncio.ensure_future(self._holdings.interrupt.wait())
        read = asyncio.ensure_future(
            self._patience.call(
                lambda: self._store.wait_for_work(poll_ms),
                wanted=lambda: not self._holdings.interrupt.is_set(),
                part=INTAKE,
            )
        )
        try:
            await asyncio.wait((read, interrupted), timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
            if read.done() and not read.cancelled():
                read.result()
            elif not interrupted.done():
                self._signs.store_errors += 1
        finally:
            if not read.done():
                read.cancel()
                read.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody else looks at it
        if self._environment.fault is not None:
            self._environment.fault("read.woken")

    async def _ingest(self, room: int, quarantine: bool = False) -> bool:
        """One request, repeated with the same number until it is answered; True when it brought something."""
        holdings, session = self._holdings, self._holdings.session
        self._number += 1
        request = Ingest(session, self._number, room, self._registration.mark, self._cursor, quarantine)
        fault = self._environment.fault
        while True:
            if fault is not None:
                fault("ingest.sent")
            try:
                # A drain does not wait for an answer that does not come: closing the session hands all back.
                outcome = await self._patience.call(
                    lambda: self._store.ingest(request),
                    wanted=lambda: holdings.session == session and not holdings.draining,
                    part=INTAKE,
                )
            except Refused:
                return await self._script_error(room)
            if fault is not None:
                fault("ingest.done")
            match outcome:
                case Unregistered():
                    await self._patience.call(lambda: self._store.register(self._registration), part=INTAKE)
                case Ingested():
                    self._same_error = 0
                    self._clock.observe(outcome.now)
                    self._cursor = outcome.cursor
                    holdings.reporting.ingested(outcome)
                    self._backlog = len(outcome.runs) >= room or outcome.read >= room
                    holdings.accept(outcome.runs)
                    return bool(outcome.runs or outcome.read)
                case None if holdings.draining:
                    return False
                case SessionLost() | Stale() | None:
                    raise _SessionGone(session)

    async def _script_error(self, room: int) -> bool:
        """The script itself raised, on a stranger's entry most likely: the third time the head goes to ``dead``."""
        self._same_error += 1
        if self._same_error >= _SAME_ERROR_LIMIT:
            self._same_error = 0
            return await self._ingest(room, quarantine=True)
        await self._environment.sleep(0.1)
        return True
