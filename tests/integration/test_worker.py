"""A real `WorkflowWorker` on the memory store: the path of an event, retries, timers, mail, cancel, drain, takeover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf
from workflow_worker.model.event import Event
from workflow_worker.model.facts import AttemptEnded, Fact, LeaseLost, MailRejected, RunRested, WorkerStopped
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.record import RunResumed, decode_record, encode_record
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Ingest, Ingested, IngestOutcome, Limits, Publish
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.worker import WorkflowWorker


class Declined(Exception):
    """A permanent refusal of the bank."""


class Busy(Exception):
    """Comes right by itself."""


@dataclass
class World:
    """What the actions of the test app did, and how they are to behave."""

    calls: list[tuple[str, int]]
    failures: dict[str, list[Exception]]
    gate: asyncio.Event


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    how: str = "plain"


@dataclass(frozen=True)
class OrderPacked:
    order_id: str
    tracking: str


Way = Callable[[OrderPlaced], Awaitable[str]]


def make_app(world: World) -> App:
    app = App("test")
    app.event("order.placed", subject="order_id")(OrderPlaced)
    app.event("order.packed", subject="order_id")(OrderPacked)
    ways = make_ways(app, world)

    @app.workflow(on=OrderPlaced, id="order-{order_id}")
    async def fulfil(order: OrderPlaced) -> str:
        return await ways[order.how](order)

    assert fulfil.name == "fulfil"
    return app


def make_ways(app: App, world: World) -> dict[str, Way]:  # noqa: C901 - a table of small functions
    def perform(name: str) -> None:
        world.calls.append((name, action.attempt))
        left = world.failures.get(name)
        if left:
            raise left.pop(0)

    policy = RetryPolicy(
        Rule(Busy).recoverable(), Rule(Declined).permanent(Fail()), initial=0.02, factor=1, jitter="none", attempts=3
    )

    @app.action(retry=policy)
    async def charge(order_id: str) -> str:
        perform("charge")
        return f"payment-{order_id}"

    @app.action(retry=RetryPolicy(Rule(Declined).permanent()))
    def print_label(order_id: str) -> str:
        perform("print_label")
        return f"label-{order_id}"

    @app.action
    async def slow(order_id: str) -> str:
        perform("slow")
        await world.gate.wait()
        return order_id

    async def pack(order: OrderPlaced) -> str:
        wf.state(status="waiting")
        packed = await wf.wait_for(OrderPacked, timeout=30, default=None)
        return packed.tracking if packed else "none"

    async def nap(order: OrderPlaced) -> str:
        await asyncio.sleep(0.25)
        return "slept"

    async def try_to_charge(order: OrderPlaced) -> str:
        try:
            return await charge(order.order_id)
        except Declined as error:
            raise wf.Failed("declined") from error

    async def stumble(order: OrderPlaced) -> str:
        raise RuntimeError("a bug")

    async def sell(order: OrderPlaced) -> str:
        payment = await charge(order.order_id)
        label = await print_label(order.order_id)
        return f"{payment} {label}"

    async def dawdle(order: OrderPlaced) -> str:
        return await slow(order.order_id)

    return {"packed": pack, "sleep": nap, "slow": dawdle, "declined": try_to_charge, "broken": stumble, "plain": sell}


class Rig:
    """A memory store, and workers on it."""

    def __init__(self) -> None:
        self.world = World([], {}, asyncio.Event())
        self.app = make_app(self.world)
        self.limits = Limits(lease_ttl_ms=1_000)
        self.store = MemoryStore(self.limits, lambda: time.time_ns() // 1_000_000)
        self.facts: list[Fact] = []
        self.signs = VitalSigns()
        self.workers: list[tuple[WorkflowWorker, asyncio.Task[None]]] = []

    async def start(self, name: str = "w1", concurrency_limit: int = 5) -> WorkflowWorker:
        async def open_store() -> Store:
            return self.store

        worker = WorkflowWorker(
            app=self.app,
            open_store=open_store,
            limits=WorkerLimits(
                concurrency_limit=concurrency_limit, poll_interval_ms=100, lease_ttl_ms=1_000, detail=True
            ),
            environment=real_environment(),
            emit=self.facts.append,
            signs=self.signs,
            name=name,
            own_thread=False,
        )
        self.workers.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def stop(self) -> None:
        for worker, task in self.workers:
            worker.drain()
            await asyncio.wait_for(task, 10)

    async def publish(self, event_type: str, subject: str, event_id: str | None = None, **data: Any) -> None:
        event = Event(
            event_id or f"{event_type}-{subject}-{len(self.facts)}",
            event_type,
            subject,
            msgspec.json.encode({"order_id": subject, **data}),
        )
        await self.store.publish([Publish(event)])

    async def until(self, subject: str, *statuses: RunStatus, within_s: float = 5) -> RunView:
        ref = RunRef(f"fulfil:order-{subject}")
        deadline = time.monotonic() + within_s
        while True:
            view = await self.store.run(ref)
            if view is not None and view.status in statuses:
                return view
            assert time.monotonic() < deadline, f"{ref} is {view.status if view else 'missing'}, wanted {statuses}"
            await asyncio.sleep(0.005)

    async def until_slow(self) -> None:
        deadline = time.monotonic() + 5
        while ("slow", 1) not in self.world.calls:
            assert time.monotonic() < deadline, "the slow action did not start"
            await asyncio.sleep(0.005)

    def result(self, view: RunView) -> Any:
        assert view.result is not None
        return msgspec.json.decode(view.result)


@asynccontextmanager
async def rig_of() -> AsyncGenerator[Rig]:
    rig = Rig()
    try:
        yield rig
    finally:
        rig.world.gate.set()
        await rig.stop()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with rig_of() as made:
        await made.start()
        yield made
    audit = await made.store.audit()
    assert audit.balanced, audit.problems


async def test_an_event_becomes_a_completed_run(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1")
    view = await rig.until("o-1", RunStatus.COMPLETED)
    assert rig.result(view) == "payment-o-1 label-o-1"
    assert rig.world.calls == [("charge", 1), ("print_label", 1)]
    tags = [type(decode_record(raw)).__name__ for raw in await rig.store.history(RunRef("fulfil:order-o-1"))]
    assert tags == ["RunStarted", "ActionCompleted", "ActionCompleted", "RunCompleted"]
    assert (rig.signs.processed, rig.signs.succeeded, rig.signs.failed) == (1, 1, 0)


async def test_many_runs_share_group_commits(rig: Rig) -> None:
    for number in range(200):
        await rig.publish("order.placed", f"o-{number}")
    for number in range(200):
        await rig.until(f"o-{number}", RunStatus.COMPLETED)
    assert rig.signs.processed == 200
    assert len(rig.world.calls) == 400


async def test_a_recoverable_error_is_retried_with_a_record(rig: Rig) -> None:
    rig.world.failures["charge"] = [Busy("no"), Busy("not yet")]
    await rig.publish("order.placed", "o-1")
    await rig.until("o-1", RunStatus.COMPLETED)
    assert [call for call in rig.world.calls if call[0] == "charge"] == [("charge", 1), ("charge", 2), ("charge", 3)]
    failed = [fact for fact in rig.facts if isinstance(fact, AttemptEnded) and fact.failure]
    assert [(fact.decision, fact.attempt) for fact in failed] == [("retry", 1), ("retry", 2)]


async def test_fail_raises_the_same_class_at_the_await(rig: Rig) -> None:
    rig.world.failures["charge"] = [Declined("card")]
    await rig.publish("order.placed", "o-1", how="declined")
    await rig.until("o-1", RunStatus.FAILED)
    assert rig.signs.failed in (0, 1)
    assert rig.world.calls == [("charge", 1)]


async def test_a_permanent_error_suspends_and_a_resume_tries_the_step_again(rig: Rig) -> None:
    rig.world.failures["print_label"] = [Declined("printer")]
    await rig.publish("order.placed", "o-1")
    view = await rig.until("o-1", RunStatus.SUSPENDED)
    assert view.error is not None
    assert b"printer" in view.error
    record = encode_record(RunResumed(view.updated_at, "tester"))
    assert await rig.store.resume(RunRef("fulfil:order-o-1"), record, "tester") == "ok"
    view = await rig.until("o-1", RunStatus.COMPLETED)
    assert rig.world.calls == [("charge", 1), ("print_label", 1), ("print_label", 1)]


async def test_a_bug_in_the_workflow_suspends_with_its_traceback(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="broken")
    view = await rig.until("o-1", RunStatus.SUSPENDED)
    assert view.error is not None
    assert b"a bug" in view.error


async def test_waiting_holds_no_slot_and_the_event_wakes_it(rig: Rig) -> None:
    for number in range(20):
        await rig.publish("order.placed", f"o-{number}", how="packed")
    for number in range(20):
        await rig.until(f"o-{number}", RunStatus.WAITING)
    assert rig.signs.executing == 0
    for number in range(20):
        await rig.publish("order.packed", f"o-{number}", tracking=f"t-{number}")
    for number in range(20):
        assert rig.result(await rig.until(f"o-{number}", RunStatus.COMPLETED)) == f"t-{number}"


async def test_an_early_event_is_kept_for_the_run(rig: Rig) -> None:
    await rig.publish("order.packed", "o-1", tracking="early")
    await rig.publish("order.placed", "o-1", how="packed")
    assert rig.result(await rig.until("o-1", RunStatus.COMPLETED)) == "early"


async def test_a_durable_timer_fires_after_the_release(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="sleep")
    await rig.until("o-1", RunStatus.WAITING)
    assert rig.result(await rig.until("o-1", RunStatus.COMPLETED)) == "slept"


async def test_a_start_event_that_does_not_fit_is_a_dead_letter(rig: Rig) -> None:
    event = Event("bad-1", "order.placed", "o-1", b'{"order_id": 7}')
    await rig.store.publish([Publish(event)])
    await rig.until("o-1", RunStatus.FAILED)
    (letter,) = await rig.store.dead_letters()
    assert letter.reason.startswith("rejected: ")
    assert any(isinstance(fact, MailRejected) for fact in rig.facts)


async def test_mail_that_does_not_fit_is_a_dead_letter_and_the_run_goes_on(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="packed")
    await rig.until("o-1", RunStatus.WAITING)
    await rig.store.publish([Publish(Event("bad", "order.packed", "o-1", b"not json"))])
    await rig.publish("order.packed", "o-1", tracking="good")
    assert rig.result(await rig.until("o-1", RunStatus.COMPLETED)) == "good"
    assert len(await rig.store.dead_letters()) == 1


async def test_a_cancel_reaches_a_run_in_the_middle_of_an_action(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="slow")
    await rig.until_slow()
    assert await rig.store.cancel(RunRef("fulfil:order-o-1"), "tester", "enough") == "ok"
    await rig.until("o-1", RunStatus.CANCELLED)


async def test_a_cancel_reaches_a_waiting_run(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="packed")
    await rig.until("o-1", RunStatus.WAITING)
    await rig.store.cancel(RunRef("fulfil:order-o-1"), "tester", "enough")
    await rig.until("o-1", RunStatus.CANCELLED)


async def test_a_drain_lets_the_attempt_end_and_hands_the_rest_back() -> None:
    async with rig_of() as rig:
        worker = await rig.start("w1", concurrency_limit=1)
        for number in range(3):
            await rig.publish("order.placed", f"o-{number}", how="slow")
        await rig.until_slow()
        worker.drain()
        rig.world.gate.set()
        await asyncio.wait_for(rig.workers[0][1], 5)
        assert isinstance(rig.facts[-1], WorkerStopped)
        rig.workers.clear()
        await rig.start("w2")
        for number in range(3):
            await rig.until(f"o-{number}", RunStatus.COMPLETED)
        assert rig.world.calls.count(("slow", 1)) == 3


async def test_a_worker_whose_session_was_taken_drops_its_runs_and_opens_another(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="slow")
    await rig.until_slow()
    (session,) = list(rig.store.partition.state.sessions)
    assert await rig.store.close(SessionId(session))
    rig.world.gate.set()
    view = await rig.until("o-1", RunStatus.COMPLETED)
    assert view.token > 0
    assert any(isinstance(fact, LeaseLost) for fact in rig.facts)
    assert rig.signs.sessions_lost == 1
    assert any(isinstance(fact, RunRested) and fact.status == "completed" for fact in rig.facts)


class LateAnswers(MemoryStore):
    """Ingests at once; an answer that brings runs comes when the gate opens."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, lambda: time.time_ns() // 1_000_000)
        self.gate = asyncio.Event()
        self.gate.set()

    async def ingest(self, request: Ingest) -> IngestOutcome:
        outcome = await super().ingest(request)
        if isinstance(outcome, Ingested) and outcome.runs:
            await self.gate.wait()
        return outcome


