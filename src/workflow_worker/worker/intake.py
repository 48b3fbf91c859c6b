"""Intake: plan, sleep until there is work, ingest, hand leased runs over.

Reading, routing, delivering and leasing are one transition of the store (reading in one call and accepting in another
reorders events as soon as two workers read one stream). What this loop decides is only *how much* and *when*.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    Ingest,
    Ingested,
    IngestOutcome,
    Registration,
    SessionLost,
    Stale,
    Unregistered,
)
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Patience
from workflow_worker.worker.planning import SWIFT_S, Load, plan_intake
from workflow_worker.worker.standstill import INTAKE, longest_silence_ms

_SAME_ERROR_LIMIT = 3


class _SessionGone(Exception):
    """The store does not know our session any more."""


class Intake:
    """Loop: plan → sleep → ingest → accept. One request is out at a time; its number rises by one.

    A sleeping worker has its next request out already, if nothing executes: it lies behind the sleep at the store.
    """

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
        self._dry = False
        """The last ingest left nothing behind: what comes wakes a sleeper."""
        self._swift = False
        self._taken_at = (0.0, 0.0)
        self._same_error = 0
        self._limit: asyncio.Timeout | None = None
        self._asleep: asyncio.Future[Ingest] | None = None
        """While the intake sleeps: takes the request that is to go behind the sleep."""
        holdings.on_idle = self._send_behind

    def begin_session(self) -> None:
        """A new session counts its requests from one."""
        self._number = 0
        self._cursor = "0"
        self._dry = False

    async def run(self) -> bool:
        """Take work in until the worker is interrupted, by a drain or the loss of its session; False: the store does
        not know the session any more, the worker must open another."""
        interrupted = asyncio.ensure_future(self._holdings.interrupt.wait())
        interrupted.add_done_callback(self._wake)
        try:
            while not self._holdings.interrupt.is_set():
                with self._patience.turn(INTAKE):
                    await self._turn()
        except _SessionGone:
            return False
        finally:
            interrupted.remove_done_callback(self._wake)
            interrupted.cancel()
        return True

    async def _turn(self) -> None:
        holdings = self._holdings
        holdings.hand_back_overdue()
        holdings.changed.clear()
        load = holdings.load(self._backlog)
        plan = plan_intake(load, self._limits, self._swift)
        if plan.room == 0:
            await self._until_changed()
        elif self._dry:
            await self._sleep(load)
        else:
            await self._ingest(self._request(plan.room))

    async def _until_changed(self) -> None:
        """Wait for room, at most until the oldest leased run must be handed back."""
        try:
            async with asyncio.timeout(self._limits.start_within_ms / 1000):
                await self._holdings.changed.wait()
        except TimeoutError:
            return  # the next turn of the loop hands back what is overdue

    async def _sleep(self, load: Load) -> None:
        """Until an event or a ready run may be there, the poll interval is over, or the worker is interrupted.

        The next ingest goes behind the sleep, so that it is executed as that ends, as soon as nothing executes here:
        what it brings could not begin while somebody's code holds up the loop, and another worker shall have it then.
        """
        limits, holdings = self._limits, self._holdings
        self._dry = False
        behind: asyncio.Future[Ingest] = asyncio.get_running_loop().create_future()
        self._asleep = behind
        if load.executing + load.leased == 0:
            self._send_behind()
        try:
            answer = await self._asleep_for(
                min(limits.poll_interval_ms, limits.start_within_ms) if load.leased else limits.poll_interval_ms, behind
            )
        finally:
            self._asleep = None
            behind.cancel()
        if self._environment.fault is not None:
            self._environment.fault("read.woken")
        if behind.cancelled():
            return
        request = behind.result()
        if not isinstance(answer, bool | None):
            self._take(request, answer)
            if isinstance(answer, Unregistered):
                await self._ingest(request)
            elif isinstance(answer, Ingested) and len(answer.runs) == 1:
                await asyncio.sleep(0)  # a lone run's action begins before the next sleep is made, not behind it
        elif not holdings.interrupt.is_set():
            await self._ingest(request)
        elif holdings.session == request.session:
            # Done or not, or about to be: repeated with no room it is over. What it brought is handed back at once.
            await self._ingest(replace(request, room=0))

    def _send_behind(self) -> None:
        """Let the sleep be followed by an ingest, if the intake sleeps and there is none behind it."""
        if self._asleep is None or self._asleep.done() or self._holdings.interrupt.is_set():
            return
        room = plan_intake(self._holdings.load(), self._limits).room
        if room:
            self._asleep.set_result(self._request(room))

    async def _asleep_for(self, poll_ms: int, behind: asyncio.Future[Ingest]) -> bool | IngestOutcome | None:
        """A read that does not come back in time is given up: then this worker polls, late but not deaf."""
        interrupt = self._holdings.interrupt
        longest_s = (poll_ms + longest_silence_ms(poll_ms) / 2) / 1000
        try:
            async with asyncio.timeout(longest_s) as self._limit:
                return await self._patience.call(
                    lambda: self._store.wait_for_work(poll_ms, behind),
                    wanted=lambda: not interrupt.is_set() and not behind.done(),
                    part=INTAKE,
                )
        except TimeoutError:
            if not interrupt.is_set():
                self._signs.store_errors += 1
        return None

    def _wake(self, _: object) -> None:
        """The worker is interrupted: end a sleep under way."""
        if self._asleep is not None and self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    def _request(self, room: int, quarantine: bool = False) -> Ingest:
        """The next request; its number is used from here on."""
        self._number += 1
        return Ingest(self._holdings.session, self._number, room, self._registration.mark, self._cursor, quarantine)

    async def _ingest(self, request: Ingest) -> None:
        """One request, repeated with the same number until it is answered."""
        holdings, session = self._holdings, request.session
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
                await self._script_error(request.room)
                return
            if not isinstance(outcome, Unregistered):
                self._take(request, outcome)
                return
            await self._patience.call(lambda: self._store.register(self._registration), part=INTAKE)

    def _take(self, request: Ingest, outcome: IngestOutcome | None) -> None:
        """What a request brought; without an answer it has brought nothing to a worker that drains.

        Raises:
            _SessionGone: The session is not there any more.
        """
        holdings, room = self._holdings, request.room
        if self._environment.fault is not None:
            self._environment.fault("ingest.done")
        match outcome:
            case Ingested():
                self._same_error = 0
                self._clock.observe(outcome.now)
                holdings.accept(outcome.runs)  # before all else: a lone run begins in it
                self._cursor = outcome.cursor
                got, read = len(outcome.runs), outcome.read
                self._backlog = got >= room or read >= room
                self._dry = not (got or read) or (not self._backlog and outcome.cursor == "0")
                self._note_pace()
                holdings.reporting.ingested(outcome)
            case None if holdings.draining:
                return
            case Unregistered():
                return
            case SessionLost() | Stale() | None:
                raise _SessionGone(request.session)

    def _note_pace(self) -> None:
        """Swift is who has started, within a moment, all that the answer before the last brought."""
        before_last, last = self._taken_at
        now = self._environment.monotonic()
        self._swift = now - before_last < SWIFT_S and self._holdings.waiting_since >= last
        self._taken_at = last, now

    async def _script_error(self, room: int) -> None:
        """The script itself raised, on a stranger's entry most likely: the third time the head goes to ``dead``."""
        self._same_error += 1
        if self._same_error < _SAME_ERROR_LIMIT:
            await self._environment.sleep(0.1)
            return
        self._same_error = 0
        await self._ingest(self._request(room, quarantine=True))
