"""`Process`: one simulated worker process after the other, under one name."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from tests.simulation.real_worker.loop import Host, VirtualLoop, current_host
from tests.simulation.real_worker.network import LossyStore, Network
from workflow_worker.app.registry import App
from workflow_worker.model.environment import Environment
from workflow_worker.model.facts import Fact, PartFailed
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.worker import WorkflowWorker

P = ParamSpec("P")
T = TypeVar("T")

CRASH_POINTS = (
    "ingest.sent",
    "ingest.done",
    "commit.before",
    "commit.done",
    "action.before",
    "action.after",
    "renew.before",
)


class Crashed(BaseException):
    """The process died in the middle of its code."""


class InlineThreads(Executor):
    """A pool whose work is done at once and whose answer comes a while later."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self._loop = loop
        self._chance = chance

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor`."""
        future: Future[T] = Future()
        try:
            value = fn(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as a thread pool does
            finish: Callable[[], None] = lambda error=error: _set(future, lambda: future.set_exception(error))  # noqa: E731
        else:
            finish = lambda: _set(future, lambda: future.set_result(value))  # noqa: E731
        self._loop.call_later(self._chance.choice([0.0, 0.002, 0.05, 0.9]), finish)
        return future


def _set(future: Future[Any], set_it: Callable[[], None]) -> None:
    if not future.cancelled():
        set_it()


class Process:
    """A worker's life: started, killed or drained, started again."""

    def __init__(
        self, name: str, loop: VirtualLoop, network: Network, app: App, limits: WorkerLimits, seed: int
    ) -> None:
        self.name = name
        self.loop = loop
        self.network = network
        self.app = app
        self.limits = limits
        self.chance = random.Random(seed)
        self.life = 0
        self.crash_rate = 0.0
        self.signs: list[VitalSigns] = []
        self.hosts: list[Host] = []
        self.killed: set[Host] = set()
        self.facts: Counter[str] = Counter()
        self.failed_parts: list[Fact] = []
        self.worker: WorkflowWorker | None = None
        self.task: asyncio.Task[None] | None = None
        self.workers: list[WorkflowWorker] = []
        self.note: Callable[..., None] = lambda *what: None

    def start(self) -> None:
        """A new process."""
        self.life += 1
        self.draining = False
        self.worker = None
        self.host = host = self.loop.new_host(f"{self.name}#{self.life}", f"{self.name}.{self.life}-")
        self.hosts.append(host)
        signs = VitalSigns()
        self.signs.append(signs)
        self.task = self.loop.start(host, self._main(host, signs))

    async def _main(self, host: Host, signs: VitalSigns) -> None:
        async def open_store() -> Store:
            return LossyStore(self.network, host)

        ids = iter(range(1_000_000))
        environment = Environment(
            monotonic=self.loop.time,
            now_ms=lambda: int(self.loop.time() * 1000),
            sleep=asyncio.sleep,
            random=self.chance,
            new_id=lambda: f"{self.life}-{next(ids)}",
            fault=self._fault,
        )
        self.worker = host.worker = worker = WorkflowWorker(
            app=self.app,
            open_store=open_store,
            limits=self.limits,
            environment=environment,
            emit=self._hear,
            signs=signs,
            name=self.name,
            threads=InlineThreads(self.loop, self.chance),
            own_thread=False,
        )
        self.workers.append(worker)
        await worker.run()

    def kill(self) -> None:
        """``kill -9``."""
        if not self.host.dead:
            self.killed.add(self.host)
            self.loop.kill(self.host)

    @property
    def up(self) -> bool:
        """Whether the process runs."""
        return not self.host.dead and self.task is not None and not self.task.done()

    def _fault(self, point: str) -> None:
        if self.crash_rate and not self.network.calm and self.chance.random() < self.crash_rate:
            self.note("crash", self.host, point)
            self.network.counts["crashes"] += 1
            self.kill()
            raise Crashed(point)

    def _hear(self, fact: Fact) -> None:
        self.facts[type(fact).__name__] += 1
        self.note("fact", current_host(), fact)
        if isinstance(fact, PartFailed):
            self.failed_parts.append(fact)
