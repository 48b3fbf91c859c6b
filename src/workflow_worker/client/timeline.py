"""A run's history as a timeline for people and as a list for programs. Pure: records in, moments out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from workflow_worker.model.failure import Failure
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.internal import ENDED, GRANT, ChildEnded, LockGrant, is_internal
from workflow_worker.model.record import (
    ActionCompleted,
    ActionParked,
    ActionRaised,
    AttemptFailed,
    CancelRequested,
    EventReceived,
    Record,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSuspended,
    TimerFired,
    decode_record,
)
from workflow_worker.model.run import RunStatus

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline. `kind` is the record's tag; `mark` is a sign that shows at a glance how it went."""

    at: int
    kind: str
    mark: str
    title: str
    detail: str = ""
    step: int | None = None
    action: str | None = None
    attempt: int | None = None
    took_ms: int | None = None
    failure: Failure | None = None

    def document(self) -> dict[str, Any]:
        """This moment for ``--json``; fields that do not apply are left out."""
        found: dict[str, Any] = {"at": iso_ms(self.at), "kind": self.kind, "title": self.title, "detail": self.detail}
        for name in ("step", "action", "attempt", "took_ms"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.failure is not None:
            found["error"] = failure_document(self.failure)
        return found


def failure_document(failure: Failure) -> dict[str, Any]:
    """An error for ``--json``: type, message, kind, attempts and the causes below it."""
    return {
        "type": failure.type,
        "message": failure.message,
        "kind": failure.kind.value,
        "attempts": failure.attempts,
        "cause": None if failure.cause is None else failure_document(failure.cause),
    }


def moments(records: Sequence[bytes]) -> list[Moment]:
    """The timeline of encoded records, oldest first; a record that a newer release wrote is shown as such."""
    found: list[Moment] = []
    at = 0
    for raw in records:
        try:
            record = decode_record(raw)
        except msgspec.DecodeError as error:
            found.append(Moment(at, "unknown", "?", "a record that this release cannot read", str(error)))
            continue
        at = record.at
        found.append(_moment(record))
    return found


def timeline_lines(started_at: int, timeline: list[Moment]) -> list[str]:
    """Aligned lines: time since the run began, sign, what happened, attempt and duration, detail."""
    rows: list[tuple[str, str, str, str, str]] = []
    for moment in timeline:
        step = "" if moment.step is None else f"step {moment.step}"
        facts = [f"attempt {moment.attempt}"] if moment.attempt is not None else []
        facts += [span(moment.took_ms)] if moment.took_ms is not None else []
        title = f"{moment.mark} {moment.title}"
        rows.append((f"+{span(max(0, moment.at - started_at))}", title, step, ", ".join(facts), moment.detail))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [
        f"  {at:>{widths[0]}}  {title:<{widths[1]}}  {step:<{widths[2]}}  {facts:<{widths[3]}}  {detail}".rstrip()
        for at, title, step, facts, detail in rows
    ]


def span(milliseconds: int) -> str:
    """A span as people say it: ``7 ms``, ``1.52 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f} s"
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _moment(record: Record) -> Moment:
    match record:
        case ActionCompleted() | ActionRaised() | AttemptFailed() | ActionParked():
            return _step(record)
        case TimerFired():
            late = f"{span(record.at - record.due)} late" if record.at - record.due >= 100 else ""
            return Moment(record.at, "timer", "◷", "timer fired", late, step=record.number)
        case EventReceived() if is_internal(record.event.type):
            return _message(record)
        case EventReceived():
            about = f" about {record.event.subject}" if record.event.subject else ""
            return Moment(record.at, "event", "→", f"event {record.event.type}", f"id {record.event.id}{about}")
        case CancelRequested():
            return Moment(record.at, "cancel", "→", "cancel requested", f"by {record.by}: {record.reason}".rstrip(": "))
        case _:
            return _turn(record)


def _message(record: EventReceived) -> Moment:
    """What another run told this one."""
    at, kind, data = record.at, record.event.type, record.event.data
    try:
        if kind == ENDED:
            ended = msgspec.json.decode(data, type=ChildEnded)
            detail = "" if ended.failure is None else str(ended.failure)
            sign = "✓" if ended.status is RunStatus.COMPLETED else "✗"
            title = f"child {ended.run} {ended.status.value}"
            return Moment(at, "event", sign, title, detail, step=ended.number, failure=ended.failure)
        if kind == GRANT:
            return Moment(at, "event", "✓", "lock granted", step=msgspec.json.decode(data, type=LockGrant).number)
    except msgspec.DecodeError:  # of another release: shown as what it is
        return Moment(at, "event", "?", f"message {kind}", f"id {record.event.id}")
    return Moment(at, "event", "→", f"message {kind}", f"id {record.event.id}")


def _step(record: ActionCompleted | ActionRaised | AttemptFailed | ActionParked) -> Moment:
    step, action = record.number, record.name
    match record:
        case ActionCompleted():
            return Moment(
                record.at,
                "done",
                "✓",
                action,
                f"→ {_packed_text(record.result)}",
                step,
                action,
                record.attempts,
                record.took_ms,
            )
        case ActionRaised():
            kind, title = "raised", f"{action} raised"
        case ActionParked():
            kind, title = "parked", f"{action} failed, run suspended"
            if record.reason:
                title = f"{title} ({record.reason})"
        case AttemptFailed():
            return _failed_attempt(record)
        case _:
            assert_never(record)
    detail = f"{record.failure} ({record.failure.kind.value})"
    return Moment(record.at, kind, "✗", title, detail, step, action, record.failure.attempts, failure=record.failure)


def _failed_attempt(record: AttemptFailed) -> Moment:
    failure, recovery, wait = record.failure, record.recovery, span(max(0, record.due - record.at))
    title, attempt, following = f"{record.name} failed", record.attempt, f"next try after {wait}"
    if recovery is not None and not recovery.attempts:
        following = f"{recovery.action} after {wait}, then the next try"
    elif recovery is not None:
        title, attempt = f"{recovery.action} failed, which was to recover {record.name}", recovery.attempts
    detail = f"{failure} ({failure.kind.value}); {following}"
    return Moment(record.at, "attempt", "✗", title, detail, record.number, record.name, attempt, failure=failure)


def _turn(
    record: RunStarted | RunSuspended | RunResumed | RunCompleted | RunFailed | RunCancelled,
) -> Moment:
    match record:
        case RunStarted():
            return Moment(record.at, "started", "●", "run started", f"Python {record.python}, release {record.release}")
        case RunSuspended():
            return Moment(record.at, "suspended", "‖", "run suspended", str(record.failure), failure=record.failure)
        case RunResumed():
            return Moment(record.at, "resumed", "●", "run resumed", f"by {record.by}: {record.note}".rstrip(": "))
        case RunCompleted():
            detail = f"→ {_json_text(record.result)}{_unmatched(record.unmatched)}"
            return Moment(record.at, "completed", "■", "run completed", detail)
        case RunFailed():
            detail = f"{record.failure}{_unmatched(record.unmatched)}"
            return Moment(record.at, "failed", "■", "run failed", detail, failure=record.failure)
        case RunCancelled():
            return Moment(record.at, "cancelled", "■", "run cancelled", _unmatched(record.unmatched).lstrip("; "))
        case _:
            assert_never(record)


def _unmatched(entries: tuple[str, ...]) -> str:
    if not entries:
        return ""
    return "; 1 event was never waited for" if len(entries) == 1 else f"; {len(entries)} events were never waited for"


def _packed_text(packed: bytes) -> str:
    """An action's result, which the history keeps as msgpack; what has no JSON form is shown as Python does."""
    try:
        value = msgspec.msgpack.decode(packed)
        return _json_text(msgspec.json.encode(value, enc_hook=repr))
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        return f"({len(packed)} bytes that cannot be shown: {error})"


def _json_text(encoded: bytes) -> str:
    text = encoded.decode("utf-8", "backslashreplace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
