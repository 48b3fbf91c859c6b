"""`Driver`: feeds one execution as a worker does, keeps its history, and replays it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar, cast

import msgspec

from workflow_worker.model.command import (
    CancelAction,
    CancelTimer,
    Command,
    Complete,
    EmitEvent,
    StartAction,
    StartTimer,
    Suspend,
)
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.model.failure import describe
from workflow_worker.model.ids import run_ref
from workflow_worker.model.record import (
    ActionCompleted,
    ActionRaised,
    CancelRequested,
    EventReceived,
    Record,
    RunStarted,
    TimerFired,
)
from workflow_worker.runtime.closing import Graveyard
from workflow_worker.runtime.execution import DeclaredEvents, Execution, current_execution
from workflow_worker.runtime.futures import Call

START = 1_764_000_000_000
Main = Callable[[], Coroutine[Any, Any, Any]]
C = TypeVar("C")
OPENED: dict[int, Execution] = {}
"""Executions of the present test; `conftest` closes them."""


class Boom(Exception):
    """What a failing action raises here."""


@dataclass(frozen=True)
class Packed:
    """An event class."""

    tracking: str = ""


@dataclass(frozen=True)
class Paid:
    """Another."""

    amount: int = 0


class Registry:
    """The declared events of these tests; `Paid` is declared with a prefix pattern."""

    def __init__(self) -> None:
        self.types: dict[type, tuple[str, ...]] = {Packed: ("packed",), Paid: ("paid.*",)}

    def types_of(self, event_class: type) -> tuple[str, ...]:
        return self.types[event_class]

    def outgoing(self, value: object, subject: str | None) -> Event:
        event_type = self.types[type(value)][0].removesuffix(".*")
        return Event("", event_type, subject, msgspec.json.encode(value))

    def decode(self, event: Event, event_class: type | None = None) -> object:
        assert event_class is not None
        try:
            return msgspec.json.decode(event.data, type=cast_any(event_class))
        except msgspec.ValidationError as error:
            raise EventRejected(str(error)) from error


def _act(name: str, *arguments: Any) -> Call[Any]:
    """Call an action by name, as the app's wrapper does for a declared one."""
    execution = current_execution()
    assert execution is not None, "outside a run"
    return execution.call(name, msgspec.json.encode(arguments), msgspec.json.decode, None)


# The wrapper of a declared action lies in our package, so its frame is not taken for the author's line.
act = cast("Callable[..., Call[Any]]", FunctionType(_act.__code__, {**globals(), "__name__": "workflow_worker.tests"}))