async def test_a_drain_hands_back_at_once_what_an_ingest_under_way_brings() -> None:
    async with rig_of() as rig:
        store = rig.store = LateAnswers(rig.limits)
        worker = await rig.start()
        store.gate.clear()
        await rig.publish("order.placed", "o-1")
        deadline = time.monotonic() + 5
        while RunRef("fulfil:order-o-1") not in store.partition.state.runs:
            assert time.monotonic() < deadline, "the event was not ingested"
            await asyncio.sleep(0.005)
        worker.drain()
        store.gate.set()
        began = time.monotonic()
        await asyncio.wait_for(rig.workers.pop()[1], 10)
        assert time.monotonic() - began < 5, "the drain waited for its grace"
        await rig.start("w2")
        await rig.until("o-1", RunStatus.COMPLETED)
        assert rig.world.calls == [("charge", 1), ("print_label", 1)]


class Watched(MemoryStore):
    """Notes each ingest, and how many sleeps have one behind them."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, lambda: time.time_ns() // 1_000_000)
        self.ingests: list[Ingest] = []
        self.asleep: asyncio.Future[Ingest] | None = None
        self.behind = 0

    async def ingest(self, request: Ingest) -> IngestOutcome:
        self.ingests.append(request)
        return await super().ingest(request)

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool | IngestOutcome:
        self.asleep = then
        try:
            outcome = await super().wait_for_work(timeout_ms, then)
        finally:
            self.asleep = None
        self.behind += not isinstance(outcome, bool)
        return outcome

    async def until_asleep(self, behind: bool) -> None:
        """A worker sleeps, with an ingest behind its sleep or without."""
        async with asyncio.timeout(5):
            while self.asleep is None or self.asleep.done() is not behind:  # noqa: ASYNC110 - the worker tells nobody
                await asyncio.sleep(0.001)


async def test_an_idle_worker_has_its_ingest_behind_its_sleep() -> None:
    async with rig_of() as rig:
        store = rig.store = Watched(rig.limits)
        await rig.start()
        await store.until_asleep(behind=True)
        asked = len(store.ingests)
        await rig.publish("order.placed", "o-1", "e-1")
        await rig.until("o-1", RunStatus.COMPLETED)
        assert store.behind >= 1
        await store.until_asleep(behind=True)
        numbers = list(dict.fromkeys(request.number for request in store.ingests))  # it had to register first
        assert numbers == list(range(1, len(numbers) + 1)), "in order, none left out"
        assert len(store.ingests) >= asked + 1


async def test_while_something_executes_no_ingest_lies_behind_a_sleep_and_then_it_does() -> None:
    """Somebody's code might hold up this worker's loop: what wakes it then must be another worker's to take."""
    async with rig_of() as rig:
        store = rig.store = Watched(rig.limits)
        await rig.start()
        await rig.publish("order.placed", "o-1", how="slow")
        await rig.until_slow()
        await store.until_asleep(behind=False)
        rig.world.gate.set()
        await rig.until("o-1", RunStatus.COMPLETED)
        await store.until_asleep(behind=True)


