"""Prints the orders in which asyncio does what its own sets decide; run as a script in many processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from tests.unit.runtime.driver import Boom, Driver, act, names
from workflow_worker.runtime import ordering


async def abort_of_a_group() -> None:
    async def child(number: int) -> None:
        try:
            await act(f"work{number}")
        finally:
            await act(f"clean{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(child(number))


async def sets_of_wait() -> None:
    tasks = [asyncio.create_task(step(number)) for number in range(6)]
    await asyncio.sleep(0)
    done, pending = await asyncio.wait([*reversed(tasks), asyncio.ensure_future(act("work0"))], timeout=1)
    for task in pending:
        task.cancel()
    for task in [*done, *pending]:
        await act(f"seen-{task.get_name()}")


async def completed_coroutines() -> None:
    for completed in asyncio.as_completed([step(number) for number in range(6)]):
        await completed


async def own_set_of_tasks() -> None:
    background: set[asyncio.Task[Any]] = set()
    for number in range(6):
        task = asyncio.create_task(step(number))
        background.add(task)
        task.add_done_callback(background.discard)
    for task in background:
        task.cancel()
    for task in background:
        await act(f"seen-{task.get_name()}")


async def own_set_of_futures() -> None:
    futures = {asyncio.shield(act(f"work{number}")) for number in range(6)}
    for number, future in enumerate(futures):
        await asyncio.wait([future, act(f"again{number}")], return_when=asyncio.FIRST_COMPLETED)


async def own_set_of_calls() -> None:
    for number, call in enumerate({act(f"work{number}") for number in range(6)}):
        await asyncio.wait([call, act(f"again-{number}-{call.get_name()}")])


async def step(number: int) -> None:
    try:
        await act(f"work{number}")
    except asyncio.CancelledError:
        await act(f"cancelled{number}")


def order_of(main: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    """All commands of one program, of which the first action fails and a timer fires."""
    driver = Driver(main)
    random = Random(5)
    if any("work0" in name for name in names(driver.given)):
        driver.fail("work0", Boom("no"))
    while driver.open and not driver.run.finished and len(driver.history) < 60:
        command = driver.open[random.choice(sorted(driver.open))]
        name = getattr(command, "name", None)
        if name is None:
            driver.fire()
        else:
            driver.complete(name)
    driver.close()
    return names(driver.given)


if __name__ == "__main__":
    junk = [bytearray(Random().randrange(10, 900)) for _ in range(Random().randrange(2_000))]
    del junk[::2]
    ordering.install()
    for program in (
        abort_of_a_group, sets_of_wait, completed_coroutines, own_set_of_tasks, own_set_of_futures, own_set_of_calls
    ):  # fmt: skip
        print(program.__name__, *order_of(program))
