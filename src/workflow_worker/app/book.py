"""`Book`: all that the keeper of a schedule knows, and what it hands to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from workflow_worker.app.actions import Action
from workflow_worker.model import internal
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.model.schedules import ScheduleSet, ScheduleSpec, TickStart


class Due(msgspec.Struct, frozen=True):
    """A run to start; `asked`: a person wants it, whatever the schedule says."""

    run_id: str
    at_ms: int
    asked: bool = False


class Started(msgspec.Struct, frozen=True):
    """The run that the next one waits for, and when it was sent for."""

    run_id: str
    sent_ms: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a schedule: see `Ticks`. With a `problem` nothing does."""

    due: list[int] = []
    missed: int = 0
    until_ms: int = 0
    next_ms: int | None = None
    problem: str = ""


class Book(msgspec.Struct, kw_only=True):
    """All that a keeper knows, handed to its next history. Ticks up to `after_ms` are dealt with; `backfills` are
    spans whose ticks are still to be made; `revision` counts how often the schedule was set. While there is a `problem`
    nothing is started."""

    spec: ScheduleSpec
    after_ms: int
    next_ms: int | None = None
    last_ms: int | None = None
    running: Started | None = None
    queue: list[Due] = []
    backfills: list[tuple[int, int]] = []
    started: int = 0
    skipped: int = 0
    missed: int = 0
    paused: bool = False
    problem: str = ""
    revision: int = 1
    told: list[str] = []


@dataclass(frozen=True, slots=True)
class Tools:
    """The keeper's actions: `plan` takes a schedule's name, its spec, and the spans of `find_ticks`; `is_over` a run,
    when it was sent for, and the time."""

    plan: Action[[str, ScheduleSpec, int, int, int], Plan]
    is_over: Action[[str, int, int], bool]


class TickRun:
    """A workflow as `Children.start` takes it, known by its name alone."""

    def __init__(self, name: str, events: object, subject: str | None, start: TickStart) -> None:
        self.name = name
        self.events = events
        self._subject = subject
        self._start = start

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, str | None]:
        """The data of the start event."""
        return msgspec.json.encode(self._start), self._subject

    def decode_result(self, raw: bytes) -> bytes:
        """Nobody reads it."""
        return raw


def first_book(event: Event, now_ms: int) -> Book:
    """What a keeper begins with: the schedule as it was set, or the book of the history before.

    Raises:
        EventRejected: The event cannot be read.
    """
    try:
        if event.type == internal.START:
            return msgspec.json.decode(event.data, type=Book)
        return Book(spec=msgspec.json.decode(event.data, type=ScheduleSet).spec, after_ms=now_ms)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventRejected(f"is no schedule: {error}") from error
