"""`Attempt`: one try of one action, and `Ended`: how it went."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from workflow_worker.errors.retry import Decision
from workflow_worker.model.command import StartAction
from workflow_worker.model.failure import Failure


@dataclass(frozen=True, slots=True)
class Ended:
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
    """A running attempt. Abandoned, its end is ignored; an async body is cancelled, a thread runs on unheard."""

    __slots__ = ("abandoned", "deadline", "ended", "start", "started_at", "task", "timed_out")

    def __init__(self, start: StartAction, started_at: float) -> None:
        self.start = start
        self.started_at = started_at
        self.task: asyncio.Task[None] | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.timed_out = False
        self.abandoned = False
        self.ended = False

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.abandoned = True
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
        if self.task is not None and not self.task.done():
            self.task.cancel()
