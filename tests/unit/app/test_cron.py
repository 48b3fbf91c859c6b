"""Ticks of a cron expression, and what an author may declare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import make_dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_worker import App, wf
from workflow_worker.app.check import check
from workflow_worker.app.cron import check_cron, find_ticks, ticks_after
from workflow_worker.model.exceptions import UsageError


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # pyright: ignore[reportArgumentType] - year to second


def shown(cron: str, timezone: str, after: int, until: int) -> list[str]:
    due = find_ticks(cron, timezone, after, until, 0, 100).due
    return [datetime.fromtimestamp(at / 1000, UTC).strftime("%m-%dT%H:%M") for at in due]


@pytest.mark.parametrize(
    ("cron", "begin", "expected"),
    [
        ("30 2 * * *", (2026, 10, 24, 12), ["10-25T00:30", "10-26T01:30"]),
        ("30 2 * * *", (2026, 10, 25, 1), ["10-26T01:30"]),
        ("30 2 * * *", (2026, 3, 28, 12), ["03-29T01:00", "03-30T00:30"]),
        ("0 */12 * * *", (2026, 3, 28, 12), ["03-28T23:00", "03-29T10:00", "03-29T22:00", "03-30T10:00"]),
        (
            "*/30 2 * * *",
            (2026, 10, 24, 12),
            ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-26T01:00"],
        ),
    ],
    ids=["twice", "in the second hour", "skipped", "every twelve hours", "within the hour"],
)
def test_the_clock_that_is_put_forward_and_back(cron: str, begin: tuple[int, ...], expected: list[str]) -> None:
    after = ms(*begin)
    assert shown(cron, "Europe/Berlin", after, after + 48 * 3_600_000)[: len(expected)] == expected


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 0 * * *", "15 1,2,3 * * 0", "*/20 * * * * *", "0 3 1-7 * 1"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
)
def test_ticks_rise_and_looking_again_from_any_of_them_finds_the_next(cron: str, zone: str, begin: datetime) -> None:
    tz = UTC if zone == "UTC" else ZoneInfo(zone)
    found = list(islice(ticks_after(cron, tz, int(begin.replace(tzinfo=UTC).timestamp() * 1000)), 8))
    assert len(found) == 8
    for one, following in pairwise(found):
        assert one < following
        assert next(ticks_after(cron, tz, one)) == following


def test_what_is_too_old_is_counted_and_the_rest_comes_in_portions() -> None:
    begin = ms(2026, 1, 1)
    found = find_ticks("* * * * *", "UTC", begin, begin + 600_000, begin + 300_000, 3)
    assert (found.missed, [at - begin for at in found.due]) == (4, [300_000, 360_000, 420_000])
    assert (found.until_ms - begin, found.next_ms) == (420_000, begin + 480_000)
    rest = find_ticks("* * * * *", "UTC", found.until_ms, begin + 600_000, begin + 300_000, 100)
    assert (rest.missed, len(rest.due), rest.until_ms - begin, rest.next_ms) == (0, 3, 600_000, begin + 660_000)


@pytest.mark.parametrize(
    ("cron", "timezone", "why"),
    [
        ("61 * * * *", "UTC", "Bad minute. Five fields"),
        ("* * * *", "UTC", "Wrong number of fields"),
        ("", "UTC", "Wrong number of fields"),
        ("0 0 30 2 *", "UTC", "Bad day-of-month"),
        ("* * * * *", "Mars/Phobos", "timezone='Mars/Phobos' is not known"),
        ("* * * * *", "../../etc/passwd", "is not known"),
        ("* * * * *", "", "is not known"),
        (7, "UTC", "a text such as"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(cron: Any, timezone: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_cron(cron, timezone)
    with pytest.raises(UsageError, match="workflow 'report' .*" + why):
        App("x").workflow(cron=cron, timezone=timezone)(report)


async def report() -> None: ...


async def with_tick(tick: wf.Tick) -> None: ...


async def with_default(tick: wf.Tick | None = None, count: int = 3) -> None: ...


async def with_argument(count: int) -> None: ...


async def with_two(tick: wf.Tick, count: int) -> None: ...


@pytest.mark.parametrize("fn", [report, with_tick, with_default])
def test_a_scheduled_workflow_takes_nothing_or_the_tick(fn: Callable[..., Any]) -> None:
    app = App("x")
    app.workflow(cron="@hourly", timezone="Europe/Berlin", overlap="queue", catch_up=timedelta(hours=1))(fn)
    [spec] = app.schedules
    assert (spec.workflow, spec.cron, spec.timezone, spec.overlap) == (fn.__name__, "@hourly", "Europe/Berlin", "queue")
    assert (spec.catch_up_ms, spec.declared) == (3_600_000, True)
    assert check(app) == []


@pytest.mark.parametrize("fn", [with_argument, with_two])
def test_a_scheduled_workflow_that_needs_more_is_refused(fn: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"it takes nothing, or one parameter of class wf\.Tick"):
        App("x").workflow(cron="@daily")(fn)


def test_only_the_newest_version_says_when() -> None:
    app = App("x")
    app.workflow(cron="@daily", name="a")(report)
    app.workflow(cron="@hourly", name="a", version=2)(with_tick)
    app.workflow(name="b", cron="@daily")(report)
    app.workflow(name="b", version=2)(report)
    assert [(spec.workflow, spec.cron) for spec in app.schedules] == [("a", "@hourly")]
    with pytest.raises(UsageError, match="overlap='both' is not usable"):
        app.workflow(cron="@daily", overlap="both")  # pyright: ignore[reportArgumentType, reportCallIssue] - see the text


def test_what_every_app_has_is_not_shown_as_the_authors() -> None:
    app = App("x")
    app.workflow(cron="@daily")(report)
    assert repr(app) == "<App x: 1 workflows, 0 actions, 0 event types>"
    assert (app.actions, app.events.definitions, len(app.workflows)) == ((), (), 1)
    assert app.find_action("ww.schedule.plan") is not None
    assert app.find_workflow("ww.schedule", 1) is not None
    with pytest.raises(UsageError, match="is reserved"):
        app.event("workflow-worker.schedule.set")(make_dataclass("Mine", ["name"]))
