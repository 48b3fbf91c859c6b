"""Declared events: which class stands for which types, and what their subject is."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import msgspec

from workflow_worker.app.places import place_of
from workflow_worker.model.codec import JsonType, Unreadable, check_json, encode_json
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.ids import check_event_type

MARK = "__workflow_event__"
"""Attribute of a declared class that holds its `EventDefinition`."""


@dataclass(frozen=True)
class EventDefinition:
    """One class of events: its types (``a.b``, or the prefix ``a.*``) and the path to the subject in it."""

    types: tuple[str, ...]
    event_class: type
    subject: str | None = None
    places: tuple[str, ...] = field(default=(), compare=False)

    @property
    def type(self) -> str:
        """The type to publish objects of the class under.

        Raises:
            UsageError: It was declared for several types, or for a prefix: the publisher must say which.
        """
        if len(self.types) == 1 and not self.types[0].endswith(".*"):
            return self.types[0]
        raise UsageError(
            f"{self.event_class.__qualname__} stands for {', '.join(self.types)}: say which type to publish it as"
        )

    def matches(self, event_type: str) -> bool:
        """Whether the class was declared for this type."""
        return any(covers(declared, event_type) for declared in self.types)

    def encode(self, value: object) -> bytes:
        """An object of the class as JSON.

        Raises:
            UsageError: It is none of the class, or holds what has no JSON form.
        """
        if not isinstance(value, self.event_class):
            raise UsageError(f"{value!r} is not a {self.event_class.__qualname__}")
        if _is_pydantic(self.event_class):
            model: Any = value
            return model.model_dump_json().encode()
        return encode_json(value)

    def decode(self, data: bytes) -> object:
        """An object of the class. No data at all (empty, or ``null``) stands for ``{}``.

        Raises:
            EventRejected: The data does not fit the class; the reason names the field.
            UsageError: The class itself cannot be decoded to.
        """
        raw = b"{}" if data[:1] != b"{" and data.strip() in (b"", b"null") else data
        try:
            return self._read(raw)
        except Unreadable as error:
            raise EventRejected(f"does not fit {self.event_class.__qualname__}: {error}") from error
        except UsageError:
            raise
        except BaseException as error:
            raise EventRejected(f"does not fit {self.event_class.__qualname__}: {_reason(error)}") from error

    def subject_of(self, value: object) -> str | None:
        """The subject that an object of the class is about; None where it has none.

        Raises:
            UsageError: The subject is neither text, a whole number, a UUID nor an enum of those.
        """
        if self.subject is None:
            return None
        found: Any = value
        for part in self.subject.split("."):
            if found is None:
                return None
            if isinstance(found, Mapping):
                found = cast("Mapping[str, Any]", found).get(part)
            else:
                found = getattr(found, part, None)
        return _subject_text(found, f"{self.event_class.__qualname__}.{self.subject}")

    def check(self) -> None:
        """Look at the whole class now instead of at the first event.

        Raises:
            UsageError: It cannot be decoded to.
        """
        if not _is_pydantic(self.event_class):
            _ = self._json

    @cached_property
    def _read(self) -> Callable[[bytes], object]:
        if not _is_pydantic(self.event_class):
            return self._json.decode
        validate: Callable[[bytes], object] = cast("Any", self.event_class).model_validate_json

        def read(raw: bytes) -> object:
            check_json(raw)
            return validate(raw)

        return read

    @cached_property
    def _json(self) -> JsonType[object]:
        return JsonType(self.event_class)


class EventCatalogue:
    """All events that an app declares; `builtin` are known besides, and are not shown as the author's."""

    def __init__(self, builtin: Iterable[EventDefinition] = ()) -> None:
        self._by_class: dict[type, EventDefinition] = {}
        self._by_type: dict[str, EventDefinition] = {}
        self._builtin = {definition.event_class: definition for definition in builtin}

    def declare(self, event_class: type, types: Iterable[str], subject: str | None) -> EventDefinition:
        """Add a class, or more types to it.

        Raises:
            UsageError: A type is not usable or taken, or the class is none of data or lacks the subject's field.
        """
        wanted = tuple(dict.fromkeys(check_event_type(each) for each in types))
        if not wanted:
            raise UsageError("say which type the event has: @app.event('order.placed')")
        fields = _fields_of(event_class)
        if subject is not None and subject.partition(".")[0] not in fields:
            raise UsageError(
                f"{event_class.__qualname__} has no field {subject.partition('.')[0]!r} to take the subject from;"
                f" it has {', '.join(sorted(fields)) or 'none'}"
            )
        for event_type in wanted:
            if any(definition.matches(event_type) for definition in self._builtin.values()):
                raise UsageError(f"event type {event_type!r} is reserved: choose another name")
            other = self._by_type.get(event_type)
            if other is not None:
                raise UsageError(
                    f"event type {event_type!r} is declared twice: by {place_of(other.event_class)} and by"
                    f" {place_of(event_class)}; one type has one class"
                )
        known = self._by_class.get(event_class)
        if known is not None:
            raise UsageError(f"{place_of(event_class)} is declared twice; give all its types to one @app.event(...)")
        definition = EventDefinition(wanted, event_class, subject)
        self._by_class[event_class] = definition
        self._by_type.update(dict.fromkeys(wanted, definition))
        setattr(event_class, MARK, definition)
        return definition

    @property
    def definitions(self) -> tuple[EventDefinition, ...]:
        """All declared classes, in the order of their declaration."""
        return tuple(self._by_class.values())

    @property
    def types(self) -> dict[str, EventDefinition]:
        """All declared types and prefixes."""
        return dict(self._by_type)

    def names(self) -> dict[str, type]:
        """The classes by their own names."""
        return {event_class.__name__: event_class for event_class in self._by_class}

    def of(self, event_class: type) -> EventDefinition:
        """The definition of a class.

        Raises:
            UsageError: It was not declared in this app.
        """
        found = self._by_class.get(event_class) or self._builtin.get(event_class)
        if found is None:
            raise UsageError(
                f"{place_of(event_class)} is not a declared event of this app: put @app.event('its.type') above"
                " the class"
            )
        return found

    def types_of(self, event_class: type) -> tuple[str, ...]:
        """The types declared for a class.

        Raises:
            UsageError: It was not declared in this app.
        """
        return self.of(event_class).types

    def definition_for(self, event_type: str) -> EventDefinition | None:
        """What a type stands for: its own declaration, else that of the longest prefix, cut at dots."""
        builtin = (each for each in self._builtin.values() if each.matches(event_type))
        found = self._by_type.get(event_type) or next(builtin, None)
        stem = event_type
        while found is None and "." in stem:
            stem = stem.rpartition(".")[0]
            found = self._by_type.get(stem + ".*")
        return found

    def outgoing(self, value: object, subject: str | None) -> Event:
        """The event that a workflow emits; it gets its id when it is committed.

        Raises:
            UsageError: Its class is not declared in this app, or its type cannot be emitted.
        """
        if isinstance(value, Event):
            check_event_type(value.type)
            return msgspec.structs.replace(value, subject=subject or value.subject, origin=None)
        definition = self.of(type(value))
        return Event("", definition.type, subject or definition.subject_of(value), definition.encode(value))

    def decode(self, event: Event, event_class: type | None = None) -> object:
        """The event as an object: of its own class, or of `event_class`.

        Raises:
            EventRejected: It does not fit, or its type is not declared.
        """
        definition = self.definition_for(event.type) if event_class is None else self.of(event_class)
        if definition is None:
            raise EventRejected(f"no class is declared for events of type {event.type!r}")
        return definition.decode(event.data)


