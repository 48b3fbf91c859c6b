"""Stream entries as raw bytes, and what ingest reads in them.

An entry's fields are flat (name, value, name, value) and may be any bytes, because any program may add one. A name
given twice counts with its last value. The field ``via`` is written by our own transitions only:

- ``p`` (published: a queue holds millions of it; ``publish`` until 0.1), ``emit``, ``delay``, ``redrive``: the id
  needs no look into the seen ids;
- ``copy <run>``: a dead letter made from a run's copy, redriven: for that run alone;
- ``start <run>``: the same, made from the event that starts the run.

It is taken off when an entry becomes a dead letter, a mail's view or a start event's view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workflow_worker.model.event import Event, Mail, event_from_fields

VIA = b"via"


class Entry(NamedTuple):
    """One stream entry, also while it waits in a mailbox or an early list."""

    id: str
    fields: tuple[bytes, ...]


def field(fields: Sequence[bytes], name: bytes) -> bytes | None:
    """The last value of a field; None if it is absent or empty: an empty id, type or subject is none."""
    found = None
    for index in range(0, len(fields) - 1, 2):
        if fields[index] == name:
            found = fields[index + 1]
    return found or None


def without_via(fields: Sequence[bytes]) -> tuple[bytes, ...]:
    """The fields as their producer gave them."""
    if VIA not in fields:
        return tuple(fields)
    kept: list[bytes] = []
    for index in range(0, len(fields) - 1, 2):
        if fields[index] != VIA:
            kept += fields[index : index + 2]
    return tuple(kept)


def size_of(fields: Sequence[bytes]) -> int:
    """Bytes of all names and values but ``via``, so that a redriven entry weighs what it weighed before."""
    return sum(map(len, without_via(fields)))


def encode(event: Event, via: str, workflow: str | None = None, run: str | None = None) -> tuple[bytes, ...]:
    """The fields of an entry that one of our transitions writes."""
    fields = [VIA, via.encode()]
    fields += (part if isinstance(part, bytes) else part.encode() for part in event.fields())
    if workflow is not None and run is not None:
        fields += (b"workflow", workflow.encode(), b"run", run.encode())
    return tuple(fields)


def event_of(entry: Entry) -> Event:
    """The event of an entry that ingest has checked."""
    return event_from_fields(entry.id, [part.decode() for part in entry.fields])


def mail_of(entry: Entry) -> Mail:
    """The mail of an entry that ingest has checked."""
    return Mail(entry.id, event_of(entry))


def event_id_of(entry: Entry) -> str:
    """The event's id: the producer's, else the stream entry's."""
    given = field(entry.fields, b"id")
    return given.decode() if given else entry.id
