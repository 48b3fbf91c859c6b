"""The examples, as an author would test them: paranoid, and crashed after every commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from examples import approval, billing, human_task, orders, polling, sliding_window

from workflow_worker import App, wf
from workflow_worker.testing import TestEnv, TestRun

pytestmark = pytest.mark.usefixtures("effects")


@pytest.fixture
def effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the orders example writes what it did."""
    monkeypatch.setenv("ORDERS_EFFECTS", str(tmp_path / "effects"))
    monkeypatch.setenv("ORDERS_STEP_MS", "0")


SCENARIOS: dict[str, tuple[App, Any, list[Any], Any]] = {
    "approval, decided late": (
        approval.app,
        approval.Requested("a-1", "2 laptops", "ann", "max"),
        [timedelta(days=1, hours=12), approval.Decided(True, "ann")],
        {"approved_by": "ann"},
    ),
    "approval, escalated": (
        approval.app,
        approval.Requested("a-1", "2 laptops", "ann", "max"),
        [timedelta(days=3), approval.Decided(True, "max")],
        {"approved_by": "max"},
    ),
    "billing, plan changed and cancelled": (
        billing.app,
        billing.Begun("s-1", "small"),
        [timedelta(days=35), billing.PlanChanged("large"), timedelta(days=30), billing.Cancelled(), timedelta(days=30)],
        ["s-1-1-small-900", "s-1-2-small-900", "s-1-3-large-2900"],
    ),
    "polling": (polling.app, polling.Uploaded("v-1"), [timedelta(hours=1)], "job-v-1"),
    "sliding window": (
        sliding_window.app,
        sliding_window.Requested("i-1", ["a", "bad-1", "b", "c", "bad-2", "d"], 2),
        [timedelta(hours=1)],
        {"imported": ["A", "B", "C", "D"], "refused": ["bad-1", "bad-2"]},
    ),
    "human task, corrected twice": (
        human_task.app,
        human_task.Begun("t-1", "ann"),
        [
            human_task.FormSent(0, "sea"),
            timedelta(days=1),
            human_task.FormSent(20, "sea"),
            human_task.FormSent(3, "sea"),
        ],
        "sea-ann-3",
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_an_example_survives_a_crash_after_every_commit(name: str) -> None:
    app, start, then, expected = SCENARIOS[name]
    subject = getattr(start, app.events.of(cast("type[object]", type(start))).subject or "")
    steps = [_about(step, subject) for step in then]
    async with TestEnv(app, paranoid=True) as env:
        if app is polling.app:
            env.fake(polling.submit, returns="job-v-1")
            answers = iter(["queued"] * 3 + ["running"] * 3)

            def look(job: str) -> str:
                return next(answers, "done")

            env.fake(polling.look, answer=look)
        plays = 0
        async for run in env.crash_everywhere(start, steps):
            assert _comparable(await run.result()) == _comparable(expected)
            plays += 1
        assert plays >= 4


def _about(step: Any, subject: str) -> Any:
    """Events of these examples carry no subject of their own: send them as ``--subject`` does."""
    if isinstance(step, timedelta):
        return step

    async def send(run: TestRun) -> None:
        await run.engine.client.publish(step, subject=subject)

    return send


def _comparable(result: Any) -> Any:
    """Of parallel items the order may differ from play to play: a crash makes another attempt come first."""
    if not isinstance(result, dict):
        return result
    fields = cast("dict[str, Any]", result)
    return {
        name: sorted(cast("list[str]", value)) if isinstance(value, list) else value for name, value in fields.items()
    }


@pytest.fixture
async def billing_env() -> AsyncIterator[TestEnv]:
    async with TestEnv(billing.app, paranoid=True) as env:
        yield env


async def test_a_subscription_is_billed_once_a_period(billing_env: TestEnv) -> None:
    run = await billing_env.publish(billing.Begun("s-1", "large", periods=3))
    await billing_env.advance(timedelta(days=29))
    assert run.attempts(billing.bill) == 1
    assert run.state["period"] == 1
    await billing_env.advance(timedelta(days=61))
    assert await run.result() == [f"s-1-{period}-large-2900" for period in (1, 2, 3)]


async def test_polling_gives_up_in_time() -> None:
    async with TestEnv(polling.app, paranoid=True) as env:
        env.fake(polling.look, returns="running")
        run = await env.publish(polling.Uploaded("v-1"))
        await env.advance(timedelta(hours=7))
        with pytest.raises(wf.Failed, match="was not done in time"):
            await run.result()
        assert 36 <= run.attempts(polling.look) <= 50


async def test_a_form_that_never_comes_ends_the_trip() -> None:
    async with TestEnv(human_task.app, paranoid=True) as env:
        run = await env.publish(human_task.Begun("t-1", "ann"))
        await env.advance(timedelta(days=15))
        with pytest.raises(wf.Failed, match="the form never came"):
            await run.result()


async def test_an_order_runs_through() -> None:
    async with TestEnv(orders.app, paranoid=True) as env:
        run = await env.publish("order.placed", {"order_id": "o-1"}, subject="o-1")
        await env.advance(60)
        assert run.status.ended
        assert [call.action for call in run.calls()] == ["reserve_stock", "charge", "ship"]
