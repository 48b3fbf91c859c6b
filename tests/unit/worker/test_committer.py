"""Group commit: how many runs one call of the store carries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from bench.inprocess import EndlessStore
from bench.ours.app import app

from workflow_worker.model.ids import RunRef
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Commit, CommitOutcome, Mode
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.worker import WorkflowWorker

_DEADLINE_S = 20


class WatchedStore(EndlessStore):
    """Notes each call of commit, and how many runs executed when it came."""

    def __init__(self, kind: str, runs: int) -> None:
        super().__init__(kind, runs)
        self.signs = VitalSigns()
        self.calls: list[list[tuple[RunRef, Mode]]] = []
        self.executing: list[int] = []
        self.under_way: list[int] = []
        """How many runs' commits were under way, each time another call came."""
        self._now: list[int] = []

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """Every commit is accepted, and written down."""
        self.calls.append([(commit.ref, commit.mode) for commit in commits])
        self.executing.append(self.signs.executing)
        self._now.append(len(commits))
        self.under_way.append(len(self._now))
        try:
            return await super().commit(commits)
        finally:
            self._now.remove(len(commits))


async def commits_of(kind: str, runs: int, limits: WorkerLimits) -> WatchedStore:
    """A worker that has ended so many runs, and what it asked of its store."""
    store = WatchedStore(kind, runs)

    async def open_store() -> Store:
        return cast("Store", store)

    worker = WorkflowWorker(
        app=app,
        open_store=open_store,
        limits=limits,
        environment=real_environment(None),
        emit=lambda _: None,
        signs=store.signs,
        name="test",
        own_thread=False,
    )
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(_DEADLINE_S):
        await store.done.wait()
        worker.drain()
        await running
    return store


async def test_runs_that_take_the_slots_of_ending_ones_go_into_the_same_call() -> None:
    store = await commits_of("noop", 150, WorkerLimits(batch_size=10, concurrency_limit=5))
    assert len(store.calls[0]) == 15  # five slots, and ten that waited for one
    assert all(mode is Mode.END for call in store.calls for _, mode in call)
    assert sorted(ref for call in store.calls for ref, _ in call) == sorted(RunRef(f"noop:{n}") for n in range(150))


async def test_a_call_carries_at_most_100_runs() -> None:
    store = await commits_of("noop", 1_000, WorkerLimits(batch_size=1_000, concurrency_limit=5))
    assert max(len(call) for call in store.calls) <= 100


async def test_many_runs_go_in_several_calls_at_once_and_few_in_one_after_the_other() -> None:
    many = await commits_of("three_steps", 1_000, WorkerLimits(batch_size=200, concurrency_limit=200))
    assert max(many.under_way) in (2, 3)
    assert max(len(call) for call in many.calls) <= 100
    few = await commits_of("three_steps", 60, WorkerLimits(batch_size=10, concurrency_limit=5))
    assert max(few.under_way) <= 2  # a second one only where all slots wait for an answer and others for a slot


async def test_no_run_is_twice_in_a_call_and_no_more_execute_than_may() -> None:
    store = await commits_of("three_steps", 60, WorkerLimits(batch_size=10, concurrency_limit=5))
    assert all(len({ref for ref, _ in call}) == len(call) for call in store.calls)
    assert max(store.executing) == 5
