"""Figures of the runtime alone, printed (``pytest -s``). The bounds are ten times what was measured: a smoke test."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Coroutine
from itertools import count
from time import process_time
from typing import Any

import pytest

from tests.unit.runtime.driver import START, Driver, Registry, act
from workflow_worker.model.ids import run_ref
from workflow_worker.model.record import Record
from workflow_worker.runtime.execution import Execution

Main = Callable[[], Coroutine[Any, Any, Any]]
_numbers = count()


async def in_a_row() -> None:
    for name in "abc":
        await act(name)


async def at_once() -> None:
    await asyncio.gather(act("a"), act("b"), act("c"))


async def long_row() -> None:
    for _ in range(2_000):
        await act("a")


async def wide() -> None:
    await asyncio.gather(*[act("a", number) for number in range(2_000)])


async def sleeps() -> None:
    for _ in range(2_000):
        await asyncio.sleep(1)


async def step() -> None:
    await act("a")


async def task_each() -> None:
    """A task of the author's for each record."""
    for _ in range(2_000):
        await asyncio.create_task(step())


async def tasks_at_once() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2_000):
            group.create_task(step())


def execution(main: Main) -> Execution:
    return Execution(
        ref=run_ref("test", "1"),
        subject=None,
        started_at=START,
        seed=f"seed-{next(_numbers)}",
        main=main,
        events=Registry(),
        encode=lambda _: b"null",
    )


def history_of(main: Main) -> list[Record]:
    driver = Driver(main)
    while not driver.run.finished:
        name = getattr(next(iter(driver.open.values())), "name", None)
        if name is None:
            driver.fire()
        else:
            driver.complete(name)
    return driver.history


@pytest.mark.parametrize(("main", "bound_us"), [(in_a_row, 300), (at_once, 400)])
def test_a_run_of_three_steps(main: Main, bound_us: float) -> None:
    records = [(record,) for record in history_of(main)]
    best = float("inf")
    for _ in range(5):
        began = process_time()
        for _ in range(300):
            run = execution(main)
            run.feed(())
            for record in records:
                run.feed(record)
        best = min(best, (process_time() - began) / 300 * 1e6)
    print(f"{main.__name__}: {best:.1f} us of CPU a run")
    assert best < bound_us


@pytest.mark.parametrize("main", [long_row, wide, sleeps, task_each, tasks_at_once])
def test_a_replay(main: Main) -> None:
    history = history_of(main)
    began = process_time()
    execution(main).feed(history)
    rate = len(history) / (process_time() - began) / 1000
    print(f"{main.__name__}: {rate:.0f} k records a second")
    assert rate > 10


def test_memory_of_a_suspended_run() -> None:
    runs: list[Execution] = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(500):
            runs.append(execution(in_a_row))
            runs[-1].feed(())
        used = (tracemalloc.get_traced_memory()[0] - before) / 500
        for run in runs:
            run.close()
        runs.clear()
        gc.collect()
        left = (tracemalloc.get_traced_memory()[0] - before) / 500
    finally:
        tracemalloc.stop()
    print(f"{used:.0f} bytes a suspended run, {left:.0f} after closing")
    assert used < 30_000
    assert left < 200


def test_a_run_costs_no_more_when_thousands_are_suspended() -> None:
    """asyncio keeps all tasks of the process in one set; with equal hashes each new one is compared with all."""
    runs: list[Execution] = []

    def start_some() -> float:
        began = process_time()
        for _ in range(300):
            runs.append(execution(in_a_row))
            runs[-1].feed(())
        return process_time() - began

    first = min(start_some() for _ in range(3))
    for _ in range(10):
        start_some()
    last = min(start_some() for _ in range(3))
    for run in runs:
        run.close()
    assert last < 5 * first + 0.02
