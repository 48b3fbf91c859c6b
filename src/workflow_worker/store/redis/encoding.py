"""Requests to flat arguments, flat replies to outcomes: plain lists in tight loops, no knowledge of the network.

Mail and start events are packed lists (msgpack) of an entry's id and its fields; records are opaque bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.event import Event, Mail, event_from_fields
from workflow_worker.model.ids import CommitId, RunRef
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import (
    REJECT_START,
    Commit,
    CommitOutcome,
    CommitWord,
    Ingested,
    LeasedRun,
    Loaded,
    Publish,
    Published,
    Renewed,
)

Argument = str | bytes | int
_fields = msgspec.msgpack.Decoder(list[str])


def decode_mail(packed: bytes) -> Mail:
    """One mail, from the packed list of entry id and fields."""
    parts = _fields.decode(packed)
    return Mail(parts[0], event_from_fields(parts[0], parts[1:]))


def decode_start(packed: bytes) -> tuple[str, ...]:
    """A start event's fields as its producer gave them."""
    parts = _fields.decode(packed)
    flat: list[str] = []
    for index in range(1, len(parts) - 1, 2):
        if parts[index] != "via":
            flat += parts[index : index + 2]
    return tuple(flat)


def encode_publish(items: Sequence[Publish]) -> list[Argument]:
    """delay, id, number of fields, fields: for each item."""
    flat: list[Argument] = []
    for item in items:
        fields = item.event.fields()
        if item.workflow is not None and item.run is not None:
            fields += ("workflow", item.workflow, "run", item.run)
        via = "delay" if item.delay_ms > 0 else "publish"
        flat += (max(0, item.delay_ms), item.event.id, len(fields) + 2, "via", via, *fields)
    return flat


def decode_published(reply: list[Any]) -> list[Published]:
    """One answer for each item, in order."""
    return [Published(reply[at + 1].decode(), reply[at] == b"duplicate") for at in range(0, len(reply), 2)]


def decode_ingested(reply: list[Any]) -> Ingested:
    """What one ingest leased and read."""
    runs: list[LeasedRun] = []
    at = 5
    for _ in range(reply[4]):
        ref, token, cid, version, created, strikes, start, count = reply[at : at + 8]
        at += 8
        mail = tuple(map(decode_mail, reply[at : at + count])) if count else ()
        at += count
        runs.append(
            LeasedRun(
                RunRef(ref.decode()),
                int(token),
                CommitId(cid.decode()),
                int(version),
                int(created),
                int(strikes),
                decode_mail(start) if start else None,
                mail,
            )
        )
    return Ingested(reply[1], tuple(runs), reply[2].decode(), reply[3], reply[0] == b"again")


def decode_renewed(reply: list[Any]) -> Renewed:
    """Lost and unknown pairs, and the runs with mail."""
    end = 3 + 2 * reply[2]
    second = end + 1 + 2 * reply[end]
    return Renewed(
        now=reply[1],
        lost=_pairs(reply[3:end]),
        unknown=_pairs(reply[end + 1 : second]),
        mail=tuple(RunRef(ref.decode()) for ref in reply[second:]),
    )


def _pairs(flat: list[Any]) -> tuple[tuple[RunRef, int], ...]:
    return tuple((RunRef(flat[at].decode()), int(flat[at + 1])) for at in range(0, len(flat), 2))


def decode_loaded(reply: list[Any]) -> Loaded:
    """A held run as the store keeps it."""
    _, now, cid, created, start, waits, count = reply[:7]
    flat = _fields.decode(waits) if waits else []
    return Loaded(
        now=now,
        cid=CommitId(cid.decode()),
        start=decode_mail(start),
        created_at=int(created),
        records=tuple(reply[7 : 7 + count]),
        mail=tuple(map(decode_mail, reply[7 + count :])),
        waits=tuple(zip(flat[::2], flat[1::2], strict=True)),
    )


