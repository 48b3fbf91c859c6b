"""What a worker is put together from, and which part knows which."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from workflow_worker.app.registry import App
from workflow_worker.model.environment import Environment
from workflow_worker.model.facts import Emit
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.worker.actions import Performer
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.committer import Committer
from workflow_worker.worker.declaring import ScheduleDeclarer
from workflow_worker.worker.errands import Errands
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.intake import Intake
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Part, Patience
from workflow_worker.worker.planning import FURTHER_COMMITS
from workflow_worker.worker.session import Callbacks, KeeperTask, KeeperThread, SessionKeeper
from workflow_worker.worker.ticker import Ticker

OpenStore = Callable[[], Awaitable[Store]]

_MOST_THREADS = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker is made from; see `WorkflowWorker`."""

    app: App
    open_store: OpenStore
    limits: WorkerLimits
    environment: Environment
    emit: Emit
    signs: VitalSigns
    name: str
    release: str
    threads: Executor | None
    own_thread: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one worker; `loops` run side by side for as long as it lives, `keeping` runs `keeper`."""

    store: Store
    holdings: Holdings
    performer: Performer
    patience: Patience
    intake: Intake
    keeper: SessionKeeper
    keeping: KeeperThread | KeeperTask
    declarer: ScheduleDeclarer
    loops: tuple[Part, ...]


def assemble(plan: Plan, store: Store, callbacks: Callbacks) -> Parts:
    """Make the parts, on the running loop; nothing runs yet."""
    environment, limits, signs = plan.environment, plan.limits, plan.signs
    clock = ServerClock(environment)
    holdings = Holdings(
        worker=plan.name,
        app=plan.app,
        limits=limits,
        release=plan.release,
        environment=environment,
        clock=clock,
        signs=signs,
        emit=plan.emit,
    )
    holdings.performer = performer = _performer(plan, holdings, clock, store)
    patience = Patience(plan.name, environment, signs, plan.emit)
    ticker = Ticker(
        store=store,
        patience=patience,
        clock=clock,
        environment=environment,
        limits=limits,
        worker=plan.name,
        signs=signs,
        emit=plan.emit,
    )
    holdings.on_wake = ticker.wake_at
    intake = Intake(
        store=store,
        registration=plan.app.registration(),
        holdings=holdings,
        patience=patience,
        clock=clock,
        limits=limits,
        environment=environment,
        signs=signs,
    )
    keeper = SessionKeeper(
        open_store=plan.open_store,
        pairs=holdings.pairs,
        limits=limits,
        environment=environment,
        signs=signs,
        callbacks=callbacks,
        on_worker_loop=asyncio.get_running_loop().call_soon_threadsafe,
    )
    keeping = KeeperThread(keeper) if plan.own_thread else KeeperTask(keeper)
    committers = [
        Committer(store, holdings, patience, clock, environment, further=number > 0)
        for number in range(1 + FURTHER_COMMITS)
    ]
    declarer = ScheduleDeclarer(store, plan.app, patience, environment)
    loops = (*committers, Errands(store, holdings, patience, clock), ticker, declarer)
    return Parts(store, holdings, performer, patience, intake, keeper, keeping, declarer, loops)


def _performer(plan: Plan, holdings: Holdings, clock: ServerClock, store: Store) -> Performer:
    most = min(_MOST_THREADS, plan.limits.concurrency_limit)

    def make_threads() -> Executor:
        return ThreadPoolExecutor(most, thread_name_prefix="action")

    return Performer(
        plan.app,
        plan.environment,
        holdings,
        plan.threads or make_threads(),
        None if plan.threads else make_threads,
        most,
        plan.limits.max_retries,
        clock.now_ms,
        store.run,
    )
