"""What a run waits for and what a person can do, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from workflow_worker.client.standing import standing
from workflow_worker.model.failure import ErrorKind, Failure
from workflow_worker.model.record import (
    ActionParked,
    AttemptFailed,
    Record,
    RunResumed,
    RunStarted,
    RunSuspended,
    encode_record,
)
from workflow_worker.model.recovery import Recovery
from workflow_worker.model.run import RunStatus, RunView

NOW = 1_000_000
LOST = Failure("builtins.TimeoutError", "no answer", ErrorKind.RECOVERABLE, 2)
STARTED = RunStarted(NOW - 900, "3.11", "0.1.0")


def run(status: RunStatus = RunStatus.WAITING, **more: Any) -> RunView:
    """A run that nobody holds."""
    given: dict[str, Any] = {
        "ref": "fulfil:o-1",
        "workflow": "fulfil",
        "id": "o-1",
        "version": 1,
        "status": status,
        "subject": "o-1",
        "started_at": NOW - 900,
        "updated_at": NOW,
        "attempts": 1,
        "takeovers": 0,
        "owner": "",
        "token": 7,
        "mails": 0,
        "records": 1,
    }
    return RunView(**(given | more))


def test_the_reason_of_a_park_and_a_recovery_are_named() -> None:
    parked = [ActionParked(NOW, number, "ship", 7, LOST, 4, reason) for number, reason in ((3, "depot"), (4, "depot"))]
    [first, *_] = told(run(RunStatus.SUSPENDED), *parked)
    assert first.startswith("needs a person (depot): step 3 (ship), step 4 (ship) failed for good")
    failed = AttemptFailed(NOW - 5, 3, "ship", 7, LOST, 1, NOW + 5_000, Recovery("refresh_token"))
    [first, *_] = told(run(wake=NOW + 5_000), failed)
    assert first.startswith("waits for refresh_token, which is to recover ship (step 3), due")


def told(view: RunView, *records: Record) -> list[str]:
    return standing(view, [encode_record(record) for record in (STARTED, *records)], NOW)


@dataclass(frozen=True)
class Case:
    """A view, and how its first line begins."""

    view: RunView
    line: str


@pytest.mark.parametrize(
    "case",
    [
        Case(run(RunStatus.RUNNING, owner="ready"), "has work to do and waits for a free worker"),
        Case(
            run(RunStatus.RUNNING, owner="parked", wake=NOW + 2_000), "was handed back because its worker had trouble"
        ),
        Case(run(RunStatus.RUNNING, owner="w-1"), "is being executed"),
        Case(run(wake=NOW + 90_000), "waits for a timer, due 1970-01-01T00:18:10.000Z (in 1 min 30 s)"),
        Case(run(wake=NOW - 90_000), "waits for a timer, due 1970-01-01T00:15:10.000Z (1 min 30 s ago: is a service"),
        Case(run(), "waits for an event about o-1 (its code says which)"),
        Case(run(subject=None), "waits for an event addressed to it"),
        Case(run(waits=(("invoice.paid", "i-1"),)), "waits for invoice.paid about i-1"),
    ],
    ids=lambda case: case.line[:30],
)
def test_what_a_run_waits_for(case: Case) -> None:
    assert told(case.view)[0].startswith(case.line)


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_an_ended_run_waits_for_nothing(status: RunStatus) -> None:
    assert told(run(status)) == []


def test_a_retry_is_named_with_its_step() -> None:
    failed = AttemptFailed(NOW - 5, 3, "ship", 7, LOST, 1, NOW + 400)
    first, second = told(run(wake=NOW + 400), failed)
    assert first.startswith("waits for the next attempt of ship (step 3), due ")
    assert second == "or for an event about o-1, if its code waits for one"


def test_a_parked_step_is_named_and_what_helps() -> None:
    old, parked = ActionParked(NOW - 9, 2, "pack", 7, LOST, 4, "old"), ActionParked(NOW, 3, "ship", 7, LOST, 4)
    lines = told(run(RunStatus.SUSPENDED), old, RunResumed(NOW - 8, "ann", ""), parked)
    assert lines[0] == "needs a person: step 3 (ship) failed for good. Fix the cause, then"
    assert [line.split("    ")[0] for line in lines[1:]] == [
        "workflow-worker runs resume o-1",
        "workflow-worker runs cancel o-1",
    ]


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        ("workflow_worker.model.exceptions.NonDeterminism", "no longer fits its history"),
        ("builtins.KeyError", "its own code raised"),
    ],
)
def test_a_run_that_was_suspended_as_a_whole(kind: str, piece: str) -> None:
    lines = told(run(RunStatus.SUSPENDED), RunSuspended(NOW, Failure(kind, "why")))
    assert piece in lines[0]
    assert len(lines) == 3


def test_a_run_that_killed_its_workers_says_so_without_a_record() -> None:
    error = msgspec.msgpack.encode(Failure("poison", "its holders died"))
    assert "MAX_TAKEOVERS" in told(run(RunStatus.SUSPENDED, error=error))[0]
    assert "its own code raised" in told(run(RunStatus.SUSPENDED, error=b"\xff"))[0]


def test_records_of_a_newer_release_are_passed_over() -> None:
    parked = encode_record(ActionParked(NOW, 3, "ship", 7, LOST, 4))
    assert "step 3 (ship)" in standing(run(RunStatus.SUSPENDED), [parked, b"\xc1"], NOW)[0]