def covers(declared: str, event_type: str) -> bool:
    """Whether a declared type, or prefix ``a.b.*``, covers an event type (or a longer prefix)."""
    return declared == event_type or (declared.endswith(".*") and event_type.startswith(declared[:-1]))


def _is_pydantic(event_class: type) -> bool:
    return hasattr(event_class, "model_validate_json") and hasattr(event_class, "model_dump_json")


def _fields_of(event_class: Any) -> frozenset[str]:
    if isinstance(event_class, type):
        found: Any = event_class
        if _is_pydantic(found):
            return frozenset(found.model_fields)
        if issubclass(found, msgspec.Struct):
            return frozenset(found.__struct_fields__)
        if dataclasses.is_dataclass(found):
            return frozenset(each.name for each in dataclasses.fields(found))
    raise UsageError(
        f"{event_class!r} cannot be an event: @app.event goes above a dataclass (above its @dataclass line), a"
        " msgspec.Struct or a pydantic model"
    )


def _subject_text(found: object, where: str) -> str | None:
    if isinstance(found, enum.Enum):
        found = found.value
    if found is None or found == "":
        return None
    if isinstance(found, str):
        return found
    if isinstance(found, int | uuid.UUID) and not isinstance(found, bool):
        return str(found)
    raise UsageError(f"{where} is {found!r}: a subject is text, a whole number or a UUID")


_REASON_KEPT = 500


def _reason(error: BaseException) -> str:
    """What is wrong, as text that can be stored; the error is a stranger's and may not even have a text."""
    try:
        text = _complaint(error)
    except Exception:  # noqa: BLE001 - a stranger's __str__ may do anything
        text = type(error).__qualname__
    return text[:_REASON_KEPT].encode("utf-8", "backslashreplace").decode()


def _complaint(error: BaseException) -> str:
    """The first complaint of a pydantic ValidationError with its path; the text of any other error."""
    complaints: Any = getattr(error, "errors", None)
    if callable(complaints):
        first: Any = next(iter(cast("Iterable[Any]", complaints())), None)
        if isinstance(first, dict):
            complaint = cast("dict[str, Any]", first)
            path = ".".join(str(part) for part in complaint.get("loc", ()))
            return f"{path}: {complaint.get('msg')}" if path else str(complaint.get("msg"))
    return f"{type(error).__qualname__}: {error}"
