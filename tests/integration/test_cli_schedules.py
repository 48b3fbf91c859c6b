"""``workflow-worker schedules`` against a real service on an embedded server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.command import EXAMPLES, Place, wait_for

FIELDS = [
    "name", "workflow", "cron", "timezone", "overlap", "catch_up_s", "declared", "status", "next", "last", "running",
    "queued", "started", "skipped", "missed", "problem",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder in which the report example runs."""
    made = Place(tmp_path_factory.mktemp("report"), {"WORKER_COUNT": "1"})
    with made.start("start", str(EXAMPLES / "report.py")):
        wait_for(lambda: made.run("schedules", "show", "report").code == 0, "the declared schedule")
        yield made


def shown(place: Place, name: str) -> dict[str, Any]:
    answer = place.run("schedules", "show", name, "--json")
    return answer.document if answer.code == 0 else {}


def test_a_declared_schedule_is_listed_and_shown(place: Place) -> None:
    [listed] = [each for each in place.run("schedules", "list", "--json").document["items"] if each["name"] == "report"]
    assert list(listed) == FIELDS
    assert (listed["cron"], listed["timezone"], listed["declared"]) == ("0 7 * * 1-5", "Europe/Berlin", True)
    lines = place.run("schedules", "list").out.splitlines()
    assert lines[0].split()[:4] == ["NAME", "WORKFLOW", "CRON", "TIMEZONE"]
    assert "cron       0 7 * * 1-5" in place.run("schedules", "show", "report").out


def test_a_schedule_is_paused_run_made_up_for_and_resumed(place: Place) -> None:
    assert place.run("schedules", "pause", "report", "--by", "max").out.startswith("report is paused")
    wait_for(lambda: shown(place, "report").get("status") == "paused", "the pause")
    ref = place.run("schedules", "run", "report").out.split()[0]
    wait_for(lambda: place.run("runs", "show", ref, "--json").document["status"] == "completed", "the run asked for")
    answer = place.run("schedules", "backfill", "report", "--since", "2026-01-05", "--until", "2026-01-09T12:00Z")
    assert answer.out == "5 ticks of report are asked for\n"
    wait_for(lambda: shown(place, "report").get("started") == 6, "the ticks of a week")
    found = place.run("runs", "list", "--workflow", "report", "--json").document["items"]
    assert {run["id"] for run in found} >= {f"report@2026-01-0{day}T06:00Z" for day in range(5, 10)}
    place.run("schedules", "resume", "report")
    wait_for(lambda: shown(place, "report").get("status") == "ok", "the resumption")


def test_what_was_done_to_schedules_is_among_what_operators_did(place: Place) -> None:
    place.run("schedules", "set", "report", "0 0 2 1 *", "--name", "noted", "--by", "ann")
    wait_for(lambda: shown(place, "noted") != {}, "the schedule")
    place.run("schedules", "pause", "noted", "--by", "max")
    ref = place.run("schedules", "run", "noted", "--by", "max").out.split()[0]
    place.run("schedules", "backfill", "noted", "--since", "2026-01-02", "--until", "2026-01-02", "--by", "max")
    place.run("schedules", "resume", "noted", "--by", "max")
    place.run("schedules", "delete", "noted")
    acts = [act for act in place.run("operators", "--json").document["items"] if act["on"] == "noted"]
    assert [(act["act"], act["note"]) for act in reversed(acts)] == [
        ("set schedule", "report: 0 0 2 1 * UTC"),
        ("pause schedule", ""),
        ("run schedule", ref.partition(":")[2]),
        ("backfill schedule", "2026-01-02T00:00:00.000Z to 2026-01-02T00:00:00.000Z"),
        ("resume schedule", ""),
        ("delete schedule", ""),
    ]
    assert [act["by"] for act in reversed(acts)][:2] == ["ann", "max"]
    assert "@" in acts[0]["by"]


def test_a_schedule_is_set_and_deleted(place: Place) -> None:
    data = json.dumps({"shop": "Berlin"})
    answer = place.run("schedules", "set", "report", "0 0 1 1 *", "--name", "yearly", "--overlap", "allow")
    assert answer.out.startswith("yearly is set")
    wait_for(lambda: shown(place, "yearly").get("overlap") == "allow", "the new schedule")
    place.run("schedules", "delete", "yearly")
    wait_for(lambda: shown(place, "yearly") == {}, "the end of the schedule")
    for arguments, code, why in (
        (("set", "report", "61 * * * *", "--name", "x"), 2, "Bad minute"),
        (("set", "report", "* * * * *"), 1, "declared in the code"),
        (("set", "report", "* * * * *", "--name", "x", "--input", data[:-1]), 2, "--input is not JSON"),
        (("pause", "nothing"), 1, "there is no schedule nothing"),
        (("backfill", "report", "--since", "monday", "--until", "2026-01-09"), 2, "'monday' is no instant"),
        (("backfill", "report", "--since", "2026-01-09", "--until", "2026-01-05"), 2, "ends before it begins"),
    ):
        answer = place.run("schedules", *arguments)
        assert (answer.code, why in answer.err) == (code, True), answer
