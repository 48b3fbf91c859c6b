"""`WorkflowWorker`: builds the parts, starts them in order, stops them in reverse."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from workflow_worker.app.registry import App
from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.facts import (
    Emit,
    PartFailed,
    PartStalled,
    SessionLost,
    StoreReplaced,
    WorkerDraining,
    WorkerStarted,
    WorkerStopped,
)
from workflow_worker.model.failure import describe
from workflow_worker.model.ids import SessionId
from workflow_worker.model.vitals import VitalSigns, WorkerPhase
from workflow_worker.runtime import ordering
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Renewed
from workflow_worker.worker.assembly import OpenStore, Parts, Plan, assemble
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Part, Patience, end_all, until_interrupted, within
from workflow_worker.worker.session import Callbacks
from workflow_worker.worker.standstill import INTAKE, StoodStill, answering_since, is_beyond_help, standstills

_BEAT_S = 0.1
_BLIND_S = 1.0
"""A beat that is later than this saw nothing meanwhile: what looks old after it may be about to be answered."""
_ANSWER_WITHIN_S = 1.0
"""How long an interrupted intake waits for an answer under way; the end of the session hands back what comes later."""


class WorkflowWorker:
    """One worker instance: consumes events and executes runs until it is drained.

    Args:
        app: The author's events, workflows and actions.
        open_store: Makes a store; called once for the worker's loop and once for the session keeper's thread.
        limits: Batch sizes, spans, concurrency.
        environment: Clock, sleep, randomness, ids.
        emit: Gets every fact.
        signs: Filled while the worker lives; counts and instants for health and metrics.
        name: Unique among living workers, for people: host, process, number.
        release: Version of this package, noted in histories.
        threads: Where sync actions run; by default a pool of CONCURRENCY_LIMIT threads (at most 256).
        own_thread: Keep the session on a thread of its own; off for a store that lives on one event loop.
        epoch: The mark of the namespace that workers before this one worked on; empty if there was none.
    """

    def __init__(
        self,
        *,
        app: App,
        open_store: OpenStore,
        limits: WorkerLimits,
        environment: Environment,
        emit: Emit,
        signs: VitalSigns,
        name: str,
        release: str = "",
        threads: Executor | None = None,
        own_thread: bool = True,
        epoch: str = "",
    ) -> None:
        self._plan = Plan(app, open_store, limits, environment, emit, signs, name, release, threads, own_thread)
        self._limits = limits
        self._environment = environment
        self._emit = emit
        self._signs = signs
        self._name = name
        self._epoch = epoch
        self._drain_wanted = asyncio.Event()
        self._drain_at = 0.0
        self._hurry = asyncio.Event()
        self._holdings: Holdings | None = None
        self._hints: asyncio.Task[None] | None = None
        self._kept = SessionId("")
        self._trouble: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Work until drained; returns when everything is handed back and the session is closed.

        Raises:
            BaseExceptionGroup: A part failed in a way nobody foresaw, or stands still (`StoodStill`); the supervisor
                should start another worker.
        """
        ordering.install()
        trouble = self._trouble = asyncio.get_running_loop().create_future()
        callbacks = Callbacks(self._renewed, self._session_lost, self._renewal_failed, self._keeper_ended)
        parts = assemble(self._plan, await self._plan.open_store(), callbacks)
        self._holdings = parts.holdings
        # Renewal first, so that no lease is ever without it; intake last, because it needs all the others.
        beat = asyncio.create_task(self._beat(parts))
        parts.keeping.start()
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._guard(part)) for part in parts.loops]
                running.append(group.create_task(_until_trouble(trouble)))
                await self._work(parts)
                await self._finish(parts)
                await end_all(running)
            parts.keeper.forget()  # a renewal of the session that we are about to close would call it lost
            await self._leave(parts)
        finally:
            self._signs.phase = int(WorkerPhase.STOPPED)
            parts.keeping.stop(within_s=self._limits.closing_ms / 8_000)
            beat.cancel()
            trouble.cancel()
            if self._hints is not None:
                self._hints.cancel()
            parts.holdings.abandon_all()
            parts.holdings.cache.clear()
            await within(self._limits.closing_ms / 8_000, parts.store.aclose())
            parts.performer.close()
        self._emit(WorkerStopped(self._name))

    def drain(self, hurry: bool = False) -> None:
        """Take no new work and finish; with `hurry`, cancel attempts at once. Call on the worker's loop."""
        if not self._drain_wanted.is_set():
            self._drain_wanted.set()
            self._drain_at = self._environment.monotonic()
            self._signs.phase = int(WorkerPhase.DRAINING)
            self._emit(WorkerDraining(self._name))
            if self._holdings is not None:
                self._holdings.begin_drain()
        if hurry:
            self._hurry.set()

    # -------------------------------------------------------------------------------------------------------- the story

    async def _work(self, parts: Parts) -> None:
        """Sessions, one after the other, until the worker drains; ordinarily there is one."""
        holdings = parts.holdings
        if self._drain_wanted.is_set():
            holdings.begin_drain()
        while not holdings.draining:
            session = SessionId(f"{self._name}.{self._environment.new_id()[:12]}")
            holdings.session = session
            opening = self._environment.monotonic()
            mark = await self._open(parts, session)
            if mark is None:
                return
            self._note_epoch(mark, holdings)
            if self._environment.monotonic() - opening > self._limits.lease_ttl_ms / 2_000:
                continue  # opened after a long outage: it may be expired already, and nothing is held yet
            self._signs.renewed_at = int(opening * 1000)
            self._kept = session
            parts.keeper.watch(session, opening)
            parts.intake.begin_session()
            if not holdings.draining:
                holdings.interrupt.clear()
            if self._signs.phase == WorkerPhase.STARTING:
                self._signs.phase = int(WorkerPhase.RUNNING)
            self._emit(WorkerStarted(self._name, session, mark))
            parts.declarer.session_opened(mark)
            self._hints = asyncio.create_task(self._listen(parts.store, holdings, session))
            try:
                if await until_interrupted(parts.intake.run(), holdings.interrupt, self._answer_within_s) is False:
                    self._session_lost(session, "unknown to the store")
            finally:
                if not holdings.draining:
                    self._hints.cancel()

    async def _open(self, parts: Parts, session: SessionId) -> str | None:
        """Open a session; the namespace's mark, or None if the worker drains first."""
        with parts.patience.turn(INTAKE):
            return await until_interrupted(
                parts.patience.call(
                    lambda: parts.store.open(session), lambda: not parts.holdings.draining, part=INTAKE
                ),
                self._drain_wanted,
                self._answer_within_s,
            )

    @property
    def _answer_within_s(self) -> float:
        return min(_ANSWER_WITHIN_S, self._limits.closing_ms / 4_000)

    def _note_epoch(self, mark: str, holdings: Holdings) -> None:
        """Another mark than before means FLUSHALL, a restored or a foreign server. What is remembered of runs is not
        about those that are there now; everything else begins again by itself, as on a fresh server."""
        before, self._epoch = self._epoch, mark
        if before and mark != before:
            self._signs.store_replaced_at = int(self._environment.monotonic() * 1000)
            holdings.forget_runs()
            self._emit(StoreReplaced(self._name, before, mark))

    async def _listen(self, store: Store, holdings: Holdings, session: SessionId) -> None:
        """Hints of mail for runs that we hold; a lost one is made good by the next renewal."""
        while holdings.session == session:
            try:
                async for ref in store.hints(session):
                    holdings.hint(ref)
            except Exception as error:  # noqa: BLE001 - hints are a comfort, never a reason to end
                self._signs.store_errors += 1
                if not isinstance(error, StoreUnavailable):
                    self._emit(PartFailed(self._name, "hints", describe(error)))
            await self._environment.sleep(0.5)

    async def _finish(self, parts: Parts) -> None:
        """Let what executes reach the end of its attempts, within the grace; then stop the attempts."""
        holdings, now = parts.holdings, self._environment.monotonic
        deadline = self._drain_at + self._limits.shutdown_grace_ms / 1000
        while not holdings.empty and not self._hurry.is_set() and now() < deadline:
            holdings.changed.clear()
            await self._environment.sleep(0.01)
        holdings.abandon_all()
        await parts.performer.stop(self._limits.closing_ms / 4_000)

    async def _leave(self, parts: Parts) -> None:
        """Close the session: whatever it still holds goes back to ``ready``, uncounted."""
        if self._hints is not None:
            self._hints.cancel()
        if parts.holdings.session:
            await within(self._limits.closing_ms / 2_000, self._close(parts.store, parts.holdings.session))

    async def _close(self, store: Store, session: SessionId) -> None:
        while True:
            try:
                if await store.close(session):
                    return
            except StoreUnavailable:
                self._signs.store_errors += 1
                await self._environment.sleep(0.1)

    # ------------------------------------------------------------------------------------------------ from the keeper

    def _renewed(self, answer: Renewed) -> None:
        if self._holdings is not None:
            self._holdings.reconcile(answer.lost, answer.mail)

    def _renewal_failed(self, error: Exception) -> None:
        self._emit(PartFailed(self._name, "session keeper", describe(error)))

    def _keeper_ended(self, error: Exception) -> None:
        self._emit(PartFailed(self._name, "session keeper", describe(error)))
        self._end_by(error)

    def _session_lost(self, session: SessionId, reason: str) -> None:
        holdings = self._holdings
        if holdings is None or holdings.session != session:
            return
        holdings.session = SessionId("")
        self._signs.sessions_lost += 1
        self._emit(SessionLost(self._name, session, reason))
        holdings.drop_all(reason)

    # --------------------------------------------------------------------------------------------------------- upkeep

    async def _guard(self, part: Part) -> None:
        try:
            await part.run()
        except Exception as error:
            self._emit(PartFailed(self._name, type(part).__name__, describe(error)))
            raise

    async def _beat(self, parts: Parts) -> None:
        """Show that the loop turns, and how late it is; watch over session and parts."""
        signs, clock = self._signs, self._environment.monotonic
        while True:
            before = clock()
            signs.loop_at = int(before * 1000)
            await self._environment.sleep(_BEAT_S)
            late_s = max(0.0, clock() - before - _BEAT_S)
            signs.loop_lag = int(late_s * 1000)
            signs.undead = parts.holdings.graveyard.count
            self._watch_session(parts)
            self._watch_parts(parts.patience, blind=late_s > _BLIND_S)

    def _watch_session(self, parts: Parts) -> None:
        """The keeper gives a session up before it expires; here is who does it when the keeper itself is stuck."""
        expired = self._signs.renewed_at + self._limits.lease_ttl_ms * 2 // 3
        session = parts.holdings.session
        if session and session == self._kept and int(self._environment.monotonic() * 1000) > expired:
            parts.keeper.forget()
            self._session_lost(session, "expired without a renewal")

    def _watch_parts(self, patience: Patience, *, blind: bool) -> None:
        signs, limits = self._signs, self._limits
        now = int(self._environment.monotonic() * 1000)
        since = answering_since(signs, limits.poll_interval_ms, limits.lease_ttl_ms, now)
        signs.answering_since = now if since and blind else since
        if signs.phase >= WorkerPhase.DRAINING:
            return  # the grace is the limit now
        for stood in standstills(signs, limits.poll_interval_ms, limits.lease_ttl_ms, now):
            if is_beyond_help(stood, patience.silent_ms(stood.part), limits.stall_limit_ms):
                span = f"{stood.for_ms / 1000:.1f} s"
                if self._end_by(StoodStill(f"{stood.part} stood still for {span} though the store answered others")):
                    self._emit(PartStalled(self._name, stood.part, stood.for_ms))

    def _end_by(self, error: Exception) -> bool:
        """End the worker by this error; False if it ends already."""
        if self._trouble is None or self._trouble.done():
            return False
        self._trouble.set_exception(error)
        return True


async def _until_trouble(trouble: asyncio.Future[None]) -> None:
    await trouble
