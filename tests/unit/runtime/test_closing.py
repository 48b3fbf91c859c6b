"""Destroying a run in memory has no effect anywhere, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from tests.unit.runtime.driver import OPENED, Driver, Packed, act, names
from workflow_worker.model.exceptions import UsageError
from workflow_worker.runtime import wf
from workflow_worker.runtime.execution import Execution

variable: ContextVar[str] = ContextVar("variable")


async def finally_sync() -> None:
    try:
        await act("a")
    finally:
        wf.state(status="closing")


async def finally_action() -> None:
    try:
        await act("a")
    finally:
        await act("release")


async def catches_everything_once() -> None:
    try:
        await act("a")
    except BaseException:  # noqa: BLE001 - what a careless author writes
        await act("undo")


async def swallows_errors_for_ever() -> None:
    while True:
        with contextlib.suppress(Exception):
            await act("a")


@contextlib.asynccontextmanager
async def compensating() -> AsyncGenerator[None, None]:
    try:
        yield
    except BaseException:
        await act("compensate")
        raise


async def with_context_manager() -> None:
    async with compensating():
        await act("a")


async def group() -> None:
    async def branch(name: str) -> None:
        try:
            await act(name)
        finally:
            asyncio.get_running_loop().create_task(finally_action())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(branch("a"))
        tasks.create_task(branch("b"))


async def timeout() -> None:
    try:
        async with asyncio.timeout(9):
            await act("a")
    finally:
        await asyncio.sleep(5)


async def locked() -> None:
    lock = asyncio.Lock()

    async def one() -> None:
        async with lock:
            await act("a")

    await asyncio.gather(one(), one(), one())


async def generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await act("finally")

    async for _ in numbers():
        await act("a")


async def cycle() -> None:
    try:
        raise ValueError("kept")
    except ValueError as error:
        kept = error
    try:
        await act("a")
    finally:
        await act(f"release {kept}")


async def waits_for_event() -> None:
    variable_token = variable.set("x")
    try:
        await asyncio.gather(wf.wait_for(Packed, subject="x", timeout=9), asyncio.shield(act("a")))
    finally:
        variable.reset(variable_token)


SHAPES = [
    finally_sync, finally_action, catches_everything_once, swallows_errors_for_ever, with_context_manager, group,
    timeout, locked, generator, cycle, waits_for_event,
]  # fmt: skip


@pytest.mark.parametrize("main", SHAPES)
def test_closing_has_no_effect_and_the_run_can_be_resumed(
    main: Callable[[], Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver(main)
    bystander = Driver(finally_action)
    before = list(driver.given)
    gc.collect()
    bystander.run.feed(())
    driver.run.close()
    driver.run.close()
    gc.collect()
    assert bystander.feed() == []
    assert driver.run.outstanding() == []
    assert driver.run.complaints == ()
    assert driver.graveyard.count == 0
    assert (capsys.readouterr().err, caplog.text) == ("", "")
    assert Driver(main, driver.history).given == before
    with pytest.raises(UsageError, match="was closed in memory"):
        driver.run.feed(())


@pytest.mark.parametrize("main", SHAPES)
def test_closing_leaves_no_object_behind(main: Callable[[], Any]) -> None:
    driver = Driver(main)
    loop = weakref.ref(driver.run._loop)  # pyright: ignore[reportPrivateUsage] - the object that must go
    execution: weakref.ref[Execution] = weakref.ref(driver.run)
    gc.collect()
    gc.disable()
    try:
        driver.close()
        del driver
        assert not OPENED
        assert execution() is None
        assert loop() is None, gc.get_referrers(loop())
    finally:
        gc.enable()


def test_code_that_swallows_everything_is_buried_in_bounded_time() -> None:
    turns = 0

    async def main() -> None:
        nonlocal turns
        while True:
            turns += 1
            try:
                await act("a")
            except BaseException:  # noqa: BLE001, S110 - what must not keep a worker busy
                pass

    driver = Driver(main)
    driver.run.close()
    assert turns < 20
    assert driver.graveyard.count == 1


def test_synchronous_clean_up_still_runs_in_its_own_context() -> None:
    seen: list[str] = []

    async def main() -> None:
        token = variable.set("set")
        try:
            await act("a")
        finally:
            seen.append(variable.get())
            variable.reset(token)
            seen.append("reset")

    driver = Driver(main)
    driver.close()
    assert seen == ["set", "reset"]


def test_a_run_that_ended_is_closed_without_harm() -> None:
    async def main() -> str:
        asyncio.get_running_loop().create_task(finally_action())
        await asyncio.sleep(0)
        await act("b")
        return "end"

    driver = Driver(main)
    assert names(driver.complete("b")) == ["CancelAction", "Complete"]
    driver.run.close()
    assert driver.graveyard.count == 0


def test_a_run_that_never_started_can_be_closed() -> None:
    driver = Driver(finally_action)
    fresh = driver.fresh()
    fresh.close()
    assert fresh.outstanding() == []
