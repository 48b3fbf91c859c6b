"""The shop, tested as its author would: in days that take milliseconds, and through every crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from examples.shop import (
    OrderPlaced,
    ShipmentPacked,
    app,
    ask_review,
    bank,
    charge,
    fulfil,
    refresh_token,
    refund,
    release_stock,
    reserve_stock,
)

from workflow_worker import wf
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[TestEnv]:
    monkeypatch.setattr("examples.shop.LEDGER", tmp_path / "ledger")
    monkeypatch.setattr(bank, "token", "fresh")
    async with TestEnv(app, paranoid=True) as made:
        yield made


async def test_refunds_when_warehouse_is_silent(env: TestEnv) -> None:
    env.fake(charge, returns="ch_1")
    env.fake(reserve_stock, raises=[httpx.ConnectTimeout("x")], then_returns="hold_1")
    undo = env.spy(refund, release_stock)
    run = await env.publish(OrderPlaced("o-1", "c-9", 4200))
    await env.until(run, waiting_for=ShipmentPacked)
    await env.advance(timedelta(days=2, seconds=1))  # milliseconds of real time
    with pytest.raises(wf.Failed, match="did not pack"):
        await run.result()
    assert undo.names() == ["refund", "release_stock"]
    assert run.attempts(reserve_stock) == 2


async def test_survives_a_crash_after_every_record(env: TestEnv) -> None:
    plays = 0
    async for run in env.crash_everywhere(
        OrderPlaced("o-2", "c-9", 4200), then=[ShipmentPacked("o-2", "1Z"), timedelta(days=7)]
    ):
        assert await run.result() == "1Z"
        assert run.attempts(ask_review) >= 1
        plays += 1
    assert plays >= 5


async def test_live_histories_still_replay(env: TestEnv, tmp_path: Path) -> None:
    run = await env.publish(OrderPlaced("o-3", "c-9", 4200))
    (tmp_path / "histories").mkdir()
    (tmp_path / "histories" / "o-3.jsonl").write_text(env.export(run))
    assert await env.replay(str(tmp_path / "histories/*.jsonl")) == 1


async def test_one_at_a_time_with_their_keys(env: TestEnv) -> None:
    run = await env.publish(OrderPlaced("o-1", "c-9", 4200))
    assert run.state == {"status": "waiting for warehouse", "hold": "reserve-o-1", "payment": "charge-c-9"}
    assert len({call.key for call in run.calls()}) == 2
    await env.publish(ShipmentPacked("o-1", "1Z"))
    await env.advance(timedelta(days=7))
    assert await run.result() == "1Z"
    assert [call.action for call in run.calls()][2:] == ["ask_review"]


async def test_an_expired_token_is_renewed_before_the_card_is_tried_again(env: TestEnv) -> None:
    bank.token = None
    run = await env.publish(OrderPlaced("o-1", "c-9", 4200))
    await env.until(run, waiting_for=ShipmentPacked)
    assert run.state["payment"] == "charge-c-9"
    assert [call.action for call in run.calls() if call.action != "reserve_stock"] == [
        "charge", "refresh_token", "charge",
    ]  # fmt: skip


async def test_a_bank_that_gives_no_token_is_a_persons_business_too(env: TestEnv) -> None:
    bank.token = None
    env.fake(refresh_token, raises=ConnectionError("no bank"))
    run = await env.publish(OrderPlaced("o-1", "c-9", 4200))
    await env.until(run, status=RunStatus.SUSPENDED)
    assert run.failure is not None
    assert run.failure.message == "recovery refresh_token of charge failed: no bank"
    assert (run.attempts(refresh_token), run.attempts(charge)) == (5, 1)
    env.fake(refresh_token, answer=lambda: setattr(bank, "token", "t"))
    await run.resume("the bank is back")
    await env.until(run, waiting_for=ShipmentPacked)


async def test_a_declined_card_is_a_persons_business(env: TestEnv) -> None:
    undo = env.spy(refund, release_stock)
    run = await env.publish(OrderPlaced("o-1", "broke", 1))
    assert run.status is RunStatus.SUSPENDED
    env.fake(charge, returns="paid in cash")
    await run.resume("customer came by")
    assert run.state["payment"] == "paid in cash"
    await run.cancel("changed their mind")
    assert run.status is RunStatus.CANCELLED
    assert undo.names() == ["refund", "release_stock"]
    assert [each.ref for each in await env.runs(fulfil)] == ["fulfil:order-o-1"]