class Driver:
    """One run with its history. Time goes on by one second with every record."""

    def __init__(
        self,
        main: Main,
        history: Sequence[Record] = (),
        *,
        subject: str | None = "order-1",
        ref: str = "test:1",
        seed: str = "seed",
        packed: bool = False,
        events: DeclaredEvents | None = None,
    ) -> None:
        self.main = main
        self.subject = subject
        self.ref = ref
        self.seed = seed
        self.events = events or Registry()
        self.encode: Callable[[Any], bytes] = msgspec.msgpack.encode if packed else msgspec.json.encode
        """How results of actions are encoded: declared ones use msgpack."""
        self.steps: list[tuple[Sequence[Record], list[Command]]] = []
        self.graveyard = Graveyard()
        self.history: list[Record] = list(history)
        self.given: list[Command] = []
        self.open: dict[int, StartAction | StartTimer] = {}
        self.run = self.fresh()
        self.steps.append((self.history[:], self.take(self.run.feed(self.history))))

    def fresh(self) -> Execution:
        """Another execution of the same run, not yet fed; closed at the end of the test at the latest."""
        execution = Execution(
            ref=run_ref(*self.ref.split(":")),
            subject=self.subject,
            started_at=START,
            seed=self.seed,
            main=self.main,
            events=self.events,
            encode=msgspec.json.encode,
            graveyard=self.graveyard,
        )
        OPENED[id(execution)] = execution
        return execution

    def close(self) -> None:
        """Close the run."""
        self.run.close()
        OPENED.pop(id(self.run), None)

    @property
    def now(self) -> int:
        return START + 1000 * len(self.history)

    def take(self, commands: list[Command]) -> list[Command]:
        self.given += commands
        for command in commands:
            if isinstance(command, StartAction | StartTimer):
                self.open[command.number] = command
            elif isinstance(command, CancelAction | CancelTimer) and not getattr(command, "wait", False):
                self.open.pop(command.number, None)
        return commands

    @property
    def emitted(self) -> list[EmitEvent]:
        """The events that the run sent so far, in order."""
        return [command for command in self.given if isinstance(command, EmitEvent)]

    def mail(self, event_type: str, message: object) -> EventReceived:
        """Mail from another run."""
        entry = f"{len(self.history)}-0"
        return EventReceived(self.now + 1000, entry, Event(entry, event_type, data=msgspec.json.encode(message)))

    def check_every_crash(self) -> None:
        """A worker that dies behind any record has a successor that replays, and goes on in the very same way."""
        begun = RunStarted(START, "3.11", "1")
        for place in range(len(self.steps)):
            before = [record for records, _ in self.steps[: place + 1] for record in records]
            other = self.fresh()
            known = {(command.number, command.event.type) for command in self.emitted}
            again = other.feed([begun, *before])
            assert {(c.number, c.event.type) for c in again if isinstance(c, EmitEvent)} <= known
            for records, commands in self.steps[place + 1 :]:
                assert other.feed(records) == commands, f"after a crash behind step {place}"
            other.close()
            del OPENED[id(other)]

    def feed(self, *records: Record) -> list[Command]:
        self.history += records
        commands = self.take(self.run.feed(records))
        self.steps.append((records, commands))
        return commands

    def action(self, name: str) -> StartAction:
        """The open action of that name."""
        return next(c for c in self.open.values() if isinstance(c, StartAction) and c.name == name)

    def done(self, name: str, result: object = None) -> ActionCompleted:
        """The record of an action's completion."""
        command = self.action(name)
        return ActionCompleted(self.now + 1000, command.number, name, command.checksum, self.encode(result))

    def raised(self, name: str, error: BaseException) -> ActionRaised:
        """The record of an action's final error."""
        command = self.action(name)
        return ActionRaised(self.now + 1000, command.number, name, command.checksum, describe(error))

    def complete(self, name: str, result: object = None) -> list[Command]:
        record = self.done(name, result)
        self.open.pop(record.number)
        return self.feed(record)

    def fail(self, name: str, error: BaseException) -> list[Command]:
        record = self.raised(name, error)
        self.open.pop(record.number)
        return self.feed(record)

    def fired(self) -> TimerFired:
        """The record of the earliest timer."""
        timers = [c for c in self.open.values() if isinstance(c, StartTimer)]
        first = min(timers, key=lambda timer: (timer.due, timer.number))
        return TimerFired(max(first.due, self.now), first.number, first.due)

    def fire(self) -> list[Command]:
        record = self.fired()
        self.open.pop(record.number)
        return self.feed(record)

    def event(self, event_type: str, data: object, *, subject: str | None = "order-1") -> EventReceived:
        entry = f"{len(self.history)}-0"
        return EventReceived(
            self.now + 1000, entry, Event(entry, event_type, subject=subject, data=msgspec.json.encode(data))
        )

    def cancel(self) -> list[Command]:
        return self.feed(CancelRequested(self.now + 1000, f"c{len(self.history)}", "somebody", "no reason"))

    def replay(self) -> list[Command]:
        """What another execution says after the whole history in one feed."""
        other = self.fresh()
        try:
            return other.feed(self.history)
        finally:
            other.close()
            del OPENED[id(other)]

    def result(self) -> Any:
        """The decoded result of a run that completed."""
        return cast_any(msgspec.json.decode(self.last(Complete).result))

    def last(self, kind: type[C]) -> C:
        command = self.given[-1]
        assert isinstance(command, kind), command
        return command

    def suspension(self) -> str:
        """Why the run asked to be suspended."""
        return str(self.last(Suspend).failure)


def names(commands: Sequence[Command]) -> list[str]:
    """Commands in short: names of started actions, class names of the others."""
    return [c.name if isinstance(c, StartAction) else type(c).__name__ for c in commands]


def started(commands: Sequence[Command]) -> list[StartAction]:
    """The started actions."""
    return [c for c in commands if isinstance(c, StartAction)]


def cast_any(value: object) -> Any:
    """For what a test does on purpose against the types."""
    return cast("Any", value)
