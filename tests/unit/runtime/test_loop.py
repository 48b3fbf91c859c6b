"""The loop's surface: asyncio's primitives run and replay; everything else is refused with the replacement named."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from tests.unit.runtime.driver import START, Driver, act, cast_any
from workflow_worker.model.exceptions import UsageError
from workflow_worker.runtime.ledger import Ledger
from workflow_worker.runtime.loop import Loop

TOUCHED = {
    "call_at", "call_exception_handler", "call_later", "call_soon", "create_future", "create_task", "get_debug",
    "get_task_factory", "is_closed", "is_running", "time",
}  # fmt: skip
REFUSED = sorted(name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_") and name not in TOUCHED)


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_method_is_refused_with_advice(name: str) -> None:
    loop = Loop(Ledger(), START, None)
    with pytest.raises(UsageError, match=f"{name} is not available inside a workflow, .*; .{{10,}}"):
        getattr(loop, name)()


@pytest.mark.parametrize(
    ("use", "advice"),
    [
        (lambda: asyncio.to_thread(print), "runs in a thread"),
        (lambda: asyncio.open_connection("127.0.0.1", 1), "do it in an action"),
        (lambda: asyncio.create_subprocess_exec("true"), "do it in an action"),
    ],
)
def test_io_in_a_workflow_is_refused_with_advice(use: Any, advice: str) -> None:
    async def main() -> None:
        await use()

    assert advice in Driver(main).suspension()


def test_a_second_loop_inside_is_refused() -> None:
    async def main() -> None:
        coroutine = asyncio.sleep(0)
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()

    assert "cannot be called from a running event loop" in Driver(main).suspension()


def test_eager_tasks_are_refused() -> None:
    async def main() -> None:
        cast_any(asyncio.get_running_loop()).create_task(asyncio.sleep(0), eager_start=True)

    assert "eager_start" in Driver(main).suspension()


async def _gather() -> Any:
    return await asyncio.gather(act("a"), asyncio.sleep(2, "slept"))


async def _wait() -> Any:
    done, pending = await asyncio.wait([asyncio.ensure_future(act("a"))], timeout=60)
    return [len(done), len(pending)]


async def _wait_for() -> Any:
    return await asyncio.wait_for(act("a"), 60)


async def _timeout() -> Any:
    async with asyncio.timeout(60):
        return await act("a")


async def _timeout_at() -> Any:
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + 60):
        return await act("a")


async def _group() -> Any:
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(cast_any(act("a"))), group.create_task(asyncio.sleep(1, "slept"))]
    return [call.result() for call in calls]


async def _shield() -> Any:
    return await asyncio.shield(act("a"))


async def _as_completed() -> Any:
    return [await completed for completed in asyncio.as_completed([act("a"), asyncio.sleep(1, "slept")])]


async def _create_task() -> Any:
    call = act("a")
    assert asyncio.create_task(cast_any(call)) is cast_any(call)
    return await call


async def _sync_primitives() -> Any:
    event, queue, lock = asyncio.Event(), asyncio.Queue[str](), asyncio.Lock()
    condition, semaphore, barrier = asyncio.Condition(), asyncio.Semaphore(1), asyncio.Barrier(2)

    async def other() -> None:
        async with lock, semaphore:
            await queue.put(await act("a"))
            event.set()
        await barrier.wait()
        async with condition:
            condition.notify_all()

    task = asyncio.create_task(other())
    async with condition:
        waiting = asyncio.create_task(barrier.wait())
        await event.wait()
        await condition.wait()
    await asyncio.gather(task, waiting)
    return await queue.get()


async def _task_facts() -> Any:
    task = asyncio.current_task()
    assert task is not None
    await act("a")
    return [task.get_name(), len(asyncio.all_tasks()), asyncio.create_task(asyncio.sleep(0)).get_name()]


@pytest.mark.parametrize(
    "main",
    [
        _gather, _wait, _wait_for, _timeout, _timeout_at, _group, _shield, _as_completed, _create_task,
        _sync_primitives, _task_facts,
    ],
)  # fmt: skip
def test_each_primitive_runs_and_replays(main: Any) -> None:
    driver = Driver(main)
    driver.complete("a", "done")
    while not driver.run.finished:
        driver.fire()
    assert driver.result() is not None
    assert driver.replay() == [driver.given[-1]]


def test_asyncio_calls_nothing_of_the_loop_that_is_refused() -> None:
    assert all(inspect.isfunction(getattr(Loop, name)) for name in TOUCHED)


def test_calls_look_like_tasks_where_asyncio_asks() -> None:
    async def main() -> list[Any]:
        call = act("a")
        call.set_name("ignored")
        return [
            call.get_name(),
            call.get_coro(),
            call.cancelling(),
            call.uncancel(),
            repr(call),
            call.cancel(),
            call.cancel(),
        ]

    result = Driver(main).result()
    assert result[:4] == ["a#1", None, 0, 0]
    assert "<call of action 'a' (#1) at test_loop.py:" in result[4]
    assert result[5:] == [True, False]
