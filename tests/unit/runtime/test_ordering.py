"""asyncio's own sets in order on our loops, stock elsewhere, also for code that imported them before us."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from typing import Any

import pytest

from tests.unit.runtime.driver import START, Driver, Registry, act
from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.ids import run_ref
from workflow_worker.runtime import ordering
from workflow_worker.runtime.execution import Execution
from workflow_worker.runtime.ordered_set import OrderedSet

EARLY = """
from asyncio import wait, as_completed, wait_for
import asyncio
from tests.unit.runtime.driver import Driver, act
from workflow_worker.runtime import ordering
ordering.install()

async def inside():
    done, pending = await wait([asyncio.create_task(asyncio.sleep(0)) for _ in range(3)])
    own = await wait_for(me(), 5)
    seen = []
    for completed in as_completed([mark(seen, n) for n in (3, 1, 2)]):
        await completed
    return [type(done).__name__, own is asyncio.current_task(), seen]

async def mark(seen, n): seen.append(n)
async def me(): return asyncio.current_task()

async def outside():
    done, pending = await wait([asyncio.create_task(asyncio.sleep(0))])
    try:
        await wait_for(asyncio.sleep(9), 0.001)
    except TimeoutError:
        return type(done).__name__, await wait_for(asyncio.sleep(0, "value"), 5)

driver = Driver(inside)
print(driver.result(), asyncio.run(outside()))
"""


def test_code_that_imported_before_us_is_ordered_inside_and_stock_outside() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "['OrderedSet', True, [3, 1, 2]] ('set', 'value')", done.stderr


def test_no_effect_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "running", lambda: None)
    with pytest.raises(ConfigurationError, match="cannot be replayed on this Python"):
        ordering.install()


def test_a_run_refuses_to_start_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(asyncio.tasks.__dict__, "set")

    async def main() -> None:
        await act("a")

    assert "ordering.install()" in Driver(main).suspension()


@pytest.mark.parametrize(
    ("verb", "arguments", "expected"),
    [
        ("add", (9,), [5, 3, 8, 9]),
        ("discard", (3,), [5, 8]),
        ("remove", (5,), [3, 8]),
        ("pop", (), [3, 8]),
        ("clear", (), []),
        ("update", ([7, 3], {1}), [5, 3, 8, 7, 1]),
        ("difference_update", ([5], {9}), [3, 8]),
        ("intersection_update", ([8, 5],), [5, 8]),
        ("symmetric_difference_update", ([8, 1],), [5, 3, 1]),
        ("__ior__", ({4},), [5, 3, 8, 4]),
        ("__isub__", ({5},), [3, 8]),
        ("__iand__", ({8, 5},), [5, 8]),
        ("__ixor__", ({8, 1},), [5, 3, 1]),
    ],
)
def test_the_ordered_set_keeps_its_order_through_every_change(
    verb: str, arguments: tuple[Any, ...], expected: list[int]
) -> None:
    ordered = OrderedSet([5, 3, 8, 5])
    getattr(ordered, verb)(*arguments)
    assert list(ordered) == expected
    assert ordered == set(expected)
    assert len(ordered) == len(expected)


def test_the_ordered_set_combines_in_order() -> None:
    ordered = OrderedSet([5, 3, 8])
    assert list(ordered | {1}) == [5, 3, 8, 1]
    assert list(ordered - {3}) == [5, 8]
    assert list(ordered & {8, 5}) == [5, 8]
    assert list(ordered ^ {3, 7}) == [5, 8, 7]
    assert list(ordered.union([2], [1])) == [5, 3, 8, 2, 1]
    assert list(ordered.difference([3])) == [5, 8]
    assert list(ordered.intersection([8, 3])) == [3, 8]
    assert type(copy.copy(ordered)) is set
    with pytest.raises(TypeError):
        _ = ordered | [1]
    with pytest.raises(KeyError):
        ordered.remove(99)
    with pytest.raises(KeyError):
        OrderedSet([]).pop()


def test_all_tasks_are_those_of_the_run_in_order_of_creation() -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0), name=f"t{number}") for number in range(20)]
        found = [task.get_name() for task in asyncio.all_tasks()]
        await asyncio.wait(tasks)
        return found

    bystanders = [Driver(main) for _ in range(3)]
    assert all(driver.result() == ["main", *[f"t{number}" for number in range(20)]] for driver in bystanders)
    assert len(asyncio.run(_outside())) == 1


async def _outside() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks()


def test_tasks_of_different_runs_hash_apart_and_those_of_one_run_alike_in_every_replay() -> None:
    seen: list[int] = []

    async def main() -> None:
        seen.append(hash(asyncio.current_task()))

    for seed in ("one", "one", "two"):
        Execution(
            ref=run_ref("test", "1"),
            subject=None,
            started_at=START,
            seed=seed,
            main=main,
            events=Registry(),
            encode=lambda _: b"null",
        ).feed(())
    assert seen[0] == seen[1] != seen[2]
    assert all(0 < found < 2**31 for found in seen)