async def test_a_drain_ends_a_sleep_with_an_ingest_behind_it_and_leaves_nothing_leased() -> None:
    async with rig_of() as rig:
        store = rig.store = Watched(rig.limits)
        worker = await rig.start()
        await store.until_asleep(behind=True)
        assert store.asleep is not None
        given_up = store.asleep.result()
        began = time.monotonic()
        worker.drain()
        await asyncio.wait_for(rig.workers.pop()[1], 10)
        assert time.monotonic() - began < 1
        last = store.ingests[-1]
        assert (last.number, last.room) == (given_up.number, 0), "the doubt about its number is over"
        await rig.publish("order.placed", "o-1")
        assert (await store.depth()).events == 1
        await rig.start("w2")
        await rig.until("o-1", RunStatus.COMPLETED)


async def test_what_wakes_a_sleeper_in_the_moment_of_its_drain_is_handed_back() -> None:
    async with rig_of() as rig:
        store = rig.store = Watched(rig.limits)
        worker = await rig.start()
        await store.until_asleep(behind=True)
        await rig.publish("order.placed", "o-1")
        worker.drain()
        await asyncio.wait_for(rig.workers.pop()[1], 10)
        assert rig.world.calls == []
        await rig.start("w2")
        view = await rig.until("o-1", RunStatus.COMPLETED)
        assert view.takeovers == 0


