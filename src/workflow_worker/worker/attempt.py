"""`Attempt`: one try of one action, and `Ended`: how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from workflow_worker.app.attempt import AttemptContext
from workflow_worker.errors.retry import Decision
from workflow_worker.model.command import StartAction
from workflow_worker.model.environment import Alarm
from workflow_worker.model.failure import Failure


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The end of an attempt. Without a `failure`, `result` is its encoded value; with one, `decision` says what
    follows and `rule` which rule of the classification said so."""

    action: str
    step: int
    attempt: int
    took_ms: float
    result: bytes = b""
    failure: Failure | None = None
    decision: Decision | None = None
    rule: str = ""


class Attempt:
    """A running attempt. Abandoned, its end is ignored; an async body is cancelled, a thread runs on unheard.

    `token` is the fencing token that its body sees; `on_abandoned` is told when a body is left to itself.
    """

    __slots__ = (
        "abandoned",
        "context",
        "deadline",
        "ended",
        "ends_by",
        "in_thread",
        "on_abandoned",
        "start",
        "started_at",
        "task",
        "timed_out",
        "token",
    )

    def __init__(self, start: StartAction, started_at: float, token: int = 0) -> None:
        self.start = start
        self.started_at = started_at
        self.token = token
        self.in_thread = False
        """Whether the body runs in a thread at this moment; written by that thread."""
        self.on_abandoned: Callable[[], None] | None = None
        self.context: AttemptContext | None = None
        """What its body sees of it, once it has asked."""
        self.task: asyncio.Task[None] | None = None
        self.deadline: Alarm | None = None
        self.timed_out = False
        self.ends_by: float | None = None
        """Until when (monotonic seconds) a body that was cancelled by its time limit must have ended."""
        self.abandoned = False
        self.ended = False

    @property
    def runs_on(self) -> bool:
        """Whether the body is still at work."""
        return self.in_thread or (self.task is not None and not self.task.done())

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.abandoned = True
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
        if self.task is not None and not self.task.done():
            self.task.cancel()
            if self.on_abandoned is not None:
                self.on_abandoned()
                self.on_abandoned = None


def outcome_of(body: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What a sync body returned or raised, for a thread to hand over: a future takes no StopIteration, and a thread no
    SystemExit."""
    try:
        return body(), None
    except BaseException as error:  # noqa: BLE001 - whatever a body raises is its error
        return None, error


def as_raisable(error: BaseException) -> BaseException:
    """The error itself, but for those that mean something else when a coroutine raises them."""
    if isinstance(error, StopIteration | StopAsyncIteration | GeneratorExit | asyncio.CancelledError):
        return RuntimeError(f"the action raised {type(error).__qualname__}: {error}")
    return error
