"""Events that arrive over HTTP: read, checked, and published through a connection of the web server's own."""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from workflow_worker.client.opening import OpenStore
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import check_event_type
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Publish, Published

_LONGEST_TEXT = 1_024


class CloudEvent(msgspec.Struct, kw_only=True):
    """JSON form of an event: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

    Only `type` must be there. Attributes that we do not keep are left out, as the specification lets us.
    """

    type: str
    id: str | None = None
    subject: str | None = None
    source: str | None = None
    time: str | None = None
    tenant: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    specversion: str = "1.0"


def read_event(body: bytes, max_event_bytes: int) -> Event:
    """The event in a request's body; one without an id gets a random one.

    Raises:
        UsageError: It is not a CloudEvent in JSON, too large, or its type may not be published.
    """
    try:
        given = msgspec.json.decode(body, type=CloudEvent)
        data = bytes(given.data)
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"the body is not an event in JSON: {error}") from error
    if given.specversion != "1.0":
        raise UsageError(f"specversion {given.specversion[:20]!r} is not known: write '1.0'")
    if len(data) > max_event_bytes:
        raise UsageError(f"the event's data has {len(data)} bytes, more than MAX_EVENT_BYTES={max_event_bytes}")
    if "*" in given.type:
        raise UsageError(f"event type {given.type[:200]!r} is a pattern, not a type")
    for name in ("id", "subject", "source", "time", "tenant", "traceparent"):
        text = getattr(given, name)
        if text is not None and not 0 < len(text) <= _LONGEST_TEXT:
            raise UsageError(f"{name} has {len(text)} characters: allowed are 1 to {_LONGEST_TEXT}")
    return Event(
        id=given.id or uuid.uuid4().hex,
        type=check_event_type(given.type),
        subject=given.subject,
        data=data,
        source=given.source,
        time=given.time,
        tenant=given.tenant,
        traceparent=given.traceparent,
    )


class Publisher:
    """One store, opened at the first event, on the web server's loop."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def publish(self, event: Event) -> Published:
        """Add it to the stream.

        Raises:
            StoreUnavailable: It may have been added or not; the same id again does no harm.
        """
        async with self._opening:
            if self._store is None:
                self._store = await self._open_store()
        return (await self._store.publish([Publish(event)]))[0]

    async def aclose(self) -> None:
        """Close the connection."""
        if self._store is not None:
            await self._store.aclose()