async def test_a_second_signal_leaves_no_run_released_without_its_action() -> None:
    async with rig_of() as rig:
        worker = await rig.start()
        await rig.publish("order.placed", "o-1", how="slow")
        await rig.until_slow()
        worker.drain(hurry=True)
        await asyncio.wait_for(rig.workers.pop()[1], 10)
        assert (rig.signs.held, rig.signs.executing) == (0, 0)
        view = await rig.store.run(RunRef("fulfil:order-o-1"))
        assert view is not None
        assert view.status is not RunStatus.WAITING
        rig.world.gate.set()
        await rig.start("w2")
        await rig.until("o-1", RunStatus.COMPLETED)


async def test_a_suspended_run_with_a_bug_can_be_cancelled(rig: Rig) -> None:
    await rig.publish("order.placed", "o-1", how="broken")
    await rig.until("o-1", RunStatus.SUSPENDED)
    assert await rig.store.cancel(RunRef("fulfil:order-o-1"), "tester", "hopeless") == "ok"
    await rig.until("o-1", RunStatus.CANCELLED)


async def test_a_worker_that_ends_by_an_error_stops_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise ValueError("nobody foresaw this")

    async with rig_of() as rig:
        await rig.start()
        await rig.publish("order.placed", "o-1", how="slow")
        await rig.until_slow()
        monkeypatch.setattr(rig.store, "tick", broken)
        _, task = rig.workers.pop()
        await asyncio.wait([task], timeout=10)
        assert isinstance(task.exception(), BaseExceptionGroup)
        assert (rig.signs.held, rig.signs.executing) == (0, 0)
