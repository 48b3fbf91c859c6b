"""Histories as files, one run each: exported from a live namespace or a test, replayed against newer code in CI.

A file is JSON lines. The first names the run; each other line is one record: its tag and time for people, and its bytes
as they were stored, in base64, for the replay.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

import msgspec

from workflow_worker.model.event import Event, Mail
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import Record, decode_record, encode_record
from workflow_worker.store.transitions import Recorded
from workflow_worker.testing.replaying import RecordedRun


class _Head(msgspec.Struct, frozen=True):
    """The first line."""

    run: str
    version: int
    created_at: int
    entry: str
    event: dict[str, str]


class _Line(msgspec.Struct, frozen=True):
    """Any other line."""

    record: str
    at: int
    raw: str


def recorded_run(ref: RunRef, found: Recorded) -> RecordedRun:
    """A history as the store gives it, decoded.

    Raises:
        UsageError: A newer release wrote it.
    """
    try:
        records = tuple(map(decode_record, found.records))
    except msgspec.DecodeError as error:
        raise UsageError(f"the history of {ref} was written by a newer release: {error}") from error
    return RecordedRun(ref, found.version, found.created_at, found.start, records)


def to_lines(run: RecordedRun) -> str:
    """The text of a history file."""
    event = run.start.event
    given = {name: value for name in event.__struct_fields__ if (value := getattr(event, name)) is not None}
    given["data"] = event.data.decode()
    head = _Head(run.ref, run.version, run.created_at, run.start.entry, given)
    lines: list[bytes] = [msgspec.json.encode(head)]
    lines += [msgspec.json.encode(_line(record)) for record in run.records]
    return "\n".join(line.decode() for line in lines) + "\n"


def from_lines(text: str, name: str) -> RecordedRun:
    """Read a history file; `name` is its own, for messages.

    Raises:
        UsageError: It is none, or of a newer release.
    """
    head, records = None, list[Record]()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            if head is None:
                head = msgspec.json.decode(line, type=_Head)
            else:
                records.append(decode_record(base64.b64decode(msgspec.json.decode(line, type=_Line).raw)))
        except (msgspec.DecodeError, ValueError) as error:
            raise UsageError(f"{name}, line {number}, is not a line of an exported history: {error}") from error
    if head is None:
        raise UsageError(f"{name} is empty: export a history with `workflow-worker runs export`")
    known = {name: value for name, value in head.event.items() if name in Event.__struct_fields__ and name != "data"}
    event = Event(**known, data=head.event.get("data", "null").encode())  # pyright: ignore[reportArgumentType] - the names are the struct's own, all but data are text
    return RecordedRun(RunRef(head.run), head.version, head.created_at, Mail(head.entry, event), tuple(records))


def read_histories(pattern: str, folder: Path) -> Iterable[tuple[Path, RecordedRun]]:
    """All files that fit ``histories/*.jsonl`` below `folder`, by name.

    Raises:
        UsageError: There is none: a test that replays nothing would prove nothing.
    """
    files = sorted(folder.glob(pattern)) if not Path(pattern).is_absolute() else sorted(Path("/").glob(pattern[1:]))
    if not files:
        raise UsageError(f"no file fits {pattern} below {folder}")
    for file in files:
        yield file, from_lines(file.read_text(), str(file))


def _line(record: Record) -> _Line:
    tag = record.__struct_config__.tag
    return _Line(str(tag), record.at, base64.b64encode(encode_record(record)).decode())
