"""Workers and producers in processes of their own, which may be killed at any line.

They are forked from one that has everything imported (`multiprocessing`'s forkserver): one more costs about 20 ms.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

from tests.guarantees.faulty_store import Crash, DyingStore
from tests.guarantees.jobs import job_event, make_app
from tests.guarantees.service import eventually
from workflow_worker.client.client import Client
from workflow_worker.client.opening import store_opener
from workflow_worker.model.facts import Fact
from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.service.child import limits_of
from workflow_worker.store.protocol import Store
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.worker import WorkflowWorker

Wrap = Callable[[Store], Store]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.guarantees.processes"])


class Killable:
    """A worker in a process of its own."""

    def __init__(self, process: ForkServerProcess, facts: Path) -> None:
        self._process = process
        self._facts = facts

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self._process.is_alive()

    def facts(self, word: str) -> list[str]:
        """What the worker said in which this word occurs, as text."""
        lines = self._facts.read_text().splitlines() if self._facts.exists() else []
        return [line for line in lines if word in line]

    async def started(self) -> Killable:
        """Wait until it takes work."""
        await eventually(lambda: self.facts("WorkerStarted"), 10, f"worker started, see {self._facts}")
        return self

    async def died(self, within_s: float = 10) -> int:
        """Wait until it has ended; the exit code, negative for a signal."""
        await eventually(lambda: not self._process.is_alive(), within_s, f"end of the process, see {self._facts}")
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait; nothing if it has ended."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join(10)


def forked(target: Callable[..., None], *arguments: Any, facts: Path) -> Killable:
    """Call a function of this module in a process of its own."""
    process = _forks.Process(target=target, args=arguments, daemon=True)
    process.start()
    return Killable(process, facts)


def build_worker(
    settings: Settings,
    trace: Path,
    name: str,
    emit: Callable[[Fact], None],
    signs: VitalSigns,
    wrap: Wrap,
    fault: str | None = None,
) -> WorkflowWorker:
    """A worker as the service builds it, but for `wrap` around its stores."""
    opened = store_opener(settings, name=name)

    async def open_store() -> Store:
        return wrap(await opened())

    return WorkflowWorker(
        app=make_app(trace, allowed_by(trace)),
        open_store=open_store,
        limits=limits_of(settings),
        environment=real_environment(fault),
        emit=emit,
        signs=signs,
        name=name,
    )


def allowed_by(trace: Path) -> Path:
    """The file whose existence lets every ``hold`` end and every ``park`` succeed."""
    return trace.with_suffix(".allowed")


def work_alone(
    variables: dict[str, str], trace: Path, name: str, facts: Path, crash: Crash | None, fault: str | None
) -> None:
    """What runs in a process of its own: one worker, until SIGTERM or SIGKILL."""
    with facts.open("a", buffering=1) as said:
        sys.stderr = said

        def emit(fact: Fact) -> None:
            said.write(f"{fact}\n")

        def wrap(store: Store) -> Store:
            return store if crash is None else cast("Store", DyingStore(store, crash))

        async def work() -> None:
            worker = build_worker(Settings.from_mapping(variables), trace, name, emit, VitalSigns(), wrap, fault)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
            await worker.run()

        asyncio.run(work())


def produce_alone(variables: dict[str, str], jobs: tuple[str, ...], acknowledged: Path, crash: Crash | None) -> None:
    """What runs in a producer's process; it notes each id that was acknowledged before it sends the next."""

    async def produce() -> None:
        store = await store_opener(Settings.from_mapping(variables))()
        wrapped = store if crash is None else cast("Store", DyingStore(store, crash))
        client = Client(wrapped)
        with acknowledged.open("a", buffering=1) as noted:
            for job in jobs:
                published = await client.publish(job_event(job, ("note",)))
                noted.write(f"{published.id}\n")
        await store.aclose()

    asyncio.run(produce())
