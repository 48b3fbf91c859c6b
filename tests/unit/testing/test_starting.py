"""Runs that nobody's event starts: by a client, by name, by any program's XADD."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from workflow_worker import App, Event, wf
from workflow_worker.client.outgoing import started_by_input
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.record import EventReceived
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv

app = App("parcels")


@app.event("order.placed", subject="order_id")
@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    total: int = 1


@dataclass(frozen=True)
class Box:
    weight: float


@app.workflow
async def ship(order_id: str, boxes: list[Box], *, express: bool = False) -> str:
    return f"{order_id}/{sum(box.weight for box in boxes):g}{'!' if express else ''}"


@app.workflow(on_existing="restart")
async def count(so_far: int = 0) -> int:
    if so_far < 3:
        wf.continue_as_new(so_far + 1)
    return so_far


@app.workflow(on=OrderPlaced, id="order-{order_id}")
async def fulfil(order: OrderPlaced) -> int:
    return order.total


@app.workflow
async def patient(number: int) -> tuple[int, str | None]:
    order = await wf.wait_for(OrderPlaced, default=None, timeout=60)
    return number, wf.info().subject if order is not None else None


@pytest.fixture(params=[False, True], ids=["plain", "paranoid"])
async def env(request: pytest.FixtureRequest) -> AsyncIterator[TestEnv]:
    async with TestEnv(app, paranoid=request.param) as made:
        yield made


async def test_a_client_starts_one_with_its_arguments(env: TestEnv) -> None:
    run = await env.start(ship, "o-1", [Box(1.5), Box(2)], express=True, id="s-1")
    assert (run.ref, await run.result()) == ("ship:s-1", "o-1/3.5!")


async def test_or_by_its_name_without_having_the_code(env: TestEnv) -> None:
    by_name = await env.start("ship", order_id="o-1", boxes=[{"weight": 1}], id="s-1")
    assert await by_name.result() == "o-1/1"
    mapped = await env.start("ship", {"order_id": "o-2", "boxes": []}, id="s-2")
    assert await mapped.result() == "o-2/0"
    of_an_event = await env.start("fulfil", {"order_id": "7", "total": 5}, id="f-1", subject="7")
    assert await of_an_event.result() == 5
    assert of_an_event.view.subject == "7"


async def test_the_id_counts_once(env: TestEnv) -> None:
    client = env.client
    await env.start(ship, "o-1", [], id="s-1")
    again = await client.start(ship, "o-2", [], id="s-1")
    later = await client.start(ship, "o-2", [], id="s-1", event_id="another")
    await env.settle()
    assert (again.existed, later.existed) == (True, False)
    assert await again.result() == "o-1/0"
    assert [run.id for run in await env.runs(ship)] == ["s-1"]


async def test_an_ended_run_starts_anew_where_the_workflow_says_so(env: TestEnv) -> None:
    run = await env.start(count, id="c")
    assert await run.result() == 3
    await env.client.start(count, 2, id="c", event_id="second")
    await env.settle()
    assert await run.result() == 3
    assert len([record for record in run.records if isinstance(record, EventReceived)]) == 0


async def test_what_it_is_about_is_said_at_the_start_and_events_about_that_reach_it(env: TestEnv) -> None:
    run = await env.start(patient, 1, id="p", subject="o-9")
    await env.publish(OrderPlaced("o-9"))
    assert await run.result() == (1, "o-9")


async def test_the_start_of_another_run_about_the_same_is_no_event_for_the_first(env: TestEnv) -> None:
    run = await env.start(patient, 1, id="p", subject="o-9")
    await env.start(patient, 2, id="q", subject="o-9")
    await env.client.start(patient, 1, id="p", subject="o-9", event_id="once more")
    await env.settle()
    assert [record for record in run.records if isinstance(record, EventReceived)] == []
    assert run.status is RunStatus.WAITING
    audit = await env.client.audit()
    assert (audit.balanced, audit.dead) == (True, 0)


async def test_any_program_can_with_one_entry(env: TestEnv) -> None:
    run = await env.publish(
        Event("shipment-7", "workflow-worker.start.ship", data=b'{"order_id":"o-7","boxes":[{"weight":2}]}')
    )
    assert (run.ref, await run.result()) == ("ship:shipment-7", "o-7/2")
    run = await env.publish(Event("e", "workflow-worker.start.fulfil", "8", b'{"order_id":"8"}'))
    assert (run.ref, await run.result()) == ("fulfil:order-8", 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"order_id":"o-7"}', "missing a required argument: 'boxes'"),
        (b'{"order_id":"o-7","boxes":[],"colour":1}', "takes no 'colour'"),
        (b'{"order_id":7,"boxes":[]}', "expected `str`, got `int`"),
        (b"[1]", "expected `object`, got `array`"),
    ],
)
async def test_arguments_that_do_not_fit_fail_the_run_with_the_reason(env: TestEnv, data: bytes, why: str) -> None:
    run = await env.start("ship", started_by_input("ship", data, None), id="bad")
    assert run.status is RunStatus.FAILED
    with pytest.raises(EventRejected, match=why):
        await run.result()


async def test_what_cannot_be_a_start_is_refused_before_anything_is_sent(env: TestEnv) -> None:
    start: Any = env.client.start
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((ship, "o-1"), {}, "missing a required argument: 'boxes'"),
        ((ship, "o-1", [object()]), {}, "cannot be stored"),
        ((ship, "o-1", []), {"colour": 1}, "unexpected keyword argument 'colour'"),
        ((fulfil,), {}, "'fulfil' is started with its event"),
        ((fulfil,), {"order_id": "o-1"}, "'fulfil' is started with its event"),
        (("ship", 1, 2), {}, "a mapping of its arguments"),
        (("no name",), {}, "'no name' is not usable"),
        ((5,), {}, "5 is not a workflow"),
    ]
    for arguments, named, why in wrong:
        with pytest.raises(UsageError, match=why):
            await start(*arguments, id="x", **named)
    assert (await env.client.audit()).added == 0


async def test_of_a_workflow_that_nobody_has_it_is_a_dead_letter(env: TestEnv) -> None:
    await env.client.start("nobody", {}, id="x")
    await env.settle()
    [letter] = await env.client.dead_letters()
    assert letter.reason == "undeclared"


async def test_the_types_are_nobodys_to_declare_or_to_emit() -> None:
    other = App("x")
    with pytest.raises(UsageError, match="reserved"):
        other.event("workflow-worker.start.ship")(dataclass(type("Mine", (), {})))

    @other.workflow
    async def sly() -> None:
        wf.emit(Event("", "workflow-worker.start.sly"))

    async with TestEnv(other) as env:
        run = await env.start(sly, id="x")
        assert run.status is RunStatus.SUSPENDED


async def test_no_crash_changes_anything() -> None:
    async with TestEnv(app, paranoid=True) as env:
        start = started_by_input("patient", b'{"number": 4}', "o-1").event
        plays = 0
        async for run in env.crash_everywhere(start, id="s", then=[OrderPlaced("o-1")]):
            assert await run.result() == (4, "o-1")
            plays += 1
        assert plays >= 3


generations = App("generations")


@generations.event("step.down", subject="of")
@dataclass(frozen=True)
class StepDown:
    of: str


@generations.workflow
async def descend(deeper: int) -> int:
    wf.emit(StepDown("x" * 100))
    return 0 if not deeper else 1 + await descend(deeper - 1)


async def test_children_nest_as_deep_as_one_likes() -> None:
    async with TestEnv(generations, paranoid=True) as env:
        run = await env.start(descend, 40, id="top" * 100)
        assert await run.result() == 40
        starts = [each.recorded.start.event.id for each in await env.runs(descend)]
        assert len(set(starts)) == 41
        assert max(map(len, starts)) <= 500
        audit = await env.client.audit()
        assert (audit.balanced, audit.dead) == (True, 0)
