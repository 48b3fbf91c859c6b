"""What makes asyncio orderly on our loop: its sets iterate in order, its functions are the same on all versions.

asyncio puts coroutines and tasks into sets and iterates them: ``as_completed`` starts coroutines in the order of their
addresses, ``wait`` returns sets, ``TaskGroup`` cancels its children in set order. Tasks hash by number here
(`futures`), which is one half; the other is that the name ``set`` inside asyncio's modules means a set that iterates in
the order of insertion while one of our loops runs, and the plain one otherwise. Unlike replacing the functions, this
reaches code that imported them before us. What differs between versions is in `parity`.
"""

from __future__ import annotations

import asyncio
import asyncio.taskgroups
import asyncio.tasks
import sys
from collections.abc import Iterable
from contextvars import Context
from types import ModuleType
from typing import Any

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.runtime import parity
from workflow_worker.runtime.ledger import Ledger
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.nesting import enter, leave, running
from workflow_worker.runtime.ordered_set import OrderedSet


def _set(items: Iterable[Any] = ()) -> set[Any]:
    return OrderedSet(items) if type(running()) is Loop else set(items)


def install() -> None:
    """Make asyncio orderly on our loops; once per process, at its start. Repeating it does nothing.

    Raises:
        ConfigurationError: It has no effect on this Python, so replays could differ.
    """
    modules: tuple[ModuleType, ...] = (asyncio.tasks, asyncio.taskgroups)
    for module in modules:
        module.__dict__["set"] = _set
    parity.install()
    problem = _shortcoming()
    if problem:
        raise ConfigurationError(
            f"workflows cannot be replayed on this Python ({sys.version.split()[0]}): {problem};"
            " use a Python version that this release supports"
        )


def is_installed() -> bool:
    """Whether `install` was called in this process."""
    return asyncio.tasks.__dict__.get("set") is _set


def _shortcoming() -> str:
    """Try out what `install` promises; the empty string if all of it holds."""
    seen: list[int] = []

    async def mark(number: int) -> None:
        seen.append(number)

    async def whose_task() -> object:
        return asyncio.current_task()

    async def probe() -> str:
        # Neither ascending nor descending, so that no order of addresses gives it by chance.
        wanted = [5, 0, 9, 2, 11, 7, 1, 10, 3, 8, 4, 6]
        coroutines = {number: mark(number) for number in range(12)}
        for completed in asyncio.as_completed([coroutines[number] for number in wanted]):
            await completed
        if seen != wanted:
            return "asyncio.as_completed does not keep the order of what it is given"
        done, _ = await asyncio.wait([asyncio.ensure_future(mark(0))])
        if not isinstance(done, OrderedSet):
            return "asyncio.wait does not return sets in order"
        if await asyncio.wait_for(whose_task(), 60) is not asyncio.current_task():
            return "asyncio.wait_for starts a task of its own"
        return ""

    loop = Loop(Ledger(), 0, None)
    outer = enter(loop, loop.finalize)
    try:
        task = loop.create_task(probe(), context=Context())
        loop.drain()
        return task.result() if task.done() else "the loop does not run asyncio's own functions to their end"
    finally:
        leave(outer)
        loop.silence()
