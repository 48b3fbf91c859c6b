"""`TestEnv` with all that a workflow can: children, sagas, locks, updates, new histories, threads, sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

import pytest

from tests.unit.testing.market import (
    Discount,
    Opened,
    Ordered,
    Paid,
    app,
    pay_back,
    pick,
    prepare,
    put_back,
    sell,
)
from workflow_worker import wf
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv

ORDER = Ordered(order="o-1", at=datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=9))), items=["apple", "pear"])


@pytest.fixture(params=[False, True], ids=["plain", "paranoid"])
async def env(request: pytest.FixtureRequest) -> AsyncIterator[TestEnv]:
    async with TestEnv(app, paranoid=request.param) as made:
        yield made


async def test_children_a_lock_an_update_and_a_saga(env: TestEnv) -> None:
    run = await env.publish(ORDER)
    children = [view.ref for view in await env.runs(prepare)]
    assert len(children) == 2
    await env.advance(61)
    assert [call.arguments["item"] for call in env.calls] == ["apple", "pear"]
    reply = await env.client.handle(sell, "order-o-1").update(Discount(20), timeout=5)
    assert reply == 80
    await env.until(run, waiting_for=Paid)
    assert run.state["prepared"] == ["apple@asyncio", "pear@asyncio"]
    assert run.state["at"] == "2030-01-01T12:00:00+09:00"
    await env.publish(Paid("o-1", 80))
    assert (await run.result())[-1] == "80"


async def test_an_update_that_is_refused(env: TestEnv) -> None:
    await env.publish(ORDER)
    with pytest.raises(Refused, match="rejected the request: ValueError: too much"):
        await env.client.handle(sell, "order-o-1").update(Discount(90), timeout=5)


async def test_a_suspended_child_holds_its_parent(env: TestEnv) -> None:
    env.fake(pick, answer=no_pears)
    run = await env.publish(ORDER)
    await env.advance(600)
    assert run.status is RunStatus.WAITING
    apple, pear = sorted(await env.runs(prepare), key=lambda child: child.status.value)
    assert (await apple.result(), pear.status) == ("apple", RunStatus.SUSPENDED)
    with pytest.raises(Refused, match="RuntimeError: pear"):
        await pear.result()
    env.fake(pick, answer=found)
    await pear.resume("found one")
    await env.until(run, waiting_for=Paid)
    assert run.state["prepared"] == ["apple", "pear!"]


def no_pears(item: str) -> str:
    if item == "pear":
        raise RuntimeError(item)
    return item


def found(item: str) -> str:
    return f"{item}!"


async def test_a_cancel_reaches_children(env: TestEnv) -> None:
    run = await env.publish(ORDER)
    await run.cancel("closed")
    assert {each.status for each in (run, *await env.runs(prepare))} == {RunStatus.CANCELLED}
    with pytest.raises(Refused, match="it is cancelled"):
        await run.result()


async def test_a_saga_undoes_last_first(env: TestEnv) -> None:
    undo = env.spy(put_back, pay_back)
    run = await env.publish(ORDER)
    await env.until(run, status=RunStatus.FAILED)
    with pytest.raises(wf.Failed, match="never paid"):
        await run.result()
    assert undo.names() == ["pay_back", "put_back"]


async def test_a_run_that_begins_a_new_history(env: TestEnv) -> None:
    run = await env.publish(Opened("s", 3))
    await env.publish(ORDER)
    await env.advance(timedelta(days=3, seconds=5))
    assert await run.result() == 1


async def test_crash_everywhere_with_all_of_it() -> None:
    async with TestEnv(app, paranoid=True) as env:
        plays = 0
        async for run in env.crash_everywhere(ORDER, [timedelta(minutes=3), Paid("o-1", 100)]):
            assert (await run.result())[-1] == "100"
            plays += 1
        assert plays > 10
        async for run in env.crash_everywhere(Opened("s", 3), [timedelta(days=4)]):
            assert await run.result() == 0
