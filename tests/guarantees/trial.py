"""A namespace on a real server, workers in this process and in processes of their own, and what became of it all.

`Trial` is for promises about single runs: it needs no service, so a test costs the time of what it tests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio

from tests.guarantees.faulty_store import Crash
from tests.guarantees.jobs import JobTold, Line, job_event, make_app, read_trace
from tests.guarantees.processes import (
    Killable,
    Wrap,
    allowed_by,
    build_worker,
    forked,
    produce_alone,
    work_alone,
)
from tests.guarantees.service import ROOT, Service, eventually
from tests.support.servers import RunningServer, free_port
from workflow_worker.client.client import Client
from workflow_worker.client.opening import store_opener
from workflow_worker.model.event import Event
from workflow_worker.model.facts import Fact
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import Record, decode_record
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Audit
from workflow_worker.worker.worker import WorkflowWorker

FAST = {"LEASE_TTL_MS": "1000", "POLL_INTERVAL_MS": "100", "MAX_TAKEOVERS": "50", "LOG_LEVEL": "debug"}

_JOBS_APP = """
import os
from pathlib import Path

from tests.guarantees.jobs import make_app

app = make_app(Path(os.environ.get("JOBS_TRACE", "trace.jsonl")))
"""


@dataclass
class Working:
    """A worker in this process."""

    worker: WorkflowWorker
    signs: VitalSigns
    facts: list[Fact]


@dataclass
class Trial:
    """One namespace of one server. `variables` are settings as in the environment."""

    server: RunningServer
    folder: Path
    variables: dict[str, str] = field(default_factory=dict[str, str])
    namespace: str = "ww"
    processes: list[Killable] = field(default_factory=list[Killable])

    @property
    def settings(self) -> Settings:
        """Short spans, unless `variables` says otherwise."""
        own = {"REDIS_URL": self.server.url, "NAMESPACE": self.namespace}
        return Settings.from_mapping({**FAST, **own, **self.variables})

    @property
    def prefix(self) -> str:
        """Of all keys."""
        return f"{self.namespace}:{{{self.namespace}:0}}:"

    @property
    def trace(self) -> Path:
        """Where the actions write."""
        return self.folder / f"{self.namespace}-trace.jsonl"

    def allow(self) -> None:
        """Let every ``hold`` end and every ``park`` succeed from now on."""
        allowed_by(self.trace).touch()

    def lines(self, job: str | None = None, phase: str = "begin") -> list[Line]:
        """Attempts that began (or ended), of one job or of all."""
        return [line for line in read_trace(self.trace) if line.phase == phase and job in (None, line.job)]

    # ---- workers
    @asynccontextmanager
    async def working(
        self, name: str = "w", *, wrap: Wrap = lambda store: store, **variables: str
    ) -> AsyncGenerator[Working]:
        """A worker in this process; drained at the end."""
        settings = Settings.from_mapping({**self.settings.to_mapping(), **variables})
        facts: list[Fact] = []
        signs = VitalSigns()
        worker = build_worker(settings, self.trace, name, facts.append, signs, wrap)
        task = asyncio.create_task(worker.run())
        try:
            yield Working(worker, signs, facts)
        finally:
            worker.drain()
            await task

    def process(self, name: str, crash: Crash | None = None, fault: str | None = None) -> Killable:
        """A worker in a process of its own; `fault` is as in WW_FAULT."""
        facts = self.folder / f"{self.namespace}-{name}.facts"
        process = forked(work_alone, self.settings.to_mapping(), self.trace, name, facts, crash, fault, facts=facts)
        self.processes.append(process)
        return process

    def producer(self, name: str, jobs: Sequence[str], crash: Crash | None = None) -> Killable:
        """A producer in a process of its own: publishes the start events of jobs, one call each, and ends."""
        facts = self.folder / f"{self.namespace}-{name}.facts"
        process = forked(produce_alone, self.settings.to_mapping(), tuple(jobs), facts, crash, facts=facts)
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        """End every process that was started here."""
        for process in self.processes:
            process.kill()

    # ---- what producers do, and what an outsider sees
    @asynccontextmanager
    async def client(self, patience: float = 10, **variables: str) -> AsyncGenerator[Client]:
        """A client of the namespace."""
        settings = Settings.from_mapping({**self.settings.to_mapping(), **variables})
        async with Client.from_settings(settings, patience=patience) as client:
            yield client

    async def ask(self, *jobs: str, steps: Sequence[str] = ("note",)) -> None:
        """Publish the start events of jobs, in this order."""
        async with self.client() as client:
            await client.publish_many([job_event(job, steps) for job in jobs])

    async def tell(self, job: str, *words: int) -> None:
        """Publish words for a job, in this order."""
        async with self.client() as client:
            await client.publish_many(
                [
                    Event(f"told-{job}-{word}", "job.told", job, msgspec.json.encode(JobTold(job, word)))
                    for word in words
                ]
            )

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[Store]:
        """The store, for looking and for playing a worker."""
        store = await store_opener(self.settings)()
        try:
            yield store
        finally:
            await store.aclose()

    @asynccontextmanager
    async def raw(self) -> AsyncGenerator[Any]:
        """The server itself, as any program sees it."""
        client = redis.asyncio.from_url(self.server.url, socket_timeout=10)
        try:
            yield client
        finally:
            await client.aclose()

    async def register(self) -> None:
        """Declare the app, so that a worker's first ingest takes work."""
        async with self.store() as store:
            await store.register(make_app(self.trace).registration())

    async def view(self, job: str, workflow: str = "perform") -> RunView | None:
        """The run of a job."""
        async with self.store() as store:
            return await store.run(RunRef(f"{workflow}:{job}"))

    async def at(self, job: str, *statuses: RunStatus, within_s: float = 10, workflow: str = "perform") -> RunView:
        """Wait until the run of a job has one of these statuses."""
        async with self.store() as store:

            async def look() -> RunView | None:
                found = await store.run(RunRef(f"{workflow}:{job}"))
                return found if found is not None and found.status in statuses else None

            return await eventually(look, within_s, f"{job} {' or '.join(statuses)}")

    async def completed(self, *jobs: str, within_s: float = 20) -> dict[str, Any]:
        """Wait until all of these have completed; their results."""
        results: dict[str, Any] = {}
        async with self.store() as store:

            async def look() -> bool:
                for job in jobs:
                    if job in results:
                        continue
                    view = await store.run(RunRef(f"perform:{job}"))
                    if view is None or view.status is not RunStatus.COMPLETED:
                        return False
                    results[job] = None if view.result is None else msgspec.json.decode(view.result)
                return True

            try:
                await eventually(look, within_s, "all completed")
            except AssertionError as error:
                left = [job for job in jobs if job not in results]
                raise AssertionError(f"{len(left)} of {len(jobs)} not completed, first {left[0]}: {error}") from error
        return results

    async def history(self, job: str, workflow: str = "perform") -> list[Record]:
        """The records of a job's run."""
        async with self.store() as store:
            return [decode_record(raw) for raw in await store.history(RunRef(f"{workflow}:{job}"))]

    async def audit(self) -> Audit:
        """The books, which must balance.

        Raises:
            AssertionError: They do not.
        """
        async with self.store() as store:
            audit = await store.audit()
        assert audit.balanced, audit.problems
        return audit


def _with_tests() -> str:
    """PYTHONPATH of a process that imports from here."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def service_of(trial: Trial, folder: Path, **variables: str) -> Service:
    """A whole service that performs jobs."""
    (folder / "jobs_app.py").write_text(_JOBS_APP)
    environment = {
        "PYTHONPATH": _with_tests(),
        "JOBS_TRACE": str(trial.trace),
        "NAMESPACE": trial.namespace,
        **variables,
    }
    return Service(trial.server.url, free_port(), folder, folder / "jobs_app.py", environment)


def nothing_pending() -> dict[str, Any]:
    """The summary of XPENDING for a group in which nothing is."""
    return {"pending": 0, "min": None, "max": None, "consumers": []}
