"""From what a producer has in hand to the event that goes out: typed objects, bare types, addressed events. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, cast

import msgspec

from workflow_worker.app.events import MARK, EventDefinition
from workflow_worker.app.workflows import Workflow
from workflow_worker.model.codec import Unreadable, check_json, encode_json
from workflow_worker.model.event import CLOUD_ATTRIBUTES, Event
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.ids import INTERNAL_PREFIX, RESERVED_PREFIX, check_name, start_type
from workflow_worker.model.instants import to_ms
from workflow_worker.store.bounds import check_names
from workflow_worker.store.transitions import Publish

MAX_ATTRIBUTE_CHARACTERS = 500


class Item(msgspec.Struct, frozen=True):
    """One event of `Client.publish_many` with its options; `event` is an object of a declared class, an `Event`, or an
    event type with `data`."""

    event: object
    data: Any = None
    subject: str | None = None
    id: str | None = None
    delay: float | timedelta = 0
    type: str | None = None
    """Which of the types of a class that was declared for several."""
    attributes: Mapping[str, str] = {}
    """CloudEvents attributes ``source time tenant traceparent``."""


def definition_of(event_class: type) -> EventDefinition | None:
    """The declaration that ``@app.event`` left on a class."""
    return cast("EventDefinition | None", getattr(event_class, MARK, None))


def outgoing(item: Item, new_id: Callable[[], str], max_bytes: int) -> Publish:
    """The event to publish, checked; one without an id gets a new one, so that repeating the call is harmless.

    Raises:
        EventRejected: Too big, no JSON, or attributes that cannot be sent.
        UsageError: An object of a class that no app declares, or a type that cannot be published.
    """
    event = _event(item, new_id)
    _check(event, max_bytes)
    return Publish(event, delay_ms=to_ms(item.delay) if item.delay else 0)


def addressed(sent: Publish, workflow: str, run_id: str) -> Publish:
    """The same, for one run alone.

    Raises:
        UsageError: Workflow or run id cannot be used.
    """
    check_name("workflow", workflow)
    try:
        check_names(sent.event, workflow, run_id)
    except EventRejected as error:
        raise UsageError(f"the run's id is not usable: {error}") from error
    if not run_id:
        raise UsageError("a run's id has at least 1 character")
    return msgspec.structs.replace(sent, workflow=workflow, run=run_id)


def starting(
    workflow: object, args: tuple[Any, ...], kwargs: Mapping[str, Any], subject: str | None
) -> tuple[str, Item]:
    """The name of a workflow, and the event with which one of its runs is started.

    Raises:
        UsageError: It is none, or what is given is not what it is started with.
    """
    name = workflow_name(workflow)
    if isinstance(workflow, Workflow) and cast("Workflow[..., Any]", workflow).definition.event is None:
        data, _ = cast("Workflow[..., Any]", workflow).encode_input(args, dict(kwargs))
        return name, started_by_input(name, data, subject)
    if len(args) == 1 and not kwargs and not isinstance(args[0], Mapping):
        item = args[0] if isinstance(args[0], Item) else Item(args[0])
        return name, item if subject is None else msgspec.structs.replace(item, subject=subject)
    if isinstance(workflow, str) and (not args or (len(args) == 1 and not kwargs)):
        given: object = cast("object", args[0]) if args else kwargs
        return name, started_by_input(name, encode_json(given), subject)
    raise UsageError(
        f"workflow {name!r} is started with its event; by its name also with a mapping of its arguments, or with them"
        " by name"
    )


def started_by_input(workflow: str, data: bytes, subject: str | None) -> Item:
    """The event that starts a run of a workflow with this input: its event as JSON, or its arguments by name.

    Raises:
        UsageError: The name is not usable.
    """
    return Item(Event("", start_type(check_name("workflow", workflow)), subject, data))


def workflow_name(workflow: object) -> str:
    """The name of a workflow given as a decorated function or as text.

    Raises:
        UsageError: It is neither.
    """
    name = workflow if isinstance(workflow, str) else getattr(workflow, "name", None)
    if not isinstance(name, str):
        raise UsageError(f"{workflow!r} is not a workflow: pass the function under @app.workflow, or its name")
    return name


def _event(item: Item, new_id: Callable[[], str]) -> Event:
    given = item.event
    attributes = _attributes(item.attributes) if item.attributes else {}
    if isinstance(given, Event):
        if item.data is not None or item.type is not None:
            raise UsageError("an Event has its type and data already: pass no other")
        changes: dict[str, Any] = {"id": item.id or given.id or new_id(), "subject": item.subject or given.subject}
        return msgspec.structs.replace(given, **changes, **attributes)
    if isinstance(given, str):
        if item.type is not None and item.type != given:
            raise UsageError(f"two event types for one event: {given!r} and {item.type!r}")
        return Event(item.id or new_id(), given, item.subject, _data(item.data), **attributes)
    definition = definition_of(type(given))
    if definition is None:
        raise UsageError(
            f"{type(given).__qualname__} is not a declared event: put @app.event('its.type') above the class,"
            " or pass the event's type and its data"
        )
    if item.data is not None:
        raise UsageError(f"{type(given).__qualname__} is the event's data already: pass no other")
    event_type = item.type or definition.type
    if item.type is not None and not definition.matches(event_type):
        raise UsageError(
            f"{type(given).__qualname__} is not declared for {event_type!r}, only for {', '.join(definition.types)}"
        )
    subject = item.subject or definition.subject_of(given)
    return Event(item.id or new_id(), event_type, subject, definition.encode(given), **attributes)


def _attributes(given: Mapping[str, str]) -> dict[str, str]:
    strange = sorted(set(given).difference(CLOUD_ATTRIBUTES))
    if strange:
        raise UsageError(f"an event has no attribute {strange[0]!r}: use source, time, tenant or traceparent")
    return dict(given)


def _data(data: object) -> bytes:
    """Bytes are JSON text as it is, anything else is encoded."""
    return bytes(data) if isinstance(data, bytes | bytearray) else encode_json(data)


def _check(event: Event, max_bytes: int) -> None:
    complaint = _complaint_about_type(event.type)
    if complaint is not None:
        raise UsageError(complaint)
    check_names(event)
    for name in CLOUD_ATTRIBUTES:
        value: str | None = getattr(event, name)
        if value is not None:
            _check_attribute(name, value)
    if len(event.data) > max_bytes:
        raise EventRejected(
            f"the data of event {event.id} ({event.type}) has {len(event.data)} bytes, more than MAX_EVENT_BYTES"
            f" ({max_bytes}): store it elsewhere and send a reference"
        )
    try:
        check_json(event.data)
        event.data.decode()
        _any_json.decode(event.data)
    except (Unreadable, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise EventRejected(f"the data of event {event.id} ({event.type}) is not JSON: {error}") from error


@lru_cache(1_000)
def _complaint_about_type(event_type: str) -> str | None:
    """Why a type cannot be published. Remembered: programs publish few types, and each character is looked at."""
    if not 0 < len(event_type) <= 200 or any(c.isspace() or not c.isprintable() or c in "*#" for c in event_type):
        shown = repr(event_type[:100])
        return f"event type {shown} is not usable: 1 to 200 printable characters, no white space, '*' or '#'"
    for prefix in (RESERVED_PREFIX, INTERNAL_PREFIX):
        if event_type.startswith(prefix):
            return f"event type {event_type!r} begins with {prefix!r}, which is reserved"
    return None


def _check_attribute(name: str, value: str) -> None:
    if len(value) > MAX_ATTRIBUTE_CHARACTERS:
        raise EventRejected(f"the event's {name} has {len(value)} characters: at most {MAX_ATTRIBUTE_CHARACTERS}")
    if not value.isascii() and value != value.encode("utf-8", "replace").decode():
        raise EventRejected(f"the event's {name} holds half of a surrogate pair and has no UTF-8 form")


_any_json = msgspec.json.Decoder(msgspec.Raw)
