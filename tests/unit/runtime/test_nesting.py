"""A run inside the worker's loop leaves everything as it was, and sees nothing of it."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from tests.unit.runtime.driver import Driver, act, names
from workflow_worker.runtime.execution import current_execution

variable: ContextVar[str] = ContextVar("variable", default="unset")


def _factories() -> list[Any]:
    found: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    if importlib.util.find_spec("uvloop"):
        import uvloop

        found.append(pytest.param(uvloop.new_event_loop, id="uvloop"))
    return found


def _surroundings() -> tuple[Any, ...]:
    loop = asyncio.get_running_loop()
    return loop, asyncio.current_task(), sys.get_asyncgen_hooks(), gc.isenabled(), dict(copy_context())


async def workflow() -> str:
    variable.set("inside")
    loop = asyncio.get_running_loop()
    assert not gc.isenabled()
    assert asyncio.current_task(loop) is asyncio.current_task()
    await act("a")
    return type(loop).__name__


async def exits() -> None:
    await act("a")
    raise SystemExit(3)


@pytest.mark.parametrize("factory", _factories())
@pytest.mark.parametrize("main", [workflow, exits])
def test_everything_is_as_before(factory: Callable[[], asyncio.AbstractEventLoop], main: Any) -> None:
    async def worker() -> None:
        variable.set("worker")
        before = _surroundings()
        driver = Driver(main)
        driver.complete("a")
        assert _surroundings() == before
        await asyncio.sleep(0)  # the worker's own task goes on
        assert len(names(driver.given)) == 2
        driver.close()
        assert _surroundings() == before

    async def both() -> None:
        await asyncio.gather(worker(), worker())
        called = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: called.set_result(Driver(workflow).given))
        assert names(await called) == ["a"]

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(both())


def test_collection_stays_off_if_it_was_off() -> None:
    gc.disable()
    try:
        Driver(workflow)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_interrupt_leaves_the_feed_with_everything_restored() -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    async def worker() -> None:
        before = _surroundings()
        with pytest.raises(KeyboardInterrupt):
            Driver(main)
        assert _surroundings() == before

    asyncio.run(worker())


def test_workflows_see_no_context_of_the_worker_and_tasks_none_of_each_other() -> None:
    async def main() -> list[str]:
        async def child() -> str:
            before = variable.get()
            variable.set("child")
            await act("child")
            return before

        seen = [variable.get()]
        variable.set("main")
        await act("a")
        seen += [variable.get(), *await asyncio.gather(child(), child()), variable.get()]
        return seen

    results: list[object] = []
    for value in ("one", "two"):
        variable.set(value)
        driver = Driver(main)
        Context().run(driver.complete, "a")
        driver.complete("child")
        driver.complete("child")
        results.append(driver.result())
    assert results == [["unset", "main", "main", "main", "main"]] * 2


def test_an_async_generator_left_by_break_ends_on_the_runs_loop_at_the_same_place() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield await act("next")
        finally:
            assert current_execution() is not None
            await act("finally")

    async def main() -> str:
        async for _ in numbers():
            break
        await act("after")
        await act("end")
        return "end"

    async def worker() -> None:
        driver = Driver(main)
        assert names(driver.complete("next", 1)) == ["after", "finally"]
        assert names(driver.replay()) == ["after", "finally"]
        driver.complete("after")
        driver.complete("finally")
        driver.complete("end")
        assert driver.result() == "end"

    asyncio.run(worker())


def test_a_future_of_the_workers_loop_cannot_be_awaited_inside() -> None:
    async def worker() -> None:
        foreign = asyncio.get_running_loop().create_future()

        async def main() -> None:
            await foreign

        assert "attached to a different loop" in Driver(main).suspension()

    asyncio.run(worker())


def test_the_current_execution_is_that_of_the_running_code() -> None:
    seen: list[object] = []

    async def main() -> None:
        seen.append(current_execution())
        await act("a")

    driver = Driver(main)
    assert seen == [driver.run]
    assert current_execution() is None
