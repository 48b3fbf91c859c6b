"""Requests to flat arguments, flat replies to outcomes: plain lists in tight loops, no knowledge of the network.

Mail and start events are packed lists (msgpack) of an entry's id and its fields; records are opaque bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.event import Mail, event_from_fields
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import (
    REJECT_START,
    Commit,
    CommitOutcome,
    CommitWord,
    Fates,
    Ingested,
    LeasedRun,
    Letter,
    Loaded,
    OperatorAct,
    Publish,
    Published,
    Recorded,
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
    """Most events are plain, and their names are left out: empty, id, type, subject, data; or, without a subject, a
    hyphen, id, type, data. Any other: delay, id, number of fields, fields."""
    flat: list[Argument] = []
    for item in items:
        event, fields = item.event, item.event.fields()
        if event.id and item.run is None and item.delay_ms <= 0:
            if event.subject is not None and len(fields) == 8:
                flat += ("", event.id, event.type, event.subject, event.data)
                continue
            if len(fields) == 6:
                flat += ("-", event.id, event.type, event.data)
                continue
        if item.workflow is not None and item.run is not None:
            fields += ("workflow", item.workflow, "run", item.run)
        via = "delay" if item.delay_ms > 0 else "p"
        flat += (max(0, item.delay_ms), event.id, len(fields) + 2, "via", via, *fields)
    return flat


def decode_published(items: Sequence[Publish], reply: list[Any]) -> list[Published]:
    """One answer for each item, in order: a number, or the id that an event without one got."""
    return [
        Published(item.event.id, answer == 0, answer == 2) if isinstance(answer, int) else Published(answer.decode())
        for item, answer in zip(items, reply, strict=True)
    ]


def decode_ingested(reply: list[Any]) -> Ingested:
    """What one ingest leased and read, and what became of it."""
    runs: list[LeasedRun] = []
    now: int = reply[1]
    told = 9 + 4 * reply[8]
    at = told + 1
    for _ in range(reply[told]):
        ref, token, start, version = reply[at : at + 4]
        at += 4
        if start:  # it was just made
            made = LeasedRun(RunRef(ref.decode()), int(token), NO_COMMIT, int(version), now, 0, decode_mail(start))
            runs.append(made)
            continue
        cid, created, strikes, start, count = reply[at : at + 5]
        at += 5
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
    fates, letters = Fates(*reply[4:8]), tuple(_letter(reply[at : at + 4]) for at in range(9, told, 4))
    return Ingested(now, tuple(runs), reply[2].decode(), reply[3], reply[0] == b"again", fates, letters)


def _letter(flat: list[Any]) -> Letter:
    dead_id, reason, kind, run = (part.decode("utf-8", "backslashreplace") for part in flat)
    return Letter(dead_id, reason, kind, run)


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


def decode_loaded(reply: list[Any]) -> list[Loaded | None]:
    """Held runs as the store keeps them; None for each that the caller does not hold."""
    now: int = reply[0]
    return [_loaded(now, *run) if run else None for run in reply[1:]]


def _loaded(
    now: int, cid: bytes, created: bytes, start: bytes, waits: bytes, records: list[bytes], *mail: bytes
) -> Loaded:
    flat = _fields.decode(waits) if waits else []
    return Loaded(
        now=now,
        cid=CommitId(cid.decode()),
        start=decode_mail(start),
        created_at=int(created),
        records=tuple(records),
        mail=tuple(map(decode_mail, mail)),
        waits=tuple(zip(flat[::2], flat[1::2], strict=True)),
    )


def decode_recorded(reply: list[Any]) -> Recorded:
    """A run's history with what began it."""
    return Recorded(int(reply[1]), int(reply[2]), decode_mail(reply[3]), tuple(reply[4:]))


