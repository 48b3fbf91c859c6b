"""Runs and dead letters as ``--json`` writes them (names and order are part of the interface)."""

from __future__ import annotations

from typing import Any

import msgspec

from workflow_worker.cli.timeline import failure_document, moments
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.failure import Failure
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.run import RunView


def run_document(run: RunView) -> dict[str, Any]:
    """A run in a list."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "version": run.version,
        "status": run.status.value,
        "subject": run.subject,
        "started_at": iso_ms(run.started_at),
        "updated_at": iso_ms(run.updated_at),
        "attempts": run.attempts,
        "takeovers": run.takeovers,
    }


def run_details(run: RunView, records: list[bytes]) -> dict[str, Any]:
    """One run with its history, state, result and error."""
    failure = run_failure(run)
    return run_document(run) | {
        "owner": run.owner or None,
        "token": run.token,
        "mails": run.mails,
        "records": run.records,
        "state": decoded(run.state),
        "result": decoded(run.result),
        "error": None if failure is None else failure_document(failure),
        "history": [moment.document() for moment in moments(records)],
    }


def run_failure(run: RunView) -> Failure | None:
    """The error that a failed or suspended run shows."""
    if not run.error:
        return None
    try:
        return msgspec.msgpack.decode(run.error, type=Failure)
    except msgspec.DecodeError:
        return Failure("unreadable", run.error.decode("utf-8", "backslashreplace"))


def decoded(encoded: bytes | None) -> Any:
    """A state or result, which the store keeps as JSON; what is not JSON is shown as text."""
    if encoded is None or encoded == b"":
        return None
    try:
        return msgspec.json.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return encoded.decode("utf-8", "backslashreplace")


def letter_document(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter: `event` is what can be read of it, `raw` are the entry's fields exactly as they came.

    `raw` is a list of name and value pairs, because a stranger may repeat a name; bytes that are not UTF-8 are escaped.
    """
    pairs = [
        (name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace"))
        for name, value in zip(letter.raw[::2], letter.raw[1::2], strict=False)
    ]
    return {
        "id": letter.id,
        "reason": letter.reason,
        "event": _event(dict(pairs)),
        "raw": pairs,
        "at": iso_ms(letter.at),
        "run": letter.run or None,
    }


def _event(fields: dict[str, str]) -> dict[str, Any]:
    event: dict[str, Any] = {name: fields.get(name) for name in ("id", "type", "subject", "source", "time")}
    if "data" in fields:
        event["data"] = decoded(fields["data"].encode())
    return event
