"""`WorkflowWorker`: builds the parts, starts them in order, stops them in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor

from workflow_worker.app.registry import App
from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.facts import (
    Emit,
    PartFailed,
    SessionLost,
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
from workflow_worker.worker.actions import Performer
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.committer import Committer
from workflow_worker.worker.errands import Errands
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.intake import Intake, SessionGone
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Part, Patience, end_all
from workflow_worker.worker.session import Callbacks, KeeperTask, KeeperThread, SessionKeeper
from workflow_worker.worker.ticker import Ticker

_BEAT_S = 0.1
_CLOSE_WITHIN_S = 3.0
_BODIES_WITHIN_S = 1.0

OpenStore = Callable[[], Awaitable[Store]]


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
    ) -> None:
        self._app = app
        self._open_store = open_store
        self._limits = limits
        self._environment = environment
        self._emit = emit
        self._signs = signs
        self._name = name
        self._release = release
        self._threads = threads
        self._own_thread = own_thread
        self._drain_wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._holdings: Holdings | None = None
        self._hints: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Work until drained; returns when everything is handed back and the session is closed.

        Raises:
            BaseExceptionGroup: A part failed in a way nobody foresaw; the supervisor should start another worker.
        """
        ordering.install()
        loop = asyncio.get_running_loop()
        threads = self._threads or self._make_threads()
        store = await self._open_store()
        clock = ServerClock(self._environment)
        holdings = self._holdings = Holdings(
            worker=self._name,
            app=self._app,
            limits=self._limits,
            release=self._release,
            environment=self._environment,
            clock=clock,
            signs=self._signs,
            emit=self._emit,
        )
        holdings.performer = Performer(
            self._app,
            self._environment,
            holdings,
            threads,
            None if self._threads else self._make_threads,
            self._most_threads,
            self._limits.max_retries,
            clock.now_ms,
        )
        patience = Patience(self._name, self._environment, self._signs, self._emit)
        ticker = Ticker(
            store=store,
            patience=patience,
            clock=clock,
            environment=self._environment,
            interval_ms=self._limits.poll_interval_ms,
            worker=self._name,
            emit=self._emit,
        )
        holdings.on_wake = ticker.wake_at
        intake = Intake(
            store=store,
            registration=self._app.registration(),
            holdings=holdings,
            patience=patience,
            clock=clock,
            limits=self._limits,
            environment=self._environment,
            signs=self._signs,
        )
        keeper = SessionKeeper(
            open_store=self._open_store,
            pairs=holdings.pairs,
            limits=self._limits,
            environment=self._environment,
            signs=self._signs,
            callbacks=Callbacks(renewed=self._renewed, lost=self._session_lost, failed=self._renewal_failed),
            on_worker_loop=loop.call_soon_threadsafe,
        )
        keeping = KeeperThread(keeper) if self._own_thread else KeeperTask(keeper)
        parts = (
            Committer(store, holdings, patience, clock, self._environment),
            Errands(store, holdings, patience, clock),
            ticker,
        )
        # Renewal first, so that no lease is ever without it; intake last, because it needs all the others.
        beat = asyncio.create_task(self._beat())
        keeping.start()
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._guard(part)) for part in parts]
                await self._work(store, holdings, intake, keeper, patience)
                await self._finish(holdings)
                await end_all(running)
            keeper.forget()  # a renewal of the session that we are about to close would call it lost
            await self._leave(store, holdings)
        finally:
            self._signs.phase = int(WorkerPhase.STOPPED)
            keeping.stop(within_s=2.0)
            beat.cancel()
            holdings.abandon_all()
            holdings.cache.clear()
            await store.aclose()
            if self._threads is None:
                threads.shutdown(wait=False, cancel_futures=True)
        self._emit(WorkerStopped(self._name))

    @property
    def _most_threads(self) -> int:
        return min(256, self._limits.concurrency_limit)

    def _make_threads(self) -> Executor:
        return ThreadPoolExecutor(self._most_threads, thread_name_prefix="action")

    def drain(self, hurry: bool = False) -> None:
        """Take no new work and finish; with `hurry`, cancel attempts at once. Call on the worker's loop."""
        if not self._drain_wanted.is_set():
            self._drain_wanted.set()
            self._signs.phase = int(WorkerPhase.DRAINING)
            self._emit(WorkerDraining(self._name))
            if self._holdings is not None:
                self._holdings.begin_drain()
        if hurry:
            self._hurry.set()

    # -------------------------------------------------------------------------------------------------------- the story

    async def _work(
        self, store: Store, holdings: Holdings, intake: Intake, keeper: SessionKeeper, patience: Patience
    ) -> None:
        """Sessions, one after the other, until the worker drains; ordinarily there is one."""
        if self._drain_wanted.is_set():
            holdings.begin_drain()
        while not holdings.draining:
            session = SessionId(f"{self._name}.{self._environment.new_id()[:12]}")
            holdings.session = session
            opening = self._environment.monotonic()
            if await patience.call(lambda s=session: _opened(store, s), lambda: not holdings.draining) is None:
                return
            if self._environment.monotonic() - opening > self._limits.lease_ttl_ms / 2_000:
                continue  # opened after a long outage: it may be expired already, and nothing is held yet
            keeper.watch(session, opening)
            intake.begin_session()
            if not holdings.draining:
                holdings.interrupt.clear()
            self._signs.renewed_at = int(opening * 1000)
            if self._signs.phase == WorkerPhase.STARTING:
                self._signs.phase = int(WorkerPhase.RUNNING)
            self._emit(WorkerStarted(self._name, session))
            self._hints = asyncio.create_task(self._listen(store, holdings, session))
            try:
                await intake.run()
            except SessionGone:
                self._session_lost(session, "unknown to the store")
            finally:
                if not holdings.draining:
                    self._hints.cancel()

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

    async def _finish(self, holdings: Holdings) -> None:
        """Let what executes reach the end of its attempts, within the grace; then stop the attempts."""
        deadline = self._environment.monotonic() + self._limits.shutdown_grace_ms / 1000
        while not holdings.empty and not self._hurry.is_set() and self._environment.monotonic() < deadline:
            holdings.changed.clear()
            await self._environment.sleep(0.01)
        holdings.abandon_all()
        assert holdings.performer is not None
        await holdings.performer.stop(_BODIES_WITHIN_S)

    async def _leave(self, store: Store, holdings: Holdings) -> None:
        """Close the session: whatever it still holds goes back to ``ready``, uncounted."""
        if self._hints is not None:
            self._hints.cancel()
        session = holdings.session
        if not session:
            return
        deadline = self._environment.monotonic() + _CLOSE_WITHIN_S
        while self._environment.monotonic() < deadline:
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

    async def _beat(self) -> None:
        """Show that the loop turns, and how late it is."""
        while True:
            before = self._environment.monotonic()
            self._signs.loop_at = int(before * 1000)
            await self._environment.sleep(_BEAT_S)
            self._signs.loop_lag = max(0, int((self._environment.monotonic() - before - _BEAT_S) * 1000))


async def _opened(store: Store, session: SessionId) -> bool:
    await store.open(session)
    return True
