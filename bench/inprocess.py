"""``python -m bench.inprocess``: what the worker itself costs for a run, without server, network and encoding.

A real worker runs in this process over a store that answers from memory at once: it leases made-up runs without end and
accepts every commit. What is measured is processor time, so other load on the machine hardly matters: the figures of
two runs differ by a few percent where rates differ by half. For finding out whether a change made the worker cheaper.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import cast

import uvloop

from bench.load import NOTE
from bench.ours.app import app
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import NO_COMMIT, RunRef, SessionId
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    Commit,
    CommitOutcome,
    Ingest,
    Ingested,
    LeasedRun,
    Mode,
    Registration,
    Renewed,
    Ticked,
)
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.worker import WorkflowWorker

SETTINGS = {"tuned": WorkerLimits(batch_size=200, concurrency_limit=200), "defaults": WorkerLimits()}
KINDS = {"noop": "bench.noop", "three_steps": "bench.steps"}
_DATA = b'{"at":0,"note":"' + NOTE.encode() + b'"}'


class EndlessStore:
    """The verbs of a `Store` that a worker with fresh runs only uses. Counts ended runs, and the processor time spent
    in making up what it answers, which is not the worker's."""

    def __init__(self, kind: str, runs: int) -> None:
        self._kind, self._type, self._runs = kind, KINDS[kind], runs
        self._made = self._ended = 0
        self._begun = 0.0
        self._own = 0.0
        self.cost_us = 0.0
        self.done = asyncio.Event()

    async def ingest(self, request: Ingest) -> Ingested:
        """As many new runs as there is room for."""
        await asyncio.sleep(0)
        begun = time.process_time()
        self._begun = self._begun or begun
        count = min(request.room, self._runs - self._made)
        runs = tuple(self._lease(number) for number in range(self._made, self._made + count))
        self._made += count
        self._own += time.process_time() - begun
        return Ingested(_now_ms(), runs, read=count)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """Every commit is accepted."""
        await asyncio.sleep(0)
        begun = time.process_time()
        now = _now_ms()
        outcomes = [CommitOutcome("ok", commit.mode is Mode.KEEP, (), now) for commit in commits]
        self._ended += sum(commit.mode is Mode.END for commit in commits)
        ended = time.process_time()
        self._own += ended - begun
        if self._ended >= self._runs:
            self.cost_us = (ended - self._begun - self._own) * 1e6 / self._runs
            self.done.set()
        return outcomes

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool:
        """There is none while a worker waits."""
        del then
        await asyncio.sleep(timeout_ms / 1000)
        return False

    async def hints(self, session: SessionId) -> AsyncIterator[RunRef]:
        """None comes."""
        del session
        await self.done.wait()
        for ref in ():
            yield ref

    async def open(self, session: SessionId) -> str:
        """Any session."""
        del session
        return "bench"

    async def close(self, session: SessionId, died: bool = False) -> bool:
        """Nothing is held."""
        del session, died
        return True

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed:
        """All is well."""
        del session, known
        return Renewed(_now_ms())

    async def tick(self, limit: int = 200) -> Ticked:
        """Nothing is due."""
        del limit
        return Ticked(_now_ms(), 0)

    async def run(self, ref: RunRef) -> None:
        """Nobody looks at a run."""
        del ref

    async def register(self, registration: Registration) -> None:
        """Any app."""
        del registration

    async def aclose(self) -> None:
        """There is no connection."""

    def _lease(self, number: int) -> LeasedRun:
        start = Mail(f"{number}-0", Event(f"{number:032d}", self._type, None, _DATA))
        return LeasedRun(RunRef(f"{self._kind}:{number}"), number + 1, NO_COMMIT, 1, 1_700_000_000_000, 0, start)


async def cost_of(kind: str, limits: WorkerLimits, runs: int) -> float:
    """Processor time of the worker for one run, in µs."""
    store = EndlessStore(kind, runs)

    async def open_store() -> Store:
        return cast("Store", store)  # what else a store can do is never asked of it here

    worker = WorkflowWorker(
        app=app,
        open_store=open_store,
        limits=limits,
        environment=real_environment(None),
        emit=lambda _: None,
        signs=VitalSigns(),
        name="bench",
        own_thread=False,
    )
    # As a worker process does: see `workflow_worker.service.child`.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    running = asyncio.create_task(worker.run())
    finished = asyncio.create_task(store.done.wait())
    await asyncio.wait((running, finished), return_when=asyncio.FIRST_COMPLETED)
    worker.drain()
    await running
    return store.cost_us


def main() -> None:
    """Measure each kind at each setting, or profile one."""
    parser = argparse.ArgumentParser(prog="python -m bench.inprocess", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS), nargs="?", help="default: all")
    parser.add_argument("--settings", choices=sorted(SETTINGS), help="default: all")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, by function, instead")
    parser.add_argument("--top", type=int, default=45, help="functions to print")
    options = parser.parse_args()
    for kind in [options.kind] if options.kind else KINDS:
        for name in [options.settings] if options.settings else SETTINGS:
            if options.profile:
                profile = cProfile.Profile()
                profile.runcall(uvloop.run, cost_of(kind, SETTINGS[name], options.runs))
                pstats.Stats(profile, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(options.top)
                continue
            found = [uvloop.run(cost_of(kind, SETTINGS[name], options.runs)) for _ in range(options.repeat)]
            print(f"{kind:<12} {name:<9} {statistics.median(found):6.1f} µs/run  ({min(found):.1f}–{max(found):.1f})")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
