"""Bodies of requests, read; an event is checked as every producer's when it is published (`client/outgoing.py`)."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from fastapi import Request
from starlette.exceptions import HTTPException

from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.web.guard import MAX_BODY_BYTES

T = TypeVar("T")


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


def read_event(body: bytes) -> Event:
    """The event in a request's body; without an id it has an empty one, and publishing gives it another.

    Raises:
        UsageError: It is not a CloudEvent in JSON. Its limits are checked when it is published.
    """
    given = read_json(body, CloudEvent)
    if given.specversion != "1.0":
        raise UsageError(f"specversion {given.specversion[:20]!r} is not known: write '1.0'")
    for name in ("id", "subject", "source", "time", "tenant", "traceparent"):
        if getattr(given, name) == "":
            raise UsageError(f"{name} is empty: leave it out, or give it a value")
    return Event(
        id=given.id or "",
        type=given.type,
        subject=given.subject,
        data=bytes(given.data),
        source=given.source,
        time=given.time,
        tenant=given.tenant,
        traceparent=given.traceparent,
    )


def read_json(body: bytes, of: type[T]) -> T:
    """A request's body as one type.

    Raises:
        UsageError: It is no JSON of it.
    """
    try:
        return msgspec.json.decode(body, type=of)
    except RecursionError:
        raise UsageError("the body cannot be read: nested too deep") from None  # a thousand equal frames help nobody
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body cannot be read: {error}") from error


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """The body, at most `most` bytes, and only as JSON: a form of a stranger's page cannot send that.

    Raises:
        HTTPException: It is something else (415), or bigger (413).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise HTTPException(415, "the body must be application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"the body is over {most} bytes")
    return bytes(body)
