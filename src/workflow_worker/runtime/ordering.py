"""What makes asyncio's own sets iterate in order on our loop, and `wait_for` the same on all versions.

asyncio puts coroutines and tasks into sets and iterates them: ``as_completed`` starts coroutines in the order of their
addresses, ``wait`` returns sets, ``TaskGroup`` cancels its children in set order. Tasks hash by number here
(`futures`), which is one half; the other is that the name ``set`` inside asyncio's modules means a set that iterates in
the order of insertion while one of our loops runs, and the plain one otherwise. Unlike replacing the functions, this
reaches code that imported them before us.

``wait_for`` was rewritten in Python 3.12 and numbers its steps differently since; 3.11 gets the later form, on our
loop only, by exchanging the code of the function itself.
"""

from __future__ import annotations

import asyncio
import asyncio.taskgroups
import asyncio.tasks
import sys
from collections.abc import Awaitable, Iterable, Iterator
from contextvars import Context
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar, cast

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.runtime.ledger import Ledger
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.nesting import enter, leave, running

T = TypeVar("T")

_STOCK_WAIT_FOR = "_workflow_worker_stock_wait_for"
_OWN_WAIT_FOR = "_workflow_worker_wait_for"


class OrderedSet(set[T]):
    """A set that iterates in the order of insertion, also after every way of changing it."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._order: dict[T, None] = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[T]:
        return iter(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return set, (list(self),)

    def add(self, element: T, /) -> None:
        """Add an element, last."""
        self._order[element] = None
        super().add(element)

    def discard(self, element: Any, /) -> None:
        """Remove an element if it is there."""
        self._order.pop(element, None)
        super().discard(element)

    def remove(self, element: Any, /) -> None:
        """Remove an element.

        Raises:
            KeyError: It is not there.
        """
        super().remove(element)
        del self._order[element]

    def pop(self) -> T:
        """Remove and return the first element.

        Raises:
            KeyError: The set is empty.
        """
        for element in self._order:
            self.remove(element)
            return element
        raise KeyError("pop from an empty set")

    def clear(self) -> None:
        """Remove all."""
        self._order.clear()
        super().clear()

    def copy(self) -> OrderedSet[T]:
        """The same elements in the same order."""
        return OrderedSet(self._order)

    def update(self, *others: Iterable[T]) -> None:
        """Add all elements of the others, in their order."""
        for other in others:
            for element in list(other):
                self.add(element)

    def _keep(self, remaining: set[Any]) -> None:
        for element in [element for element in self._order if element not in remaining]:
            self.discard(element)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove all elements of the others."""
        self._keep(super().difference(*others))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep what is in all of the others."""
        self._keep(super().intersection(*others))

    def symmetric_difference_update(self, other: Iterable[T], /) -> None:
        """Keep what is in one of the two only."""
        elements = dict.fromkeys(other)
        for element in elements:
            (self.discard if element in self else self.add)(element)

    def __ior__(self, other: Any, /) -> OrderedSet[T]:  # type: ignore[override]
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.update(cast("Iterable[T]", other))
        return self

    def __isub__(self, other: Any, /) -> OrderedSet[T]:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.difference_update(cast("Iterable[T]", other))
        return self

    def __iand__(self, other: Any, /) -> OrderedSet[T]:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.intersection_update(cast("Iterable[T]", other))
        return self

    def __ixor__(self, other: Any, /) -> OrderedSet[T]:  # type: ignore[override]
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.symmetric_difference_update(cast("Iterable[T]", other))
        return self

    def __or__(self, other: Any, /) -> OrderedSet[Any]:
        return _combined(self, other, "update")

    def __sub__(self, other: Any, /) -> OrderedSet[T]:
        return _combined(self, other, "difference_update")

    def __and__(self, other: Any, /) -> OrderedSet[T]:
        return _combined(self, other, "intersection_update")

    def __xor__(self, other: Any, /) -> OrderedSet[Any]:
        return _combined(self, other, "symmetric_difference_update")

    def union(self, *others: Iterable[Any]) -> OrderedSet[Any]:
        """All elements, in order."""
        found = self.copy()
        found.update(*others)
        return found

    def difference(self, *others: Iterable[Any]) -> OrderedSet[T]:
        """What is in none of the others, in order."""
        found = self.copy()
        found.difference_update(*others)
        return found

    def intersection(self, *others: Iterable[Any]) -> OrderedSet[T]:
        """What is in all of the others, in order."""
        found = self.copy()
        found.intersection_update(*others)
        return found


def _combined(left: OrderedSet[Any], right: Any, verb: str) -> OrderedSet[Any]:
    if not isinstance(right, set | frozenset):
        return NotImplemented
    found = left.copy()
    getattr(found, verb)(right)
    return found


def _set(items: Iterable[Any] = ()) -> set[Any]:
    return OrderedSet(items) if type(running()) is Loop else set(items)


async def _wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """`asyncio.wait_for` as Python 3.12 and later do it: no task of its own, one timer."""
    if timeout is not None and timeout <= 0:
        task = asyncio.ensure_future(fut)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        try:
            return task.result()
        except asyncio.CancelledError as error:
            raise TimeoutError from error
    async with asyncio.timeout(timeout):
        return await fut


def _by_loop(fut: Awaitable[Any], timeout: float | None) -> Any:
    stock = asyncio.tasks.__dict__[_STOCK_WAIT_FOR]
    return (_wait_for if type(running()) is Loop else stock)(fut, timeout)


async def _dispatching(fut: Any, timeout: Any) -> Any:
    return await _workflow_worker_wait_for(fut, timeout)  # type: ignore[name-defined]  # noqa: F821


def install() -> None:
    """Make asyncio orderly on our loops; once per process, at its start. Repeating it does nothing.

    Raises:
        ConfigurationError: It has no effect on this Python, so replays could differ.
    """
    modules: tuple[ModuleType, ...] = (asyncio.tasks, asyncio.taskgroups)
    for module in modules:
        module.__dict__["set"] = _set
    if sys.version_info < (3, 12) and _STOCK_WAIT_FOR not in asyncio.tasks.__dict__:
        wait_for = cast("FunctionType", asyncio.wait_for)
        code: CodeType = wait_for.__code__
        stock = FunctionType(code, asyncio.tasks.__dict__, "wait_for")
        asyncio.tasks.__dict__[_STOCK_WAIT_FOR] = stock
        asyncio.tasks.__dict__[_OWN_WAIT_FOR] = _by_loop
        wait_for.__code__ = cast("FunctionType", _dispatching).__code__
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
