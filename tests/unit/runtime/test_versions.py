"""A history means the same on every Python: what asyncio does differently from one to the next, it does alike here."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.driver import START, Boom, Driver, act, cast_any, names
from tests.unit.runtime.programs import Kept, brief, main_with, replayed
from workflow_worker.model.command import Cancelled
from workflow_worker.model.exceptions import NonDeterminism
from workflow_worker.model.record import ActionCompleted, RunStarted, decode_record
from workflow_worker.runtime import parity

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.jsonl"))
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_histories_of_another_python_replay_here(path: Path) -> None:
    kept = [msgspec.json.decode(line, type=Kept) for line in path.read_bytes().splitlines()]
    assert len(kept) > 40
    for program in kept:
        history = [decode_record(raw) for raw in program.history]
        assert brief(replayed(main_with(program.program), history)) == program.commands, program.program


def test_a_difference_names_both_versions() -> None:
    async def main() -> None:
        await act("charge")

    driver = Driver(main, [RunStarted(START, "2.7.18", "1"), ActionCompleted(START, 1, "refund", 0, b"1")])
    text = driver.suspension()
    assert "history has action 'refund' (#1), code now calls 'charge' (#1)" in text
    assert f"the history was written by Python 2.7, this is {THIS}" in text
    same = Driver(main, [RunStarted(START, f"{THIS}.0", "1"), ActionCompleted(START, 1, "refund", 0, b"1")])
    assert "written by" not in same.suspension()
    assert NonDeterminism.__name__ in same.suspension()


async def failing(name: str) -> None:
    try:
        await act(name)
    finally:
        await act(f"tidy-{name}")


async def group(*branches: str) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            for branch in branches:
                tasks.create_task(failing(branch))
    except* Boom:
        pass


def test_a_cancel_while_a_failing_group_waits_for_clean_up_is_not_lost() -> None:
    async def main() -> None:
        await group("a", "b")
        await act("after")

    driver = Driver(main)
    driver.fail("a", Boom("no"))
    driver.complete("tidy-a")
    assert names(driver.cancel()) == []
    driver.complete("tidy-b")
    assert driver.given[-1] == Cancelled()
    assert driver.replay() == [Cancelled()]


def test_a_function_that_returns_after_such_a_group_keeps_its_result() -> None:
    async def main() -> str:
        await group("a", "b")
        return "end"

    driver = Driver(main)
    driver.fail("a", Boom("no"))
    driver.complete("tidy-a")
    driver.cancel()
    driver.complete("tidy-b")
    assert driver.result() == "end"


@pytest.mark.parametrize("awaits", [True, False])
def test_a_group_that_fails_because_a_timeout_around_it_expired(awaits: bool) -> None:
    async def child(name: str) -> None:
        try:
            await act(name)
        finally:
            raise Boom("clean-up failed")

    async def main() -> str:
        try:
            async with asyncio.timeout(1):
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(child("a"))
                except* Boom:
                    pass
                if awaits:
                    await act("inside")
        except TimeoutError:
            return await act("late")
        return await act("went on")

    driver = Driver(main)
    driver.fire()
    assert names(driver.given)[-1] == ("late" if awaits else "went on")
    assert [command.number for command in driver.open.values()] == [4 if awaits else 3]


def test_nested_groups_that_fail_under_a_cancel_end_cancelled() -> None:
    async def child(name: str) -> None:
        try:
            await act(name)
        finally:
            raise Boom("clean-up failed")

    async def main() -> None:
        try:
            async with asyncio.TaskGroup() as outer:
                outer.create_task(child("a"))
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(child("b"))
        except* Boom:
            pass
        await asyncio.sleep(0)
        await act("after")

    driver = Driver(main)
    driver.cancel()
    assert driver.given[-1] == Cancelled()


def test_taking_back_a_cancel_that_was_not_delivered_is_refused_where_versions_differ() -> None:
    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()
        return await act("a")

    driver = Driver(main)
    if sys.version_info < (3, 13):
        assert "differs between Python versions" in driver.suspension()
    else:
        driver.complete("a", "went on")
        assert driver.result() == "went on"


def test_gather_of_what_is_done_is_done_at_once() -> None:
    order: list[str] = []

    async def beside() -> None:
        order.append("beside")

    async def main() -> list[str]:
        calls = [act("a"), act("b")]
        await asyncio.wait(calls)
        asyncio.create_task(beside())  # noqa: RUF006 - it is over before anybody could collect it
        assert await asyncio.gather(*calls, calls[0]) == [1, 2, 1]
        order.append("gathered")
        task = asyncio.create_task(asyncio.sleep(0, 3))
        await asyncio.sleep(0)
        assert await asyncio.gather(*calls, task, asyncio.sleep(0, 4)) == [1, 2, 3, 4]
        return order

    driver = Driver(main)
    driver.complete("a", 1)
    driver.complete("b", 2)
    assert driver.result() == ["gathered", "beside"]


def test_gather_of_a_failed_call_raises_at_once() -> None:
    async def main() -> str:
        call = act("a")
        await asyncio.wait([call])
        waiting = asyncio.gather(call, act("b"))
        assert waiting.done()
        try:
            await waiting
        except Boom:
            return "boom"
        return "none"

    driver = Driver(main)
    driver.fail("a", Boom("no"))
    assert driver.result() == "boom"


def test_a_group_takes_a_call_that_has_failed_already() -> None:
    async def main() -> str:
        call = act("a")
        await asyncio.wait([call])
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(cast_any(call))
                tasks.create_task(asyncio.sleep(0))
        except* Boom:
            await act("caught")
        return "end"

    driver = Driver(main)
    driver.fail("a", Boom("no"))
    assert names(driver.given)[-1] == "caught"


def test_a_group_refuses_tasks_out_of_turn() -> None:
    seen: list[str] = []

    def attempt(tasks: asyncio.TaskGroup, awaitable: Any) -> None:
        with pytest.raises(RuntimeError) as caught:
            tasks.create_task(awaitable)
        seen.append(str(caught.value).rpartition("> ")[2])

    async def main() -> None:
        tasks = asyncio.TaskGroup()
        attempt(tasks, asyncio.sleep(0))
        async with tasks:
            pass
        attempt(tasks, act("a"))
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    tasks.create_task(_raises())
                    await act("b")
                finally:
                    attempt(tasks, asyncio.sleep(0))
        except* Boom:
            seen.append("failed")

    assert names(Driver(main).given)[-1] == "Complete"
    assert seen == ["has not been entered", "is finished", "is shutting down", "failed"]


async def _raises() -> None:
    raise Boom("at once")


def test_a_cancelled_waiter_passes_the_semaphore_on() -> None:
    order: list[str] = []

    async def main() -> list[str]:
        semaphore = asyncio.Semaphore(1)

        async def one(name: str) -> None:
            async with semaphore:
                order.append(name)

        await semaphore.acquire()
        tasks = [asyncio.create_task(one(name)) for name in "abc"]
        await asyncio.sleep(0)
        semaphore.release()
        tasks[0].cancel()
        await asyncio.wait(tasks)
        assert not semaphore.locked()
        return order

    assert Driver(main).result() == ["b", "c"]


def test_a_cancelled_waiter_passes_the_notice_on() -> None:
    order: list[str] = []

    async def main() -> list[str]:
        condition = asyncio.Condition()

        async def one(name: str) -> None:
            async with condition:
                await condition.wait()
                order.append(name)

        tasks = [asyncio.create_task(one(name)) for name in "ab"]
        await asyncio.sleep(0)
        async with condition:
            condition.notify(1)
            tasks[0].cancel()
        await asyncio.wait(tasks)
        return order

    assert Driver(main).result() == ["b"]


def test_outside_a_run_asyncio_is_as_it_was() -> None:
    async def child() -> None:
        await asyncio.sleep(0)
        raise Boom("no")

    async def outside() -> list[Any]:
        condition, semaphore, seen = asyncio.Condition(), asyncio.Semaphore(1), list[Any]()
        async with condition, semaphore:
            seen.append(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2), return_exceptions=True))
        try:
            async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
                seen.append(type(tasks.create_task(child())) is asyncio.Task)
        except* Boom:
            seen.append("boom")
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append("late")
        return seen

    parity.install()
    assert asyncio.run(outside()) == [[1, 2], True, "boom", "late"]
    assert inspect.iscoroutinefunction(asyncio.TaskGroup.__aexit__)
    assert inspect.iscoroutinefunction(asyncio.Semaphore.acquire)
