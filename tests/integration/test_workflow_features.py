"""Sagas, children, locks, updates, emits, new histories and limits on a real worker, also one that remembers no run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.integration.stage import Stage, failure_of, result_of, stage_of
from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf
from workflow_worker.model import internal
from workflow_worker.model.exceptions import EventRejected, NotFound, Refused
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import ActionRaised, CancelRequested, EventReceived, RunStarted
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.locks import HISTORY_KEPT


class Declined(Exception):
    """The bank says no, for good."""


@dataclass
class World:
    """What the actions did, and how they are to behave."""

    done: list[Any] = field(default_factory=list[Any])
    errors: dict[str, list[Exception]] = field(default_factory=dict[str, list[Exception]])
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    thread_gate: threading.Event = field(default_factory=threading.Event)
    inside: int = 0
    most: int = 0

    def perform(self, name: str, *about: Any) -> None:
        failures = self.errors.get(name)
        if failures:
            raise failures.pop(0)
        self.done.append((name, *about) if about else name)


@dataclass(frozen=True)
class Go:
    id: str
    how: str
    number: int = 0


@dataclass(frozen=True)
class News:
    what: str


@dataclass(frozen=True)
class Deposit:
    amount: int


def make_app(world: World) -> App:  # noqa: C901 - a table of small functions
    app = App("features")
    app.event("go", subject="id")(Go)
    app.event("news")(News)
    app.event("deposit")(Deposit)
    soon = RetryPolicy(Rule(Declined).permanent(Fail()), initial=0.01, factor=1, jitter="none", attempts=2)

    @app.action(retry=soon)
    async def reserve(order: str) -> str:
        world.perform("reserve", order)
        return f"hold-{order}"

    @reserve.compensation(retry=soon)
    def release(order: str, *, result: str | None) -> None:
        world.perform("release", order, result)

    @app.action(retry=soon)
    async def charge(order: str) -> str:
        world.perform("charge", order)
        return f"payment-{order}"

    @charge.compensation(retry=soon)
    async def refund(order: str, *, result: str | None) -> None:
        world.perform("refund", order, result)

    @app.action(retry=soon)
    async def slow(order: str) -> str:
        world.perform("slow began")
        try:
            await world.gate.wait()
        finally:
            world.perform("slow ended")
        return f"slow-{order}"

    @slow.compensation
    async def slowly_undo(order: str, *, result: str | None) -> None:
        world.perform("undo slow", result)

    @app.action
    def block(order: str) -> str:
        world.perform("block began")
        assert world.thread_gate.wait(10)
        return f"block-{order}"

    @block.compensation
    async def unblock(order: str, *, result: str | None) -> None:
        world.perform("unblock", result)

    @app.action
    async def dwell() -> None:
        world.inside += 1
        world.most = max(world.most, world.inside)
        await asyncio.sleep(0.01)
        world.inside -= 1

    @app.workflow()
    async def square(number: int) -> int:
        return number * number

    @app.workflow()
    async def sorry() -> None:
        raise wf.Failed("no luck")

    @app.workflow()
    async def patient() -> str:
        try:
            await wf.wait_for(News)
        except asyncio.CancelledError:
            world.perform("patient cancelled")
            raise
        return "heard"

    @app.workflow()
    async def sibling(name: str) -> str:
        await asyncio.sleep(0.05)
        return name

    async def saga(go: Go) -> str:
        try:
            async with wf.saga():
                await reserve(go.id)
                await charge(go.id)
        except Declined:
            return "undone"
        return "paid"

    async def cancelled(go: Go) -> None:
        async with wf.saga():
            await slow(go.id)

    async def blocked(go: Go) -> None:
        async with wf.saga():
            await block(go.id)

    async def wait_cancelled(go: Go) -> None:
        await slow.using(cancel="wait")(go.id)

    async def emits(go: Go) -> list[str]:
        wf.emit(News("now"), subject=go.id)
        wf.emit(News("later"), subject=go.id, delay=timedelta(milliseconds=30))
        return [(await wf.wait_for(News)).what for _ in range(2)]

    async def fans(go: Go) -> int:
        room = asyncio.Semaphore(40)

        async def one(number: int) -> int:
            async with room:
                return await square(number)

        return sum(await asyncio.gather(*[one(number) for number in range(go.number)]))

    async def fails(go: Go) -> None:
        await sorry()

    async def catches(go: Go) -> str:
        try:
            await sorry()
        except wf.ChildFailed as error:
            return str(error.failure)
        return "never"

    async def mistaken(go: Go) -> str:
        wrong: Any = "seven"
        try:
            await square(wrong)
        except wf.ChildFailed as error:
            return str(error.failure)
        return "never"

    async def gives_up(go: Go) -> str:
        try:
            async with asyncio.timeout(0.05):
                await patient()
        except TimeoutError:
            return "gave up"
        return "never"

    async def leaves(go: Go) -> str:
        wf.start(patient, id=f"{go.id}-attached")
        wf.start(patient, id=f"{go.id}-detached", detach=True)
        await dwell()
        return "left"

    async def tells(go: Go) -> str:
        child = wf.start(patient, id=f"{go.id}-told")
        await dwell()
        wf.signal(child, News("hello"))
        return await child

    async def same(go: Go) -> list[str]:
        child = wf.start(patient, id="only-one", detach=True)
        await dwell()
        try:
            await wf.start(patient, id="only-one")
        except wf.ChildFailed as error:
            return [str(error.failure), child.id]
        return []

    async def related(go: Go) -> list[str]:
        children = [wf.start(sibling, str(number), subject=go.id) for number in range(5)]
        return [await child for child in children]

    async def locks(go: Go) -> str:
        async with wf.lock("printer", limit=go.number):
            await dwell()
        return "printed"

    async def again(go: Go) -> int:
        if go.number < 4:
            await dwell()
            await asyncio.sleep(0.01)
            wf.continue_as_new(Go(go.id, go.how, go.number + 1))
        return go.number

    async def carries(go: Go) -> list[Any]:
        if go.number == 0:
            await dwell()
            wf.continue_as_new(Go(go.id, go.how, 1))
        return [(await wf.wait_for(News)).what, (await wf.wait_for(News)).what]

    async def counts(go: Go) -> None:
        await wf.wait_for(News)
        wf.continue_as_new(Go(go.id, go.how, go.number + 1))

    async def banks(go: Go) -> int:
        balance = 0
        full = asyncio.Event()

        def check(deposit: Deposit) -> None:
            if deposit.amount <= 0:
                raise ValueError("an amount is above zero")

        async def deposit(request: Deposit) -> int:
            nonlocal balance
            await dwell()
            balance += request.amount
            if balance >= 100:
                full.set()
            return balance

        wf.state(open=True)
        wf.on_update(Deposit, deposit, validate=check)
        await full.wait()
        return balance

    async def stumbles(go: Go) -> None:
        async with wf.lock("printer"):
            await reserve(go.id)
            raise RuntimeError("a bug")

    async def holds(go: Go) -> str:
        async with wf.lock("printer"):
            await slow(go.id)
        return "done"

    ways = {way.__name__: way for way in (
        saga, cancelled, blocked, wait_cancelled, emits, fans, fails, catches, mistaken, gives_up, leaves, tells, same,
        related, locks, again, carries, counts, banks, stumbles, holds,
    )}  # fmt: skip

    @app.workflow(on=Go, id="{id}")
    async def main(go: Go) -> Any:
        return await ways[go.how](go)

    @app.workflow(timeout=0.1)
    async def hurried() -> None:
        try:
            await wf.wait_for(News)
        finally:
            await dwell()

    @app.event("hurry")
    @dataclass(frozen=True)
    class Hurry: ...

    @app.workflow(on=Hurry, id="hurry-{id}")
    async def in_a_hurry(hurry: Hurry) -> None:
        await hurried()

    assert (main.name, in_a_hurry.name, action.__class__.__name__) == ("main", "in_a_hurry", "CurrentAttempt")
    return app


@pytest.fixture(params=["cached", "replayed", "server"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    world = World()
    server = request.getfixturevalue("valkey") if request.param == "server" else None
    async with stage_of(make_app(world), cached=0 if request.param == "replayed" else 2_000, server=server) as made:
        made.world = world  # pyright: ignore[reportAttributeAccessIssue] - handed to the test
        yield made
        world.gate.set()
        world.thread_gate.set()


@pytest.fixture
def world(stage: Stage) -> World:
    return stage.world  # type: ignore[attr-defined, no-any-return]


async def run(stage: Stage, how: str, number: int = 0) -> str:
    await stage.publish(Go(how, how, number))
    return f"main:{how}"


async def test_a_saga_undoes_what_was_done(stage: Stage, world: World) -> None:
    world.errors["charge"] = [Declined("no")]
    assert result_of(await stage.until(await run(stage, "saga"))) == "undone"
    assert world.done == [("reserve", "saga"), ("release", "saga", "hold-saga")]


async def test_a_compensation_that_fails_suspends_with_its_own_reason_and_goes_on_after_a_resume(
    stage: Stage, world: World
) -> None:
    world.errors |= {"charge": [Declined("no")], "release": [Declined("locked"), Declined("still locked")]}
    view = await stage.until(await run(stage, "saga"))
    assert view.status is RunStatus.SUSPENDED
    assert failure_of(view).message == "compensation release of reserve failed: locked"
    await stage.client.resume("saga")
    await stage.until_it("main:saga", lambda view: view is not None and b"still locked" in (view.error or b""))
    await stage.client.resume("saga")
    assert result_of(await stage.until("main:saga", RunStatus.COMPLETED)) == "undone"


async def test_a_compensation_is_tried_again_by_its_own_policy(stage: Stage, world: World) -> None:
    world.errors |= {"charge": [Declined("no")], "release": [ConnectionError("gone")]}
    assert result_of(await stage.until(await run(stage, "saga"))) == "undone"
    assert world.done[-1] == ("release", "saga", "hold-saga")


async def test_an_action_that_is_cancelled_is_compensated_behind_its_end(stage: Stage, world: World) -> None:
    ref = await run(stage, "cancelled")
    await stage.fact(lambda: "slow began" in world.done, "the action began")
    await stage.client.cancel(ref)
    await stage.until(ref, RunStatus.CANCELLED)
    assert world.done == ["slow began", "slow ended", ("undo slow", None)]
    kinds = [type(record) for record in await stage.history(ref)]
    assert kinds.index(CancelRequested) < kinds.index(ActionRaised)


async def test_a_thread_cannot_be_stopped_so_its_result_is_compensated(stage: Stage, world: World) -> None:
    ref = await run(stage, "blocked")
    await stage.fact(lambda: "block began" in world.done, "the action began")
    await stage.client.cancel(ref)
    await stage.until_it(ref, lambda view: view is not None and view.records == 2)  # started, cancel requested
    assert world.done == ["block began"]
    world.thread_gate.set()
    await stage.until(ref, RunStatus.CANCELLED)
    assert world.done == ["block began", ("unblock", "block-blocked")]


async def test_what_a_dead_worker_had_under_way_is_compensated_without_a_result(stage: Stage, world: World) -> None:
    ref = await run(stage, "blocked")
    await stage.fact(lambda: "block began" in world.done, "the action began")
    await stage.client.cancel(ref)
    await stage.until_it(ref, lambda view: view is not None and view.records == 2)  # started, cancel requested
    await stage.crash()
    stage.start("heir")
    await stage.until(ref, RunStatus.CANCELLED)
    assert world.done == ["block began", ("unblock", None)]


async def test_a_worker_that_ends_meanwhile_leaves_the_rest_to_the_next(stage: Stage, world: World) -> None:
    world.errors |= {"charge": [Declined("no")], "release": [ConnectionError("gone")]}
    ref = await run(stage, "saga")
    await stage.restart()
    assert result_of(await stage.until(ref)) == "undone"


async def test_cancel_wait_ends_the_run_when_the_attempt_has_ended(stage: Stage, world: World) -> None:
    ref = await run(stage, "wait_cancelled")
    await stage.fact(lambda: "slow began" in world.done, "the action began")
    await stage.client.cancel(ref)
    await stage.until(ref, RunStatus.CANCELLED)
    assert world.done == ["slow began", "slow ended"]
    assert ActionRaised in [type(record) for record in await stage.history(ref)]


async def test_events_are_emitted_once_and_later(stage: Stage) -> None:
    ref = await run(stage, "emits")
    assert result_of(await stage.until(ref)) == ["now", "later"]
    ids = [record.event.id for record in await stage.history(ref) if isinstance(record, EventReceived)]
    assert [each.rpartition(":")[2] for each in ids] == ["1", "2"]


async def test_hundreds_of_children_come_home(stage: Stage) -> None:
    stage.start("another")
    ref = await run(stage, "fans", 300)
    assert result_of(await stage.until(ref, within_s=20)) == sum(number * number for number in range(300))
    assert (await stage.client.depth()).dead == 0


async def test_a_childs_failure_is_the_parents_unless_it_is_caught(stage: Stage) -> None:
    view = await stage.until(await run(stage, "fails"))
    assert view.status is RunStatus.FAILED
    assert "failed: Failed: no luck" in failure_of(view).message
    assert result_of(await stage.until(await run(stage, "catches"))) == "Failed: no luck"


async def test_a_child_that_cannot_take_its_input_fails_and_leaves_a_dead_letter(stage: Stage) -> None:
    answer = result_of(await stage.until(await run(stage, "mistaken")))
    assert "input of workflow 'square'" in answer
    assert "expected `int`, got `str`" in answer
    (letter,) = await stage.client.dead_letters()
    assert letter.reason.startswith("rejected: input of workflow 'square'")


async def test_a_child_is_cancelled_when_nobody_waits_for_it(stage: Stage, world: World) -> None:
    assert result_of(await stage.until(await run(stage, "gives_up"))) == "gave up"
    await stage.fact(lambda: world.done == ["patient cancelled"], "the child was cancelled")


async def test_a_detached_child_outlives_its_parent(stage: Stage, world: World) -> None:
    await stage.until(await run(stage, "leaves"))
    await stage.until("patient:leaves-attached", RunStatus.CANCELLED)
    view = await stage.view("patient:leaves-detached")
    assert view is not None
    assert view.status is RunStatus.WAITING
    await stage.client.cancel("leaves-detached")
    await stage.until("patient:leaves-detached", RunStatus.CANCELLED)
    assert await stage.client.dead_letters() == []


async def test_a_child_can_be_told_something(stage: Stage) -> None:
    assert result_of(await stage.until(await run(stage, "tells"))) == "heard"


async def test_an_id_is_one_runs_alone(stage: Stage) -> None:
    result = result_of(await stage.until(await run(stage, "same")))
    assert "under way already" in result[0]
    await stage.client.cancel("only-one")
    await stage.until("patient:only-one", RunStatus.CANCELLED)


async def test_children_about_their_parents_subject_do_not_disturb_each_other(stage: Stage) -> None:
    ref = await run(stage, "related")
    assert result_of(await stage.until(ref)) == list("01234")
    records = await stage.history(ref)
    assert [r.event.type for r in records if isinstance(r, EventReceived)] == [internal.ENDED] * 5


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_lock_is_held_by_as_many_as_its_limit_says(stage: Stage, world: World, limit: int) -> None:
    stage.start("another")
    for number in range(12):
        await stage.publish(Go(f"l-{number}", "locks", limit))
    for number in range(12):
        assert result_of(await stage.until(f"main:l-{number}")) == "printed"
    assert 1 <= world.most <= limit
    await stage.until("ww.lock:printer", RunStatus.COMPLETED)


async def test_a_suspended_holder_keeps_its_lock_until_it_is_cancelled(stage: Stage) -> None:
    view = await stage.until(await run(stage, "stumbles"))
    assert view.status is RunStatus.SUSPENDED
    await stage.publish(Go("next", "locks", 1))
    await stage.until("main:next", RunStatus.WAITING)
    await stage.client.cancel("stumbles")
    assert result_of(await stage.until("main:next", RunStatus.COMPLETED)) == "printed"


async def test_who_is_cancelled_inside_gives_the_lock_back(stage: Stage, world: World) -> None:
    ref = await run(stage, "holds")
    await stage.fact(lambda: "slow began" in world.done, "the action began")
    await stage.publish(Go("next", "locks", 1))
    await stage.client.cancel(ref)
    assert result_of(await stage.until("main:next")) == "printed"


async def test_a_run_continues_as_new_in_place(stage: Stage) -> None:
    ref = await run(stage, "again")
    assert result_of(await stage.until(ref)) == 4
    records = await stage.history(ref)
    assert isinstance(records[0], RunStarted)
    assert len(records) == 2
    fields = await stage.store.start_event(RunRef(ref))
    assert fields is not None
    start = dict(zip(fields[::2], fields[1::2], strict=True))
    assert start["id"].endswith("~4")
    assert "~3" not in start["id"]
    assert msgspec.json.decode(start["data"])["number"] == 4


async def test_events_come_along_into_the_new_history(stage: Stage) -> None:
    ref = await run(stage, "carries")
    for what in ("first", "second"):
        await stage.send("news", "carries", what=what)
    assert result_of(await stage.until(ref)) == ["first", "second"]


async def test_a_cancel_that_comes_with_the_last_event_of_a_history_reaches_the_next(stage: Stage) -> None:
    ref = await run(stage, "counts")
    await stage.until(ref, RunStatus.WAITING)
    await stage.stop()
    await stage.send("news", "counts", what="go on")
    stage.start("other")
    await stage.client.cancel(ref)
    await stage.until(ref, RunStatus.CANCELLED)


async def test_a_run_answers_requests(stage: Stage) -> None:
    ref = await run(stage, "banks")
    await stage.until_state(ref, open=True)
    handle = stage.client.handle("main", "banks")
    assert await handle.update(Deposit(30), id="d-1", timeout=5) == 30
    assert await handle.update(Deposit(30), id="d-1", timeout=5) == 30
    with pytest.raises(Refused, match="rejected the request: ValueError: an amount is above zero"):
        await handle.update(Deposit(0), timeout=5)
    assert await handle.state() == {"open": True}
    assert await handle.update(Deposit(80), timeout=5) == 110
    assert await handle.result(timeout=5) == 110
    with pytest.raises(Refused, match="has ended: it is completed"):
        await handle.update(Deposit(1))
    with pytest.raises(NotFound):
        await stage.client.handle("main", "nobody").update(Deposit(1))
    wrong: Any = Deposit("x")  # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(EventRejected, match="expected `int`"):
        await handle.update(wrong)


async def test_a_request_that_no_handler_takes_has_no_reply(stage: Stage) -> None:
    ref = await run(stage, "counts", 1)
    await stage.until(ref, RunStatus.WAITING)
    handle = stage.client.handle("main", "counts")
    with pytest.raises(TimeoutError, match="not ended or answered in time; it is waiting"):
        await handle.update(Deposit(1), id="d-1", timeout=0.1)
    waiting = asyncio.create_task(handle.update(Deposit(1), id="d-2"))
    await stage.until_it(ref, lambda view: view is not None and view.records >= 3)  # started, d-1, d-2
    await stage.client.cancel(ref)
    with pytest.raises(Refused, match="ended before it answered: it is cancelled"):
        await asyncio.wait_for(waiting, 5)


async def test_a_run_over_its_limit_fails_and_cleans_up(stage: Stage, world: World) -> None:
    await stage.send("hurry")
    (ref,) = [run.ref for run in (await stage.client.runs()).items if run.workflow == "in_a_hurry"] or await begun(
        stage
    )
    view = await stage.until(ref)
    assert view.status is RunStatus.FAILED
    assert "time limit" in failure_of(view).message
    assert world.most == 1


async def begun(stage: Stage) -> list[RunRef]:
    """The run that the event starts, as soon as it is there."""
    deadline = asyncio.get_running_loop().time() + 5
    while True:
        found = [RunRef(run.ref) for run in (await stage.client.runs()).items if run.workflow == "in_a_hurry"]
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, "the run began"
        await asyncio.sleep(0.005)


async def test_a_lock_in_use_for_ever_keeps_a_short_history(stage: Stage) -> None:
    for number in range(HISTORY_KEPT // 2 + 20):
        await stage.publish(Go(f"l-{number}", "locks", 50))
    for number in range(HISTORY_KEPT // 2 + 20):
        await stage.until(f"main:l-{number}", RunStatus.COMPLETED, within_s=25)
    await stage.until("ww.lock:printer", RunStatus.COMPLETED)
    assert len(await stage.history("ww.lock:printer")) <= HISTORY_KEPT + 50
