"""`TestEnv`: what an author's test can do, and that what it says is true."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.testing.shop import (
    CardDeclined,
    OrderPlaced,
    ShipmentPacked,
    SweepBegun,
    TrialBegun,
    app,
    charge,
    disordered,
    fulfil,
    remind,
    reserve,
    trial,
)
from workflow_worker import App, wf
from workflow_worker.model.exceptions import Refused, UsageError
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv
from workflow_worker.testing.replaying import ReplayFailed
from workflow_worker.testing.run import StillWaiting

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[False, True], ids=["plain", "paranoid"])
async def env(request: pytest.FixtureRequest) -> AsyncIterator[TestEnv]:
    async with TestEnv(app, paranoid=request.param) as made:
        yield made


async def test_actions_run_as_they_are_unless_they_are_faked(env: TestEnv) -> None:
    run = await env.publish(OrderPlaced("o-1", 42))
    assert run.ref == "fulfil:order-o-1"
    assert run.state == {"status": "waiting", "payment": "real-o-1-42"}
    assert run.waiting_for == ((ShipmentPacked,),)
    await env.publish(ShipmentPacked("o-1", "1Z"))
    with pytest.raises(StillWaiting, match=r"is waiting and waits at: main: .*shop.py.*2030-01-08"):
        await run.result()
    await env.advance(timedelta(days=7))
    assert await run.result() == "1Z"
    assert run.status is RunStatus.COMPLETED


async def test_time_is_moved_by_hand(env: TestEnv) -> None:
    env.fake(charge, returns="ch_1")
    run = await env.publish(OrderPlaced("o-1", 42))
    before = env.now
    await env.until(run, waiting_for=ShipmentPacked)
    assert env.now == before
    await env.advance(timedelta(days=2, seconds=1))
    assert env.now == before + timedelta(days=2, seconds=1)
    with pytest.raises(wf.Failed, match="did not pack in 2 days"):
        await run.result()


async def test_errors_are_retried_and_counted(env: TestEnv) -> None:
    env.fake(charge, raises=[ConnectionResetError("x"), ConnectionError], then_returns="ch_1")
    run = await env.publish(OrderPlaced("o-1", 42))
    await env.until(run, waiting_for=ShipmentPacked, within=timedelta(minutes=10))
    assert run.attempts(charge) == 3
    assert [call.attempt for call in run.calls(charge)] == [1, 2, 3]
    assert len({call.key for call in run.calls(charge)}) == 1
    assert run.attempts(reserve) == 1


async def test_a_permanent_error_suspends_and_a_person_lets_it_go_on(env: TestEnv) -> None:
    env.fake(charge, raises=CardDeclined("no"))
    run = await env.publish(OrderPlaced("o-1", 42))
    assert run.status is RunStatus.SUSPENDED
    with pytest.raises(Refused, match=r"suspended.*CardDeclined.*no"):
        await run.result()
    env.fake(charge, returns="ch_2")
    await run.resume("card changed")
    assert run.state == {"status": "waiting", "payment": "ch_2"}


async def test_a_hanging_action_reaches_its_time_limit(env: TestEnv) -> None:
    env.fake(charge, hangs=True)
    run = await env.publish(OrderPlaced("o-1", 42))
    assert run.status is RunStatus.RUNNING
    await env.advance(19)
    assert run.attempts(charge) == 1
    env.fake(charge, returns="late")
    await env.advance(timedelta(minutes=10))
    assert run.attempts(charge) == 2
    assert run.state["payment"] == "late"


async def test_cancel_reaches_the_code(env: TestEnv) -> None:
    run = await env.publish(OrderPlaced("o-1", 42))
    await run.cancel("not wanted")
    assert run.status is RunStatus.CANCELLED


async def test_spies_see_calls_in_order(env: TestEnv) -> None:
    spy, all_of_them = env.spy(reserve), env.spy()
    await env.publish(OrderPlaced("o-1", 42))
    assert spy.names() == ["reserve"]
    assert spy.calls[0].arguments == {"order_id": "o-1"}
    assert sorted(all_of_them.names()) == ["charge", "reserve"]


async def test_early_events_and_duplicates_are_what_they_are_in_production(env: TestEnv) -> None:
    early = await env.publish(ShipmentPacked("o-1", "1Z"), id="packed")
    with pytest.raises(Exception, match="nothing has started it"):
        _ = early.status
    run = await env.publish(OrderPlaced("o-1", 42), id="placed")
    again = await env.publish(OrderPlaced("o-1", 42), id="placed")
    assert again.ref == run.ref
    await env.advance(timedelta(days=7))
    assert await run.result() == "1Z"
    assert run.attempts(charge) == 1


async def test_a_month_takes_milliseconds() -> None:
    spans: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        async with TestEnv(app) as env:
            run = await env.publish(TrialBegun("u-1"))
            await env.advance(timedelta(days=30))
            assert await run.result() == 30
            assert run.attempts(remind) == 30
        spans.append(time.perf_counter() - began)
    assert min(spans) < 0.05, spans


async def test_a_crash_after_every_commit_changes_nothing() -> None:
    async with TestEnv(app, paranoid=True) as env:
        env.fake(charge, raises=[ConnectionResetError("x")], then_returns="ch_1")
        plays = crashes = 0
        async for run in env.crash_everywhere(
            OrderPlaced("o-1", 42), then=[timedelta(minutes=10), ShipmentPacked("o-1", "1Z"), timedelta(days=7)]
        ):
            assert await run.result() == "1Z"
            assert 2 <= run.attempts(charge) <= 3
            plays += 1
            crashes += run.engine.crashes
    assert plays >= 6
    assert crashes > plays  # one in most plays, and after every commit in the last


async def test_a_crash_by_hand(env: TestEnv) -> None:
    env.fake(charge, hangs=True)
    run = await env.publish(OrderPlaced("o-1", 42))
    env.fake(charge, returns="ch_1")
    await env.crash()
    assert run.attempts(charge) == 2
    assert run.state["payment"] == "ch_1"
    assert run.view.takeovers == 1


async def test_strict_wants_every_action_faked() -> None:
    async with TestEnv(app, strict=True) as env:
        env.fake(reserve, returns=("o-1", 1))
        run = await env.publish(OrderPlaced("o-1", 42))
        await env.advance(timedelta(hours=1))
        assert run.status is RunStatus.SUSPENDED
        assert "charge" in str(run.failure)


async def test_histories_are_exported_and_replayed(tmp_path: Path) -> None:
    async with TestEnv(app) as env:
        run = await env.publish(TrialBegun("u-1"))
        await env.advance(timedelta(days=3))
        (tmp_path / "trial.jsonl").write_text(env.export(run))
        assert await env.replay("*.jsonl", folder=tmp_path) == 1
        text = (
            (tmp_path / "trial.jsonl").read_text().replace('"entry"', '"entry"').replace("trial:trial", "fulfil:trial")
        )
        (tmp_path / "other.jsonl").write_text(text.replace('"user\\":', '"order_id\\":\\"o\\",\\"total\\":1,\\"x\\":'))
        with pytest.raises(ReplayFailed, match=r"fulfil.*expected|history"):
            await env.replay("other.jsonl", folder=tmp_path)
        with pytest.raises(UsageError, match="no file fits"):
            await env.replay("nothing/*.jsonl", folder=tmp_path)
        (tmp_path / "bad.jsonl").write_text("not json\n")
        with pytest.raises(UsageError, match=r"bad.jsonl, line 1"):
            await env.replay("bad.jsonl", folder=tmp_path)


async def test_an_environment_refuses_what_makes_no_sense(env: TestEnv) -> None:
    with pytest.raises(UsageError, match=r"no action 'nonsense'; it has charge, remind, reserve"):
        env.fake("nonsense", returns=1)
    with pytest.raises(UsageError, match="one result"):
        env.fake(charge, returns=1, answer=lambda: 2)
    run = await env.start(fulfil, OrderPlaced("o-7", 1), id="by-hand")
    assert run.ref == "fulfil:by-hand"
    with pytest.raises(AssertionError, match="does not wait for OrderPlaced"):
        await env.until(run, waiting_for=OrderPlaced)
    with pytest.raises(UsageError, match="one of"):
        await env.until(run)
    assert [view.id for view in await env.runs(fulfil)] == ["by-hand"]
    assert env.run(trial, "x").ref == "trial:x"


async def test_a_run_that_depends_on_the_hash_seed_is_found_in_another_process() -> None:
    env = TestEnv(app, paranoid=True)
    await env.start(disordered, SweepBegun("all"), id="d")
    with pytest.raises(ReplayFailed, match="another hash seed"):
        await env.aclose()


def test_the_plugin_gives_an_environment(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nworkflow_app = tests.unit.testing.shop:app\npythonpath = " + str(ROOT)
    )
    pytester.makepyfile(
        """
        from tests.unit.testing.shop import OrderPlaced, charge

        async def test_one(env):
            env.fake(charge, returns="ch")
            run = await env.publish(OrderPlaced("o", 1))
            assert run.state["payment"] == "ch"
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:randomly")
    result.assert_outcomes(passed=1)


async def test_the_environment_is_that_of_the_play_while_it_lasts() -> None:
    async with TestEnv(app, paranoid=True) as env:
        env.fake(charge, returns="ch_1")
        untouched = await env.publish(OrderPlaced("o-0", 1))
        async for run in env.crash_everywhere(OrderPlaced("o-1", 42), then=[ShipmentPacked("o-1", "1Z")]):
            await env.advance(timedelta(days=7))
            assert await run.result() == "1Z"
            assert [found.id for found in await env.runs(fulfil)] == ["order-o-1"]
        assert untouched.status is RunStatus.WAITING
        assert [found.id for found in await env.runs(fulfil)] == ["order-o-0"]


async def test_a_sync_action_that_stops_an_iteration_fails_as_in_production() -> None:
    other = App("iterates")

    @other.event("go")
    @dataclass(frozen=True)
    class Go:
        pass

    @other.action
    def first(of: list[str]) -> str:
        return next(iter(of))

    @other.workflow(on=Go)
    async def look(go: Go) -> str:
        del go
        return await first([])

    async with TestEnv(other, max_retries=0) as env:
        run = await env.publish(Go(), id="1")
        assert run.ref == f"{look.name}:1"
        assert "the action raised StopIteration" in str(run.failure)