def encode_commits(commits: Sequence[Commit]) -> list[Argument]:
    """All commits of one call as one flat list, in the order that `commit.lua` names. Most commits are plain, and
    what they do not have is not sent: each argument costs the server about 0.1 µs."""
    flat: list[Argument] = []
    for c in commits:
        flat += (c.ref, c.session, c.token, c.base, c.cid, c.status.value, c.mode.value, c.attempts)
        size = (c.state is not None) + (c.result is not None) + (c.error is not None)
        more = c.taken or c.rejects or c.waits_added or c.waits_removed or c.emits or c.wake is not None
        flat += (size, len(c.records), 1 if more else 0)
        if more:
            refused = any(entry == REJECT_START for entry, _ in c.rejects)
            flat += (c.taken, c.last_taken, "" if c.wake is None else c.wake, 1 if refused else 0)
            flat += (len(c.rejects), len(c.waits_added), len(c.waits_removed), len(c.emits))
        for name, value in (("state", c.state), ("result", c.result), ("error", c.error)):
            if value is not None:
                flat += (name, value)
        flat += c.records
        for pairs in (c.rejects, c.waits_added, c.waits_removed):
            for pair in pairs:
                flat += pair
        for number, event in c.emits:
            emitted = _emitted(event)
            flat += (number, len(emitted), *emitted)
    return flat


def _emitted(event: Event) -> list[str | bytes]:
    """Without its id: the script names emits."""
    return event.fields()[2:]


def decode_outcomes(reply: list[Any]) -> list[CommitOutcome]:
    """One answer for each commit, in order."""
    now, at, outcomes = reply[0], 1, list[CommitOutcome]()
    while at < len(reply):
        word, held, count = reply[at : at + 3]
        at += 3
        mail = tuple(map(decode_mail, reply[at : at + count])) if count else ()
        at += count
        outcomes.append(CommitOutcome(cast("CommitWord", word.decode()), held == 1, mail, now))
    return outcomes


def decode_view(ref: RunRef, flat: list[Any]) -> RunView | None:
    """A run's hash as people see it; None where there is none."""
    if not flat:
        return None
    found: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
    workflow, _, run_id = ref.partition(":")
    subject = found.get(b"subject")
    return RunView(
        ref=ref,
        workflow=workflow,
        id=run_id,
        version=int(found[b"version"]),
        status=RunStatus(found[b"status"].decode()),
        subject=None if subject is None else subject.decode(),
        started_at=int(found[b"created"]),
        updated_at=int(found.get(b"updated", found[b"created"])),
        attempts=int(found.get(b"attempts", 0)),
        takeovers=int(found.get(b"takeovers", 0)),
        owner=found[b"owner"].decode(),
        token=int(found[b"token"]),
        mails=int(found.get(b"mails", 0)),
        records=int(found[b"records"]),
        state=found.get(b"state"),
        result=found.get(b"result"),
        error=found.get(b"error"),
    )


def decode_letter(entry: list[Any]) -> DeadLetter:
    """One dead letter, whose fields stand in the order that `_dead.lua` writes."""
    entry_id, redriven, flat = entry
    return DeadLetter(
        id=entry_id.decode(),
        reason=flat[1].decode("utf-8", "backslashreplace"),
        at=int(flat[3]),
        run=flat[5].decode(),
        raw=_unpack_raw(flat[9]),
        redriven=redriven == 1,
    )


def _unpack_raw(packed: bytes) -> tuple[bytes, ...]:
    """A msgpack list of strings that need not be UTF-8, which no msgpack decoder gives back as bytes: the script's
    strings have the type of text. https://github.com/msgpack/msgpack/blob/master/spec.md"""
    first, at = packed[0], 1
    if first in (0xDC, 0xDD):
        width = 2 if first == 0xDC else 4
        at += width
    parts: list[bytes] = []
    while at < len(packed):
        head = packed[at]
        at += 1
        width = {0xD9: 1, 0xDA: 2, 0xDB: 4}.get(head, 0)
        size = int.from_bytes(packed[at : at + width], "big") if width else head & 0x1F
        at += width
        parts.append(packed[at : at + size])
        at += size
    return tuple(parts)