def encode_commits(commits: Sequence[Commit]) -> list[Argument]:
    """All commits of one call as one flat list, in the order that `commit.lua` names. Most commits are plain, and
    what they do not have is not sent: each argument costs the server about 0.07 µs."""
    flat: list[Argument] = []
    for c in commits:
        more = c.taken or c.rejects or c.waits_added or c.waits_removed or c.emits or c.wake is not None or c.restart
        letters, values = _values(c)
        head = f"{c.status.value} {c.mode.value} {c.attempts} {letters} {len(c.records)} {1 if more else 0}"
        flat += (c.ref, c.token, c.base, c.cid, f"{head} {c.session}")
        if more:
            refused = any(entry == REJECT_START for entry, _ in c.rejects)
            flat += (c.taken, c.last_taken, "" if c.wake is None else c.wake, 1 if refused else 0)
            flat += (len(c.rejects), len(c.waits_added), len(c.waits_removed), len(c.emits))
            flat.append("" if c.restart is None else "now" if c.began_at is None else c.began_at)
        flat += values
        flat += c.records
        if more:
            flat += _more(c)
    return flat


def _values(c: Commit) -> tuple[str, list[bytes]]:
    """A letter for each field that the commit sets, and what it sets."""
    start = None if c.restart is None else _packed(c.restart)
    pairs = (("s", c.state), ("r", c.result), ("e", c.error), ("b", start))
    found = [(letter, value) for letter, value in pairs if value is not None]
    return "".join(letter for letter, _ in found), [value for _, value in found]


def _more(c: Commit) -> list[Argument]:
    flat: list[Argument] = []
    for pairs in (c.rejects, c.waits_added, c.waits_removed):
        for pair in pairs:
            flat += pair
    for emit in c.emits:
        fields = emit.event.fields()[2:]  # without its id: the script names emits
        if emit.workflow is not None and emit.run is not None:
            fields += ("workflow", emit.workflow, "run", emit.run)
        flat += (emit.number, max(0, emit.delay_ms), len(fields), *fields)
    return flat


def _packed(mail: Mail) -> bytes:
    """A mail as the scripts keep it: all parts are text, for msgpack tells text and bytes apart and Lua does not."""
    parts = [part if isinstance(part, str) else part.decode() for part in mail.event.fields()]
    return msgspec.msgpack.encode([mail.entry, *parts])


def decode_outcomes(reply: list[Any]) -> list[CommitOutcome]:
    """One answer for each commit, in order."""
    now: int = reply[0]
    written = CommitOutcome("ok", False, (), now), CommitOutcome("ok", True, (), now)
    return [written[answer] if isinstance(answer, int) else _outcome(answer, now) for answer in reply[1:]]


def _outcome(answer: list[Any], now: int) -> CommitOutcome:
    word, held, *mail = answer
    return CommitOutcome(cast("CommitWord", word.decode()), held == 1, tuple(map(decode_mail, mail)), now)


def decode_view(ref: RunRef, flat: list[Any]) -> RunView | None:
    """A run's hash as people see it; None where there is none."""
    if not flat:
        return None
    found: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
    waits = _fields.decode(found[b"waits"]) if b"waits" in found else []
    workflow, _, run_id = ref.partition(":")
    subject = found.get(b"subject")
    return RunView(
        ref=ref,
        workflow=workflow,
        id=run_id,
        version=int(found[b"version"]),
        status=RunStatus(found[b"status"].decode()),
        subject=None if subject is None else subject.decode(),
        started_at=int(found.get(b"born", found[b"created"])),
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
        wake=int(found[b"wake"]) if b"wake" in found else None,
        waits=tuple(zip(waits[::2], waits[1::2], strict=True)),
    )


def decode_act(flat: list[Any]) -> OperatorAct:
    """One line of the operator log, whose fields stand in the order that `_acts.lua` writes."""
    at, by, act, on, note = (part.decode("utf-8", "backslashreplace") for part in flat[1::2])
    return OperatorAct(int(at), by, act, on, note)


def decode_letter(entry: list[Any]) -> DeadLetter:
    """One dead letter, whose fields stand in the order that `_streams.lua` writes."""
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
