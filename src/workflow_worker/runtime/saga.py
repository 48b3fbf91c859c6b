"""`Saga`: undoes, last first, what was done in an ``async with wf.saga()`` block that failed or was cancelled.

Which calls belong to it follows the context of tasks: what is called in the block, and in the tasks started there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol

from workflow_worker.model.exceptions import ContinueAsNew, Evicted, UsageError
from workflow_worker.runtime.guarded import GuardedCall

Undo = Callable[[bytes | None], Awaitable[object]]
"""Performs the compensation of one call; gets the recorded result, None where nobody knows it."""


class Shelter(Protocol):
    """Keeps the run going until work that no cancel may stop is done."""

    def shelter(self, work: Any, name: str) -> asyncio.Task[None]:
        """Run it in a task of its own."""
        ...


class Saga:
    """The compensations of one block, in the order of the calls that they undo."""

    def __init__(self, shelter: Shelter) -> None:
        self._shelter = shelter
        self._steps: list[_CallMade | _Added] = []
        self._outer: Saga | None = None
        self._failed = False
        self._left = False

    def add(self, fn: Callable[..., Awaitable[object]], *args: Any, **kwargs: Any) -> None:
        """Undo something that no action with a compensation did: ``fn(*args, **kwargs)`` is awaited when its turn
        comes. An action is durable and tried again until it succeeds.

        Raises:
            UsageError: The block is over.
        """
        self._refuse_if_over("saga.add")
        self._steps.append(_Added(fn, args, kwargs))

    def note(self, call: GuardedCall[Any], undo: Undo) -> None:
        """A call was made in the block."""
        self._steps.append(_CallMade(call, undo))

    def takes(self, action: str) -> bool:
        """Whether calls belong to this saga now.

        Raises:
            UsageError: It is being undone: what is done now would stay.
        """
        if self._failed:
            self._refuse_if_over(f"action {action!r}")
        return not self._left

    async def __aenter__(self) -> Saga:
        self._outer = current_saga.get()
        current_saga.set(self)
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current_saga.set(self._outer)
        if isinstance(error, GeneratorExit | Evicted):
            return
        self._left = True
        done = error is None or isinstance(error, ContinueAsNew)
        if done and (self._outer is None or not self._outer._failed):
            if self._outer is not None:
                self._outer._steps += self._steps
            return
        # Also a block that went well is undone if the one around it has failed meanwhile: nobody else would do it.
        self._failed = True
        await self._undo_all(error)

    async def _undo_all(self, error: BaseException | None) -> None:
        """Undo everything; a cancel that comes meanwhile is obeyed afterwards."""
        for step in self._steps:
            step.give_up()
        work = self._shelter.shelter(self._undo_each(), "compensations")
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as late:
                cancelled = late
        work.result()
        if cancelled is not None and not isinstance(error, asyncio.CancelledError):
            try:
                raise cancelled
            finally:
                cancelled = None  # the error's traceback holds this frame

    async def _undo_each(self) -> None:
        current_saga.set(None)
        while self._steps:
            await self._steps.pop().undo()

    def _refuse_if_over(self, what: str) -> None:
        if self._failed:
            raise UsageError(
                f"{what} comes too late: its saga has failed and is being undone. A task was left running in it;"
                " asyncio.TaskGroup stops the others when one fails, asyncio.gather does not"
            )
        if self._left:
            raise UsageError(f"{what} comes too late: its `async with wf.saga()` block is over")


class _CallMade:
    """One call of an action with a compensation."""

    __slots__ = ("_call", "_undo")

    def __init__(self, call: GuardedCall[Any], undo: Undo) -> None:
        self._call = call
        self._undo = undo

    def give_up(self) -> None:
        """Stop what is still under way."""
        self._call.cancel()

    async def undo(self) -> None:
        """Compensate, unless it is known that nothing happened."""
        call = self._call
        await call.ended()
        if call.outcome != "not done":
            await self._undo(call.raw)


class _Added:
    """An undo that the author added."""

    __slots__ = ("_args", "_fn", "_kwargs")

    def __init__(self, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._fn = fn
        self._args = args
        self._kwargs = kwargs

    def give_up(self) -> None:
        """Nothing of it has begun."""

    async def undo(self) -> None:
        """Do it."""
        await self._fn(*self._args, **self._kwargs)


current_saga: ContextVar[Saga | None] = ContextVar("workflow_worker_saga", default=None)
"""The innermost saga that the running code is in."""
