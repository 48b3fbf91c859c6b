"""A memory store with workers on it, for workflows that are tried from end to end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.support.servers import RunningServer
from workflow_worker import App, Client, Event, Settings
from workflow_worker.client.opening import OpenStore, store_opener
from workflow_worker.model.facts import Fact
from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import Record, decode_record
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Limits
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.worker import WorkflowWorker

OVER = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SUSPENDED)


class Stage:
    """Runs of one app. With ``cached=0`` a worker remembers no run: each wake replays the whole history."""

    def __init__(
        self, app: App, cached: int = 2_000, store: Store | None = None, opener: OpenStore | None = None
    ) -> None:
        self.app = app
        self.cached = cached
        self.store = store or MemoryStore(Limits(lease_ttl_ms=1_000), lambda: time.time_ns() // 1_000_000)
        self._opener = opener
        self.client = Client(self.store)
        self.facts: list[Fact] = []
        self.signs = VitalSigns()
        self._workers: list[tuple[WorkflowWorker, asyncio.Task[None]]] = []

    def start(self, name: str = "w1", concurrency_limit: int = 50) -> None:
        """Another worker."""

        async def same_store() -> Store:
            return self.store

        limits = WorkerLimits(
            concurrency_limit=concurrency_limit,
            batch_size=100,
            poll_interval_ms=100,
            lease_ttl_ms=1_000,
            detail=True,
            cached_runs=self.cached,
        )
        worker = WorkflowWorker(
            app=self.app,
            open_store=self._opener or same_store,
            limits=limits,
            environment=real_environment(),
            emit=self.facts.append,
            signs=self.signs,
            name=name,
            own_thread=False,
        )
        self._workers.append((worker, asyncio.create_task(worker.run())))

    async def stop(self) -> None:
        """Let all workers end what they do."""
        workers, self._workers = self._workers, []
        for worker, task in workers:
            worker.drain()
            await asyncio.wait_for(task, 10)

    async def crash(self) -> None:
        """Kill all workers: what they hold is taken over when their sessions have expired."""
        workers, self._workers = self._workers, []
        for _, task in workers:
            task.cancel()
        await asyncio.gather(*(task for _, task in workers), return_exceptions=True)

    async def restart(self) -> None:
        """Another worker in place of all there are: it must replay what it takes up."""
        await self.stop()
        self.start(f"w{len(self.facts)}")

    async def view(self, ref: str) -> RunView | None:
        return await self.store.run(RunRef(ref))

    async def until(self, ref: str, *statuses: RunStatus, within_s: float = 10) -> RunView:
        """Wait for one of these statuses; without any for the end, or a suspension."""

        def reached(view: RunView | None) -> bool:
            return view is not None and view.status in (statuses or OVER)

        return await self.until_it(ref, reached, within_s)

    async def until_it(self, ref: str, reached: Callable[[RunView | None], bool], within_s: float = 10) -> Any:
        """Wait until a run is as wanted."""
        deadline = time.monotonic() + within_s
        while True:
            view = await self.view(ref)
            if reached(view):
                return view
            assert time.monotonic() < deadline, f"{ref} is {view}"
            await asyncio.sleep(0.005)

    async def until_state(self, ref: str, **fields: Any) -> None:
        """Wait until a run has published these fields."""

        def reached(view: RunView | None) -> bool:
            state: Any = msgspec.json.decode(view.state) if view is not None and view.state else {}
            return all(state.get(name) == value for name, value in fields.items())

        await self.until_it(ref, reached)

    async def fact(self, holds: Callable[[], bool], what: str, within_s: float = 10) -> None:
        """Wait for something that the app's own code notes."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.005)

    async def history(self, ref: str) -> list[Record]:
        return [decode_record(raw) for raw in await self.store.history(RunRef(ref))]

    async def publish(self, event: object, **options: Any) -> None:
        await self.client.publish(event, **options)

    async def send(self, event_type: str, subject: str | None = None, **data: Any) -> None:
        await self.client.publish(Event("", event_type, subject, msgspec.json.encode(data)))


def result_of(view: RunView) -> Any:
    """What the workflow returned."""
    assert view.status is RunStatus.COMPLETED, failure_of(view)
    assert view.result is not None
    return msgspec.json.decode(view.result)


def failure_of(view: RunView) -> Failure:
    """Why a run failed or is suspended."""
    assert view.error is not None, view
    return msgspec.msgpack.decode(view.error, type=Failure)


@asynccontextmanager
async def stage_of(app: App, *, cached: int = 2_000, server: RunningServer | None = None) -> AsyncGenerator[Stage]:
    """A stage with one worker, in memory or on a server; at the end the store's books must balance."""
    if server is None:
        stage = Stage(app, cached)
    else:
        namespace = f"s{uuid.uuid4().hex[:8]}"
        variables = {"REDIS_URL": server.url, "NAMESPACE": namespace, "LEASE_TTL_MS": "1000"}
        opener = store_opener(Settings.from_mapping(variables))
        stage = Stage(app, cached, await opener(), opener)
    stage.start()
    try:
        yield stage
    finally:
        await stage.stop()
    audit = await stage.store.audit()
    await stage.store.aclose()
    assert audit.balanced, audit.problems
