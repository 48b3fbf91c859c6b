"""Runs, dead letters and operators' acts as ``--json`` and HTTP write them (names and order are part of the
interface)."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from workflow_worker.client.standing import standing
from workflow_worker.client.timeline import failure_document, moments
from workflow_worker.model.codec import Unreadable, check_json
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.failure import Failure
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.run import RunView
from workflow_worker.model.updates import REPLIES
from workflow_worker.store.transitions import OperatorAct

_FRAME = re.compile(r'File "([^"]+)", line ([0-9]+), in (\S+)')
_NOT_THE_AUTHORS = ("/workflow_worker/", "/site-packages/", "/lib/python", "<frozen")


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


def run_details(run: RunView, records: list[bytes], now_ms: int) -> dict[str, Any]:
    """One run with its history, state, result and error, what it waits for, and what a person can do."""
    failure = run_failure(run)
    return run_document(run) | {
        "owner": run.owner or None,
        "token": run.token,
        "mails": run.mails,
        "records": run.records,
        "state": shown_state(run),
        "result": decoded(run.result),
        "error": None if failure is None else failure_document(failure),
        "wake": None if run.wake is None else iso_ms(run.wake),
        "waits": [{"type": kind, "subject": subject} for kind, subject in run.waits],
        "standing": standing(run, records, now_ms),
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


def shown_state(run: RunView) -> Any:
    """What the workflow published, without the replies to requests that are kept with it."""
    state = decoded(run.state)
    if isinstance(state, dict):
        fields = cast("dict[str, Any]", state)
        fields.pop(REPLIES, None)
        return fields or None
    return state


def act_document(act: OperatorAct) -> dict[str, Any]:
    """What a person did."""
    return {"at": iso_ms(act.at), "by": act.by, "act": act.act, "on": act.on, "note": act.note}


def author_line(run: RunView) -> str | None:
    """The author's line at which the run's error came up: the innermost that is neither ours nor a library's."""
    failure = run_failure(run)
    frames = [] if failure is None else _FRAME.findall(failure.traceback)
    own = [frame for frame in frames if not any(part in frame[0] for part in _NOT_THE_AUTHORS)]
    if not own:
        return None
    path, line, function = own[-1]
    return f"{path}:{line}, in {function}"


def decoded(encoded: bytes | None) -> Any:
    """A state, a result or an event's data as the JSON that it is; what is none, or is nested too deep, as text."""
    if encoded is None or encoded == b"":
        return None
    try:
        check_json(encoded)
        return msgspec.json.decode(encoded)
    except (Unreadable, msgspec.DecodeError, UnicodeDecodeError):
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
