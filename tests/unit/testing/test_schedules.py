"""Schedules in virtual time: ticks, overlap, downtime, what a person tells them, and crashes at any commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.unit.testing.scheduled import OrderPlaced, app, fulfil, long, nightly
from workflow_worker import App, Event
from workflow_worker.app import keeping, schedules
from workflow_worker.client.schedules import ScheduleView
from workflow_worker.model.exceptions import NotFound, Refused, UsageError
from workflow_worker.model.run import RunStatus
from workflow_worker.model.schedules import KEEPER_WORKFLOW
from workflow_worker.testing import TestEnv, TestRun

MINUTE = timedelta(minutes=1)
NO_TIME = {"minutes": 0}


@pytest.fixture(params=[False, True], ids=["plain", "paranoid"])
async def env(request: pytest.FixtureRequest) -> AsyncIterator[TestEnv]:
    async with TestEnv(app, now=datetime(2030, 1, 1, 9, 2, tzinfo=UTC), paranoid=request.param) as env:
        yield env


async def ids(env: TestEnv, workflow: str) -> list[str]:
    """Ids of the runs, in the order in which they began."""
    return [run.id for run in reversed(await env.runs(workflow))]


async def view(env: TestEnv, name: str) -> ScheduleView:
    await env.settle()
    return await env.client.schedule_handle(name).view()


def clock(hour: int, minute: int) -> str:
    return f"2030-01-01T{hour:02}:{minute:02}Z"


async def test_a_declared_schedule_starts_one_run_for_each_tick(env: TestEnv) -> None:
    sent = env.spy("send")
    await env.advance(15 * MINUTE)
    assert await ids(env, "report") == [f"report@{clock(9, minute)}" for minute in (5, 10, 15)]
    assert await env.run("report", f"report@{clock(9, 10)}").result() == "2030-01-01T09:10:00+00:00"
    assert sent.calls[0].arguments == {"text": "report 2030-01-01T09:05:00+00:00"}
    found = await view(env, "report")
    assert (found.started, found.skipped, found.missed, found.queued, found.running) == (3, 0, 0, 0, None)
    assert found.last == datetime(2030, 1, 1, 9, 15, tzinfo=UTC)
    assert found.next == datetime(2030, 1, 1, 9, 20, tzinfo=UTC)
    assert (found.declared, found.paused, found.problem) == (True, False, "")


@pytest.mark.parametrize(
    ("begin", "ticks"),
    [
        (datetime(2026, 3, 28, 12, tzinfo=UTC), ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
    ],
    ids=["an hour is skipped", "an hour comes twice"],
)
async def test_a_night_without_its_hour_or_with_two_has_one_run(begin: datetime, ticks: list[str]) -> None:
    async with TestEnv(nightly, now=begin) as env:
        await env.advance(timedelta(days=2))
        assert await ids(env, "close_books") == [f"close_books@{tick}" for tick in ticks]


async def test_skip_leaves_out_ticks_while_a_run_is_under_way(env: TestEnv) -> None:
    await env.client.schedule(long, cron="*/5 * * * *", input={"minutes": 12})
    await env.advance(28 * MINUTE)
    assert await ids(env, "long") == [f"long@{clock(9, 5)}", f"long@{clock(9, 20)}"]
    found = await view(env, "long")
    assert (found.started, found.skipped, found.running) == (2, 4, f"long@{clock(9, 20)}")


async def test_queue_starts_one_after_the_other_in_order(env: TestEnv) -> None:
    await env.client.schedule("long", name="slow", cron="*/5 * * * *", overlap="queue", input={"minutes": 12})
    await env.advance(28 * MINUTE)
    assert await ids(env, "long") == [f"slow@{clock(9, 5)}", f"slow@{clock(9, 10)}", f"slow@{clock(9, 15)}"]
    found = await view(env, "slow")
    assert (found.started, found.queued, found.skipped) == (3, 3, 0)
    runs = await env.runs("long")
    assert runs[1].view.started_at == runs[2].view.updated_at == at(9, 17)


async def test_a_queue_has_an_end(env: TestEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MAX_QUEUED", 2)
    await env.client.schedule("long", cron="*/5 * * * *", overlap="queue", input={"minutes": 100})
    await env.advance(28 * MINUTE)
    found = await view(env, "long")
    assert (found.started, found.queued, found.skipped) == (1, 2, 3)


async def test_allow_lets_runs_overlap(env: TestEnv) -> None:
    await env.client.schedule("long", cron="*/5 * * * *", overlap="allow", input={"minutes": 12})
    await env.advance(18 * MINUTE)
    assert await ids(env, "long") == [f"long@{clock(9, minute)}" for minute in (5, 10, 15, 20)]


async def downtime(env: TestEnv, span: timedelta) -> None:
    """Let time pass without a worker."""
    env.run("none", "none").engine.clock.move_to(int((env.now + span).timestamp() * 1000))
    await env.crash()


async def test_what_was_missed_is_made_up_for_if_it_is_not_too_old(env: TestEnv) -> None:
    await env.client.schedule("long", cron="*/5 * * * *", overlap="allow", catch_up=timedelta(minutes=11))
    await env.settle()
    await downtime(env, timedelta(hours=2, minutes=4))
    assert await ids(env, "long") == [f"long@{clock(10, 55)}", f"long@{clock(11, 0)}", f"long@{clock(11, 5)}"]
    found = await view(env, "long")
    assert (found.started, found.missed) == (3, 22)
    assert (await view(env, "report")).missed == 24, "by default only a tick of the last minute is made up for"
    records = env.run(KEEPER_WORKFLOW, "report").records
    assert len(records) < 10, "missed ticks cost one record in all"


async def test_a_second_in_which_all_ticks_of_a_month_were_missed_ends(env: TestEnv) -> None:
    await env.client.schedule("long", cron="* * * * * *", input={"minutes": 0})
    await env.settle()
    await downtime(env, timedelta(days=30))
    found = await view(env, "long")
    assert found.missed == 50_000
    assert found.started + found.skipped >= 60


async def test_paused_it_makes_no_ticks_and_resumed_it_goes_on(env: TestEnv) -> None:
    report = env.client.schedule_handle("report")
    await env.advance(4 * MINUTE)
    await report.pause(by="max")
    await env.advance(10 * MINUTE)
    found = await view(env, "report")
    assert (found.paused, found.next, found.started, found.missed) == (True, None, 1, 0)
    await report.resume()
    await env.advance(5 * MINUTE)
    assert await ids(env, "report") == [f"report@{clock(9, 5)}", f"report@{clock(9, 20)}"]
    assert (await view(env, "report")).missed == 0


async def test_run_now_starts_a_run_besides_the_ticks_also_while_paused(env: TestEnv) -> None:
    await env.settle()
    report = env.client.schedule_handle("report")
    await report.pause()
    run = await report.run_now()
    await env.settle()
    assert run.ref == "report:report@2030-01-01T09:02:00.000Z"
    assert await run.result(1) == "2030-01-01T09:02:00+00:00"


async def test_run_now_waits_for_the_run_under_way(env: TestEnv) -> None:
    slow = await env.client.schedule(long, cron="*/5 * * * *", input={"minutes": 7})
    await env.advance(4 * MINUTE)
    run = await slow.run_now()
    await env.advance(5 * MINUTE)
    assert await run.view() is None
    await env.advance(4 * MINUTE)
    assert await run.status() is RunStatus.WAITING
    found = await view(env, "long")
    assert (found.started, found.skipped, found.queued) == (2, 2, 0)


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_backfill_makes_up_for_a_span_and_not_twice(env: TestEnv, overlap: Any) -> None:
    slow = await env.client.schedule("long", cron="*/5 * * * *", overlap=overlap, input={"minutes": 1})
    await env.advance(10 * MINUTE)
    since, until = datetime(2030, 1, 1, 8, 30, tzinfo=UTC), datetime(2030, 1, 1, 9, 10, tzinfo=UTC)
    assert await slow.backfill(since, until) == 9
    await env.advance(2 * MINUTE)
    await slow.backfill(since, until)
    await env.advance(timedelta(hours=2))
    found = await ids(env, "long")
    # 26 ticks from 09:05 to 11:10, and 7 of the span that had none; skip leaves one out meanwhile
    assert len(found) == len(set(found)) == (32 if overlap == "skip" else 33)
    assert {f"long@{clock(8, 30)}", f"long@{clock(8, 55)}"} <= set(found)
    assert all(run.view.records < 10 for run in await env.runs("long")), "none began anew"
    now = await view(env, "long")
    assert (now.queued, now.running) == (0, None)


async def test_a_backfill_must_make_sense(env: TestEnv) -> None:
    await env.settle()
    report, now = env.client.schedule_handle("report"), env.now
    for since, until, why in (
        (now.replace(tzinfo=None), now, "time zone"),
        (now, now - MINUTE, "ends before"),
        (now, now + MINUTE, "future"),
        (now - timedelta(days=365), now, "more than 10000"),
    ):
        with pytest.raises(UsageError, match=why):
            await report.backfill(since, until)
    assert await report.backfill(now, now) == 0


async def test_deleted_it_ends_and_its_runs_go_on(env: TestEnv) -> None:
    slow = await env.client.schedule(long, cron="*/5 * * * *", input={"minutes": 7})
    await env.advance(4 * MINUTE)
    await slow.delete()
    await env.advance(10 * MINUTE)
    assert await env.run("long", f"long@{clock(9, 5)}").result() == "done"
    assert await ids(env, "long") == [f"long@{clock(9, 5)}"]
    assert [each.name for each in await env.client.schedules()] == ["report"]
    with pytest.raises(NotFound, match="no schedule long"):
        await slow.pause()
    await env.client.schedule(long, cron="*/5 * * * *", input={"minutes": 1})
    await env.advance(5 * MINUTE)
    assert await ids(env, "long") == [f"long@{clock(9, 5)}", f"long@{clock(9, 20)}"]


async def test_what_is_told_twice_under_one_id_acts_once(env: TestEnv) -> None:
    await env.settle()
    report = env.client.schedule_handle("report")
    await report.run_now(id="r-1")
    await env.advance(1)
    await report.run_now(id="r-1")
    await env.settle()
    assert (await view(env, "report")).started == 1


async def test_a_schedule_gives_a_workflow_its_event(env: TestEnv) -> None:
    await env.client.schedule(fulfil, name="daily-order", cron="0 10 * * *", input=OrderPlaced("o-1"))
    await env.advance(timedelta(hours=1))
    [run] = await env.runs("fulfil")
    assert (run.id, run.view.subject, await run.result()) == ("daily-order@2030-01-01T10:00Z", "o-1", "o-1")


async def test_what_cannot_be_a_schedule_is_refused_at_once(env: TestEnv) -> None:
    await env.settle()
    client = env.client
    with pytest.raises(UsageError, match="Bad minute"):
        await client.schedule(long, cron="61 * * * *")
    with pytest.raises(UsageError, match="timezone='Mars' is not known"):
        await client.schedule(long, cron="* * * * *", timezone="Mars")
    with pytest.raises(UsageError, match="overlap='never' is not usable"):
        await client.schedule(long, cron="* * * * *", overlap="never")  # pyright: ignore[reportArgumentType] - see text
    with pytest.raises(UsageError, match="schedule name 'a b'"):
        await client.schedule(long, cron="* * * * *", name="a b")
    with pytest.raises(UsageError, match="bytes, more than 65536"):
        await client.schedule(long, cron="* * * * *", input={"text": "x" * 70_000})
    with pytest.raises(Refused, match="declared in the code of 'report'"):
        await client.schedule("report", cron="* * * * *")


async def test_a_strangers_message_ends_no_schedule(env: TestEnv) -> None:
    await env.settle()
    for data in ({"kind": "explode"}, {"kind": "run", "at_ms": 10**18, "spec": 7}, [1]):
        for kind in ("set", "told"):
            store, event = env.client, f"workflow-worker.schedule.{kind}"
            await store.start(KEEPER_WORKFLOW, event_of(event, data), id="report", event_id=f"{kind}{data}")
    await env.advance(4 * MINUTE)
    found = await view(env, "report")
    assert (found.started, found.problem) == (1, "")
    letters = await env.client.dead_letters()
    assert len(letters) == 6
    assert all("does not fit Schedule" in letter.reason for letter in letters)


async def test_a_schedule_of_a_workflow_that_nobody_has_says_so_and_is_mended(env: TestEnv) -> None:
    await env.client.schedule("unknown", name="x", cron="*/5 * * * *")
    await env.advance(10 * MINUTE)
    assert (await view(env, "x")).problem == "there is no workflow 'unknown'"
    await env.client.schedule("long", name="x", cron="*/5 * * * *", input={"minutes": 1})
    await env.advance(5 * MINUTE)
    found = await view(env, "x")
    assert (found.problem, found.started) == ("", 1)


async def test_more_ticks_than_one_action_answers_with_are_all_made(
    env: TestEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "AT_ONCE", 3)
    for overlap in ("allow", "queue", "skip"):
        await env.client.schedule(long, name=overlap, cron="* * * * *", overlap=overlap, catch_up=3600, input=NO_TIME)
    await env.settle()
    await downtime(env, 8 * MINUTE)
    await env.advance(1)
    for name in ("allow", "queue"):
        found = await view(env, name)
        assert (found.started, found.missed, found.queued) == (8, 0, 0)
    assert (await view(env, "skip")).started + (await view(env, "skip")).skipped == 8


async def test_the_longest_names_fit(env: TestEnv) -> None:
    name = "s" * 128
    handle = await env.client.schedule("w" * 128, name=name, cron="*/5 * * * *")
    await env.settle()
    assert (await handle.view()).problem.startswith("there is no workflow")
    other = App("long-names")
    other.workflow(name="w" * 128, cron="*/5 * * * *")(nothing)
    async with TestEnv(other) as names:
        await names.client.schedule("w" * 128, name=name, cron="*/5 * * * *", overlap="queue")
        await names.advance(11 * MINUTE)
        assert [(each.started, each.problem) for each in await names.client.schedules()] == [(2, ""), (2, "")]
        assert all(run.status is RunStatus.COMPLETED for run in await names.runs("w" * 128))


async def test_a_change_takes_effect_and_a_pause_outlives_it(env: TestEnv) -> None:
    slow = await env.client.schedule(long, cron="*/5 * * * *", input={"minutes": 1})
    await env.settle()
    await slow.pause()
    await env.client.schedule(long, cron="*/2 * * * *", timezone="Asia/Kolkata", input={"minutes": 1})
    await env.advance(10 * MINUTE)
    assert (await view(env, "long")).paused
    await slow.resume()
    await env.advance(4 * MINUTE)
    assert await ids(env, "long") == [f"long@{clock(9, 14)}", f"long@{clock(9, 16)}"]


async def test_a_long_history_is_cut_and_nothing_is_lost(env: TestEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "HISTORY_KEPT", 12)
    await env.client.schedule(long, cron="*/5 * * * *", overlap="queue", input={"minutes": 6})
    await env.advance(timedelta(hours=2))
    found = await ids(env, "long")
    assert found == [f"long@{clock(9 + m // 60, m % 60)}" for m in range(5, 5 + 5 * len(found), 5)]
    assert len(found) == 20
    assert (await view(env, "report")).started == 24
    for name in ("long", "report"):
        assert len(env.run(KEEPER_WORKFLOW, name).records) <= 80


async def test_a_crash_after_any_commit_changes_nothing() -> None:
    plays = 0
    async with TestEnv(app, now=datetime(2030, 1, 1, 9, 2, tzinfo=UTC), paranoid=True) as env:

        async def begin(run: TestRun) -> None:
            client = run.engine.client
            await client.schedule(long, cron="*/5 * * * *", overlap="queue", input={"minutes": 6}, name="slow")

        async def ask(run: TestRun) -> None:
            await run.engine.client.schedule_handle("slow").run_now(id="r-1")

        async for run in env.crash_everywhere(OrderPlaced("o-1"), then=(begin, 9 * MINUTE, ask, 20 * MINUTE)):
            plays += 1
            runs = run.engine.store.partition.state.runs
            found = [each.id for each in runs.values() if each.workflow == "long"]
            assert found == [
                f"slow@{clock(9, 5)}",
                f"slow@{clock(9, 10)}",
                "slow@2030-01-01T09:11:00.000Z",
                f"slow@{clock(9, 15)}",
                f"slow@{clock(9, 20)}",
            ], f"play {plays}"
            reports = [each.id for each in runs.values() if each.workflow == "report"]
            assert reports == [f"report@{clock(9, minute)}" for minute in range(5, 35, 5)]
    assert plays > 20


async def nothing() -> None: ...


def at(hour: int, minute: int) -> int:
    return int(datetime(2030, 1, 1, hour, minute, tzinfo=UTC).timestamp() * 1000)


def event_of(event_type: str, data: Any) -> Event:
    return Event("", event_type, data=msgspec.json.encode(data))
