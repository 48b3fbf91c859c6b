"""From what a producer has in hand to the event that goes out: typed objects, bare types, addressed events. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import msgspec

from workflow_worker.app.events import MARK, EventDefinition
from workflow_worker.model.codec import Unreadable, check_json, encode_json
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.ids import RESERVED_PREFIX, check_name
from workflow_worker.model.instants import to_ms
from workflow_worker.store.transitions import Publish

MAX_ID_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Item:
    """One event of `Client.publish_many` with its options; `event` is an object of a declared class, an `Event`, or an
    event type with `data`."""

    event: object
    data: Any = None
    subject: str | None = None
    id: str | None = None
    delay: float | timedelta = 0
    type: str | None = None
    """Which of the types of a class that was declared for several."""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
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
    event = _event(item)
    if not event.id:
        event = msgspec.structs.replace(event, id=new_id())
    _check(event, max_bytes)
    return Publish(event, delay_ms=to_ms(item.delay))


def addressed(sent: Publish, workflow: str, run_id: str) -> Publish:
    """The same, for one run alone.

    Raises:
        UsageError: Workflow or run id cannot be used.
    """
    check_name("workflow", workflow)
    if not run_id or len(run_id) > MAX_ID_CHARACTERS:
        raise UsageError(f"a run's id has 1 to {MAX_ID_CHARACTERS} characters, not {len(run_id)}")
    return replace(sent, workflow=workflow, run=run_id)


def workflow_name(workflow: object) -> str:
    """The name of a workflow given as a decorated function or as text.

    Raises:
        UsageError: It is neither.
    """
    name = workflow if isinstance(workflow, str) else getattr(workflow, "name", None)
    if not isinstance(name, str):
        raise UsageError(f"{workflow!r} is not a workflow: pass the function under @app.workflow, or its name")
    return name


def _event(item: Item) -> Event:
    given = item.event
    if isinstance(given, Event):
        if item.data is not None or item.type is not None:
            raise UsageError("an Event has its type and data already: pass no other")
        changes: dict[str, Any] = {"id": item.id or given.id, "subject": item.subject or given.subject}
        return msgspec.structs.replace(given, **changes, **_attributes(item))
    if isinstance(given, str):
        if item.type is not None and item.type != given:
            raise UsageError(f"two event types for one event: {given!r} and {item.type!r}")
        return Event(item.id or "", given, item.subject, _data(item.data), **_attributes(item))
    definition = definition_of(type(given))
    if definition is None:
        raise UsageError(
            f"{type(given).__qualname__} is not a declared event: put @app.event('its.type') above the class,"
            " or pass the event's type and its data"
        )
    if item.data is not None:
        raise UsageError(f"{type(given).__qualname__} is the event's data already: pass no other")
    event_type = item.type or definition.type
    if not definition.matches(event_type):
        raise UsageError(
            f"{type(given).__qualname__} is not declared for {event_type!r}, only for {', '.join(definition.types)}"
        )
    subject = item.subject or definition.subject_of(given)
    return Event(item.id or "", event_type, subject, definition.encode(given), **_attributes(item))


def _attributes(item: Item) -> dict[str, str]:
    strange = sorted(set(item.attributes) - {"source", "time", "tenant", "traceparent"})
    if strange:
        raise UsageError(f"an event has no attribute {strange[0]!r}: use source, time, tenant or traceparent")
    return dict(item.attributes)


def _data(data: object) -> bytes:
    """Bytes are JSON text as it is, anything else is encoded."""
    return bytes(data) if isinstance(data, bytes | bytearray) else encode_json(data)


def _check(event: Event, max_bytes: int) -> None:
    if not event.type or len(event.type) > 200 or any(c.isspace() or not c.isprintable() for c in event.type):
        raise UsageError(
            f"event type {event.type[:100]!r} is not usable: 1 to 200 printable characters, no white space"
        )
    if event.type.startswith(RESERVED_PREFIX):
        raise UsageError(f"event type {event.type!r} begins with {RESERVED_PREFIX!r}, which is reserved")
    for name in ("id", "subject", "source", "time", "tenant", "traceparent"):
        value: str = getattr(event, name) or ""
        if len(value) > MAX_ID_CHARACTERS:
            raise EventRejected(f"the event's {name} has {len(value)} characters: at most {MAX_ID_CHARACTERS}")
        if not value.isascii() and value != value.encode("utf-8", "replace").decode():
            raise EventRejected(f"the event's {name} holds half of a surrogate pair and has no UTF-8 form")
    if len(event.data) > max_bytes:
        raise EventRejected(
            f"the data of event {event.id} ({event.type}) has {len(event.data)} bytes, more than MAX_EVENT_BYTES"
            f" ({max_bytes}): store it elsewhere and send a reference"
        )
    try:
        check_json(event.data)
        event.data.decode()
        msgspec.json.decode(event.data, type=msgspec.Raw)
    except (Unreadable, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise EventRejected(f"the data of event {event.id} ({event.type}) is not JSON: {error}") from error
