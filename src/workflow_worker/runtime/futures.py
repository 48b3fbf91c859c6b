"""What a workflow can await. All of it hashes by number: asyncio keeps tasks in sets, and addresses differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, cast

from workflow_worker.model.command import CancelAction, CancelTimer, StartAction, StartTimer
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.failure import Failure, rebuild
from workflow_worker.runtime.ledger import Ledger, Step
from workflow_worker.runtime.places import Place, show

R = TypeVar("R")
Scope = tuple[str, "Scope | None"]


class NumberedFuture(asyncio.Future[R]):
    """A future whose hash is a small positive number, the same in every replay."""

    __slots__ = ("number",)

    number: int

    def __hash__(self) -> int:
        return self.number


class NumberedTask(asyncio.Task[R]):
    """A task that hashes by number and remembers its context, which Python 3.11 does not show.

    The number must be set between ``__new__`` and ``__init__``: the C initialiser already hashes the task.
    """

    __slots__ = ("context", "number", "owed", "parent")

    context: Context
    number: int
    parent: Scope | None
    """The names of the tasks that started this one, innermost first: a pair of name and the rest."""
    owed: bool
    """Whether a cancel that a task group kept back is still to be delivered."""

    def __hash__(self) -> int:
        return self.number

    @property
    def path(self) -> str:
        """The names of the tasks that led to this one, and its own: ``main/task-2``."""
        names, rest = [self.get_name()], self.parent
        while rest is not None:
            names.append(rest[0])
            rest = rest[1]
        return "/".join(reversed(names))

    def cancel_again(self) -> None:
        """Deliver a cancel, counted already, at the task's next ``await``; to be called by the task itself.

        Not by `cancel` at once: whether a later `uncancel` takes that back depends on the Python version.
        """
        self.owed = True
        cast("Any", self.get_loop()).run_next(self._deliver)

    def _deliver(self) -> None:
        if self.owed and not self.done():
            super().uncancel()
            super().cancel()
        self.owed = False

    def uncancel(self) -> int:
        """Take one cancel request back; with the last one goes what has not been delivered yet.

        Raises:
            UsageError: A task cancels itself and takes that back before its next ``await``. Python 3.13 and later then
                do not cancel, earlier ones do.
        """
        left = super().uncancel()
        if left == 0:
            self.owed = False
            if getattr(self, "_must_cancel", False):
                raise UsageError(
                    "uncancel() before the cancel was delivered differs between Python versions and could not be"
                    " replayed: await something (asyncio.sleep(0)) and catch asyncio.CancelledError first"
                )
        return left


class Awaited(NumberedFuture[R]):
    """A step of a run that the code can await. Given up, it leaves the ledger; a record that comes later is ignored."""

    __slots__ = ("ledger", "place")

    ledger: Ledger
    place: Place | None

    def cancel(self, msg: Any | None = None) -> bool:
        """Nobody waits for it any more."""
        if not super().cancel(msg):
            return False
        self.ledger.abandon(cast("Step", self))
        return True


class Mailed(Awaited[R]):
    """A step that is asked for and taken back by events: it has no commands of its own, and no attempts."""

    __slots__ = ()

    def start(self) -> None:
        """An event asks for it."""

    def stop(self) -> None:
        """An event takes it back."""

    def resume(self) -> None:
        """There are no attempts to forget."""


class TaskLike:
    """What asyncio asks of a task and a call has to answer: ``asyncio.create_task(call)`` and
    ``TaskGroup.create_task(call)`` return the call itself, so that a fan-out needs no task per call."""

    __slots__ = ()

    def set_name(self, value: object) -> None:
        """A call has the name of what it calls; `asyncio.TaskGroup` asks for this method."""

    def get_coro(self) -> Coroutine[Any, Any, Any] | None:
        """There is none."""
        return None

    def cancelling(self) -> int:
        """A call keeps no count of cancel requests."""
        return 0

    def uncancel(self) -> int:
        """A call keeps no count of cancel requests."""
        return 0


class Call(TaskLike, Awaited[R]):
    """One call of an action: made, and numbered, when it is written; awaited whenever the author likes."""

    __slots__ = ("arguments", "attempts", "checksum", "decode", "due", "name", "options")

    name: str
    arguments: bytes
    checksum: int
    decode: Callable[[bytes], R]
    options: object | None
    attempts: int
    due: int

    def start(self) -> StartAction | CancelAction:
        """The command that asks for the action, with what the history knows of its attempts."""
        return StartAction(
            self.number, self.name, self.arguments, self.checksum, self.attempts, self.due, options=self.options
        )

    def stop(self) -> CancelAction:
        """The command that takes the action back."""
        return CancelAction(self.number)

    def resume(self) -> None:
        """Count attempts from none again."""
        self.attempts = self.due = 0

    def complete(self, result: bytes) -> None:
        """Deliver a recorded result; what does not decode is raised at the ``await``."""
        try:
            value = self.decode(result)
        except Exception as error:  # noqa: BLE001 - the decoder runs the author's types; their error is the author's
            unreadable = UsageError(f"the recorded result of action {self} does not fit its declared type: {error}")
            unreadable.__cause__ = error
            self.set_exception(unreadable)
        else:
            self.set_result(value)

    def fail(self, failure: Failure) -> None:
        """Deliver a recorded error, as it was or as near as can be."""
        self.set_exception(rebuild(failure))

    def park(self, failure: Failure, attempts: int) -> None:
        """The action failed for good, and the run is suspended at it."""
        del failure
        self.attempts, self.due = attempts, 0

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up; a record of it that comes later is ignored."""
        if not super().cancel(msg):
            return False
        self.arguments = b""
        return True

    def get_name(self) -> str:
        """The action's name and the call's number."""
        return f"{self.name}#{self.number}"

    def __str__(self) -> str:
        return f"'{self.name}' (#{self.number})"

    def __repr__(self) -> str:
        return f"<call of action {self} at {show(self.place)}>"


class Ready(asyncio.Handle):
    """A callback that runs in this turn of the loop. Unlike asyncio's own it catches nothing: see `Loop.drain`."""

    __slots__ = ("arguments", "callback", "context", "dropped")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context) -> None:
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.context = context
        self.dropped = False

    def cancel(self) -> None:
        """Do not run it after all."""
        self.dropped = True
        self.callback = None
        self.arguments = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.dropped

    def __repr__(self) -> str:
        return f"<ready {self.callback!r}>"


class Timer(asyncio.TimerHandle):
    """A durable timer: `due` in milliseconds since 1970, because seconds as floats do not survive arithmetic."""

    __slots__ = ("arguments", "callback", "context", "dropped", "due", "ledger", "number", "place")

    number: int

    def __init__(
        self,
        due: int,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context,
        ledger: Ledger,
        place: Place | None,
    ) -> None:
        self.due = due
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.context = context
        self.dropped = False
        self.ledger = ledger
        self.place = place

    def start(self) -> StartTimer:
        """The command that asks for the timer."""
        return StartTimer(self.number, self.due)

    def stop(self) -> CancelTimer:
        """The command that takes the timer back."""
        return CancelTimer(self.number)

    def resume(self) -> None:
        """A timer has no attempts."""

    def cancel(self) -> None:
        """Give the timer up; does nothing once it fired."""
        if not self.dropped:
            self.dropped = True
            self.callback = None
            self.arguments = ()
            self.ledger.abandon(self)

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.dropped

    def when(self) -> float:
        """When it is due, in seconds of the loop's time."""
        return self.due / 1000

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<timer #{self.number} due {self.due} at {show(self.place)}>"
