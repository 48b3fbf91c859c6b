from __future__ import annotations

import msgspec
import pytest

from workflow_worker.client.timeline import Moment, moments, span, timeline_lines
from workflow_worker.model.event import Event
from workflow_worker.model.failure import ErrorKind, Failure
from workflow_worker.model.internal import CANCEL, ENDED, GRANT, ChildEnded, LockGrant
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
    encode_record,
)
from workflow_worker.model.recovery import Recovery
from workflow_worker.model.run import RunStatus

TIMEOUT = Failure("builtins.TimeoutError", "no answer", ErrorKind.RECOVERABLE, 2)

EVERY_RECORD: list[tuple[Record, str, str]] = [
    (RunStarted(1_000, "3.11", "0.1.0"), "started", "run started"),
    (EventReceived(1_001, "5-0", Event("e-1", "order.paid", "o-1")), "event", "event order.paid"),
    (CancelRequested(1_002, "6-0", "ann@desk", "twice"), "cancel", "cancel requested"),
    (ActionCompleted(1_003, 1, "charge", 7, b"\xa4ch_1", 2, 6), "done", "charge"),
    (ActionRaised(1_004, 2, "ship", 7, TIMEOUT), "raised", "ship raised"),
    (AttemptFailed(1_005, 3, "ship", 7, TIMEOUT, 1, 2_005), "attempt", "ship failed"),
    (ActionParked(1_006, 3, "ship", 7, TIMEOUT, 4), "parked", "ship failed, run suspended"),
    (TimerFired(1_007, 4, 1_007), "timer", "timer fired"),
    (RunSuspended(1_008, TIMEOUT), "suspended", "run suspended"),
    (RunResumed(1_009, "ann@desk", "fixed"), "resumed", "run resumed"),
    (RunCompleted(1_010, b"null", ("9-0",)), "completed", "run completed"),
    (RunFailed(1_011, TIMEOUT), "failed", "run failed"),
    (RunCancelled(1_012), "cancelled", "run cancelled"),
]


def test_every_kind_of_record_has_its_moment() -> None:
    found = moments([encode_record(record) for record, _, _ in EVERY_RECORD])
    assert [(moment.kind, moment.title) for moment in found] == [(kind, title) for _, kind, title in EVERY_RECORD]
    assert [moment.at for moment in found] == [record.at for record, _, _ in EVERY_RECORD]


def test_a_recovery_is_told_before_and_when_it_fails() -> None:
    before = AttemptFailed(1_000, 3, "ship", 7, TIMEOUT, 1, 1_000, Recovery("refresh_token"))
    failed = AttemptFailed(1_005, 3, "ship", 7, TIMEOUT, 1, 3_005, Recovery("refresh_token", attempts=2))
    parked = ActionParked(1_006, 3, "ship", 7, TIMEOUT, 1, "depot")
    first, second, third = moments([encode_record(record) for record in (before, failed, parked)])
    assert (first.title, first.attempt) == ("ship failed", 1)
    assert first.detail == "TimeoutError: no answer (recoverable); refresh_token after 0 ms, then the next try"
    assert (second.title, second.attempt) == ("refresh_token failed, which was to recover ship", 2)
    assert second.detail.endswith("next try after 2.00 s")
    assert third.title == "ship failed, run suspended (depot)"


def test_a_failed_attempt_says_what_why_and_when_next() -> None:
    (moment,) = moments([encode_record(AttemptFailed(1_005, 3, "ship", 7, TIMEOUT, 1, 2_505))])
    assert moment.detail == "TimeoutError: no answer (recoverable); next try after 1.50 s"
    assert moment.document() == {
        "at": "1970-01-01T00:00:01.005Z",
        "kind": "attempt",
        "title": "ship failed",
        "detail": moment.detail,
        "step": 3,
        "action": "ship",
        "attempt": 1,
        "error": {
            "type": "builtins.TimeoutError",
            "message": "no answer",
            "kind": "recoverable",
            "attempts": 2,
            "cause": None,
        },
    }


def test_a_record_of_a_newer_release_is_shown_and_hides_nothing_else() -> None:
    foreign = msgspec.msgpack.encode(["hologram", 1])
    found = moments([encode_record(RunStarted(5, "3.11", "9")), foreign, encode_record(TimerFired(9, 1, 9))])
    assert [moment.kind for moment in found] == ["started", "unknown", "timer"]
    assert found[1].at == 5


def test_the_lines_are_aligned_and_count_from_the_start() -> None:
    records = [RunStarted(1_000, "3.11", "0.1.0"), ActionCompleted(1_012, 1, "charge", 7, b"\xa4ch_1", 2, 6)]
    assert timeline_lines(1_000, moments([encode_record(record) for record in records])) == [
        "   +0 ms  ● run started                           Python 3.11, release 0.1.0",
        '  +12 ms  ✓ charge       step 1  attempt 2, 6 ms  → "ch_1"',
    ]


def test_a_long_result_is_cut() -> None:
    (moment,) = moments([encode_record(RunCompleted(1, b'"' + b"x" * 500 + b'"'))])
    assert len(moment.detail) < 250
    assert moment.detail.endswith("…")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.50 s"),
        (200_000, "3 min 20 s"),
        (7_500_000, "2 h 5 min"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_spans_read_as_people_say_them(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text


def test_messages_of_other_runs_are_told_in_words() -> None:
    def told(kind: str, message: object) -> Moment:
        event = Event("long-id", kind, None, msgspec.json.encode(message))
        [moment] = moments([encode_record(EventReceived(1_000, "5-0", event))])
        return moment

    ended = told(ENDED, ChildEnded(1, 4, 7, "ship:s-1", RunStatus.COMPLETED))
    assert (ended.mark, ended.title, ended.step, ended.kind) == ("✓", "child ship:s-1 completed", 4, "event")
    failed = told(ENDED, ChildEnded(1, 4, 7, "ship:s-1", RunStatus.FAILED, failure=TIMEOUT))
    assert (failed.mark, failed.title, failed.detail) == ("✗", "child ship:s-1 failed", "TimeoutError: no answer")
    assert told(GRANT, LockGrant(1, 6)).title == "lock granted"
    assert told(ENDED, {"from": "a newer release"}).title == "message ww.child"
    assert told(CANCEL, {}).title == "message ww.cancel"
