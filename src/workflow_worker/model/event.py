"""`Event`: CloudEvents attributes, to and from the flat fields of a stream entry."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workflow_worker.model.ids import CANCEL_TYPE

CLOUD_ATTRIBUTES = ("source", "time", "tenant", "traceparent")


class Event(msgspec.Struct, frozen=True, array_like=True):
    """An immutable fact. `data` is JSON text in UTF-8; `id` is the publisher's, or the stream entry's id without one.

    Attributes follow CloudEvents 1.0: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
    """

    id: str
    type: str
    subject: str | None = None
    data: bytes = b"null"
    source: str | None = None
    time: str | None = None
    tenant: str | None = None
    traceparent: str | None = None
    origin: str | None = None
    """Written by our own runs only: what a start event carries of its run's parent, see `model/internal.py`."""

    def fields(self) -> list[str | bytes]:
        """The stream entry's fields, flat: name, value, name, value."""
        flat: list[str | bytes] = ["id", self.id, "type", self.type]
        if self.subject is not None:
            flat += ("subject", self.subject)
        for name in (*CLOUD_ATTRIBUTES, "origin"):
            value: str | None = getattr(self, name)
            if value is not None:
                flat += (name, value)
        flat += ("data", self.data)
        return flat


_PLAIN = frozenset({("id", "type", "data"), ("id", "type", "subject", "data")})


def event_from_fields(entry_id: str, fields: Sequence[str]) -> Event:
    """Read an entry's flat fields, which ingest has checked (UTF-8, type present); unknown names are left out."""
    if len(fields) in (6, 8) and tuple(fields[::2]) in _PLAIN and fields[1]:  # as ingest packs what `publish` has added
        return Event(fields[1], fields[3], fields[5] if len(fields) == 8 else None, fields[-1].encode())
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    return Event(
        id=found.get("id") or entry_id,
        type=found.get("type", ""),
        subject=found.get("subject"),
        data=found.get("data", "null").encode(),
        source=found.get("source"),
        time=found.get("time"),
        tenant=found.get("tenant"),
        traceparent=found.get("traceparent"),
        origin=found.get("origin"),
    )


class Mail(msgspec.Struct, frozen=True, array_like=True):
    """One item of a run's mailbox: an event, or a person's request to cancel. `entry` names it within the run."""

    entry: str
    event: Event

    @property
    def is_cancel(self) -> bool:
        """Whether this is a cancel request."""
        return self.event.type == CANCEL_TYPE
