"""`Arrivals`: recorded events that nobody has taken yet, and the waits that nobody has answered yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from workflow_worker.model.command import AddWait, RemoveWait
from workflow_worker.model.event import Event
from workflow_worker.runtime.futures import NumberedFuture

Topic = tuple[str, str]
"""An event type (or pattern) and a subject other than the run's own."""


class DeclaredEvents(Protocol):
    """What the runtime asks of the registry of events."""

    def types_of(self, event_class: type) -> tuple[str, ...]:
        """The types declared for a class; one may be a prefix pattern such as ``orders.*``."""
        ...

    def outgoing(self, value: object, subject: str | None) -> Event:
        """An object of a declared class as an event to emit.

        Raises:
            UsageError: Its class is not declared.
        """
        ...

    def decode(self, event: Event, event_class: type | None = None) -> object:
        """The event as an instance of its class.

        Raises:
            EventRejected: It does not fit.
        """
        ...


class EventWait(NumberedFuture[Any]):
    """One ``wf.wait_for`` that is under way."""

    __slots__ = ("choices", "subject", "topics")

    choices: tuple[tuple[type, tuple[str, ...]], ...]
    subject: str | None
    topics: tuple[Topic, ...]

    def class_for(self, event_type: str) -> type | None:
        """The first awaited class that this type of event belongs to."""
        for event_class, types in self.choices:
            for declared in types:
                if declared == event_type or (declared.endswith(".*") and event_type.startswith(declared[:-1])):
                    return event_class
        return None


class Arrivals:
    """Matches events with waits, both oldest first.

    A wait that names no subject takes any event of its type that reached the run (about its own subject, or addressed
    to it), except those about a subject that some wait of this run has named: these came for that wait.
    """

    __slots__ = ("_events", "_kept", "_named", "_own", "_told", "_waits", "_wanted")

    def __init__(self, own_subject: str | None, events: DeclaredEvents) -> None:
        self._own = own_subject
        self._events = events
        self._kept: dict[str, Event] = {}
        self._waits: dict[EventWait, None] = {}
        self._named: set[str] = set()
        self._wanted: dict[Topic, int] = {}
        self._told: dict[Topic, None] = {}

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Entries of the mail that nobody took, in order."""
        return tuple(self._kept)

    @property
    def awaited(self) -> bool:
        """Whether any code waits for an event."""
        return bool(self._waits)

    @property
    def awaited_classes(self) -> tuple[tuple[type, ...], ...]:
        """The event classes of each wait, oldest first."""
        return tuple(tuple(event_class for event_class, _ in wait.choices) for wait in self._waits)

    def deliver(self, entry: str, event: Event) -> None:
        """Give an event to the oldest wait that it answers, or keep it."""
        for wait in self._waits:
            if self._answer(wait, event):
                return
        self._kept[entry] = event

    @property
    def kept(self) -> tuple[tuple[str, Event], ...]:
        """Mail that nobody took, with its entries, in order."""
        return tuple(self._kept.items())

    def take_all(self, wanted: EventWait) -> list[Event]:
        """Take out all kept events of the classes of a wait that is not opened."""
        found = [(entry, event) for entry, event in self._kept.items() if wanted.class_for(event.type) is not None]
        for entry, _ in found:
            del self._kept[entry]
        return [event for _, event in found]

    def open(self, wait: EventWait) -> None:
        """A wait begins; the oldest kept event that fits answers it at once."""
        if wait.subject is not None and wait.subject != self._own:
            self._named.add(wait.subject)
        for entry, event in self._kept.items():
            if self._answer(wait, event):
                del self._kept[entry]
                return
        self._waits[wait] = None
        for topic in wait.topics:
            self._wanted[topic] = self._wanted.get(topic, 0) + 1

    def close(self, wait: EventWait) -> None:
        """A wait is over, answered or not."""
        if wait not in self._waits:
            return
        del self._waits[wait]
        for topic in wait.topics:
            self._wanted[topic] -= 1
            if not self._wanted[topic]:
                del self._wanted[topic]

    def commands(self) -> list[AddWait | RemoveWait]:
        """How the subjects waited for changed since the last time."""
        if not self._wanted and not self._told:
            return []
        found: list[AddWait | RemoveWait] = [RemoveWait(*topic) for topic in self._told if topic not in self._wanted]
        found += [AddWait(*topic) for topic in self._wanted if topic not in self._told]
        self._told = dict.fromkeys(self._wanted)
        return found

    def outstanding(self) -> list[AddWait]:
        """All subjects waited for, told before or not."""
        return [AddWait(*topic) for topic in self._wanted]

    def choices(self, classes: Sequence[type]) -> tuple[tuple[type, tuple[str, ...]], ...]:
        """The declared types of each class."""
        return tuple((event_class, self._events.types_of(event_class)) for event_class in classes)

    def topics(self, choices: Sequence[tuple[type, tuple[str, ...]]], subject: str | None) -> tuple[Topic, ...]:
        """What the store must be asked to deliver; nothing for the run's own subject, which comes anyway."""
        if subject is None or subject == self._own:
            return ()
        return tuple(dict.fromkeys((declared, subject) for _, types in choices for declared in types))

    def silence(self) -> None:
        """Forget all waits, so that no cycle of references is left."""
        for wait in self._waits:
            wait.cancel()
        self._waits.clear()

    def _answer(self, wait: EventWait, event: Event) -> bool:
        if wait.done() or not self._is_about(wait, event):
            return False
        event_class = wait.class_for(event.type)
        if event_class is None:
            return False
        try:
            value = self._events.decode(event, event_class)
        except Exception as error:  # noqa: BLE001 - whatever the author's class raises belongs at the author's `await`
            wait.set_exception(error)
        else:
            wait.set_result(value)
        return True

    def _is_about(self, wait: EventWait, event: Event) -> bool:
        if wait.subject is not None:
            return event.subject == wait.subject
        return event.subject is None or event.subject == self._own or event.subject not in self._named
