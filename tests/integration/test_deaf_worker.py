"""A worker that seems alive and does nothing: it says so, it ends for its supervisor, and nothing of it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import msgspec
import pytest

from tests.integration.worker_rig import Rig, RunningWorker, eventually, health_of, rig_of
from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf
from workflow_worker.model.event import Event
from workflow_worker.model.facts import DeadLettered, PartStalled, RunComplained, SessionLost, StoreReplaced
from workflow_worker.model.run import RunStatus
from workflow_worker.service.health import HealthStatus
from workflow_worker.store.memory.machine.state import State
from workflow_worker.store.transitions import Publish
from workflow_worker.worker import standstill
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.standstill import StoodStill

STALL = WorkerLimits(poll_interval_ms=50, lease_ttl_ms=1_000, stall_limit_ms=1_500, shutdown_grace_ms=500)
"""Degraded after a quarter of a second, unhealthy after one, replaced after one and a half."""


@dataclass(frozen=True)
class Go:
    how: str = "plain"


@dataclass(frozen=True)
class Note:
    text: str


@dataclass
class World:
    app: App
    began: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    cancelled: list[float] = field(default_factory=list[float])
    gate: asyncio.Event = field(default_factory=asyncio.Event)


def make_world() -> World:
    app = App("deaf")
    app.event("go")(Go)
    app.event("note", subject="text")(Note)
    world = World(app)

    @app.action
    async def work() -> int:
        world.began.append((action.fencing_token, time.monotonic()))
        try:
            await world.gate.wait()
        except asyncio.CancelledError:
            world.cancelled.append(time.monotonic())
            raise
        return 1

    @app.action(retry=RetryPolicy(Rule(ValueError).permanent(Fail())))
    async def broken() -> None:
        raise ValueError("nobody looks")

    async def undead() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except BaseException:  # noqa: BLE001 - this is what must not hurt
                continue

    @app.workflow(on=Go, id="{id}")
    async def job(go: Go) -> int:
        match go.how:
            case "complain":
                broken()  # pyright: ignore[reportUnusedCoroutine] - nobody awaits it: the case
                await asyncio.sleep(0.15)
            case "undead":
                _ = asyncio.create_task(undead())  # noqa: RUF006 - it refuses to end: the case
                await wf.wait_for(Note, subject="never", timeout=0.3, default=None)
            case "work":
                return await work()
            case _:
                pass
        return 0

    assert job.name == "job"
    return world


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def rig(world: World) -> AsyncIterator[Rig]:
    async with rig_of(world.app) as made:
        try:
            yield made
        finally:
            world.gate.set()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds are long in a test."""
    monkeypatch.setattr(standstill, "_LEAST_SILENCE_MS", 200)


def status_of(running: RunningWorker) -> tuple[HealthStatus, tuple[str, ...]]:
    judged = health_of(running).workers[0]
    return judged.status, judged.reasons


async def well(running: RunningWorker) -> None:
    await eventually(lambda: status_of(running)[0] is HealthStatus.HEALTHY, "a healthy worker")


def leaves(error: BaseException | None) -> list[BaseException]:
    """The errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in leaves(inner)]
    return [] if error is None else [error]


async def is_found_out(running: RunningWorker, part: str) -> None:
    """Degraded, then unhealthy, each with the reason in words, then replaced; never healthy in between."""
    since = time.monotonic()
    seen = list[HealthStatus]()
    while not running.task.done():
        status, reasons = status_of(running)
        if time.monotonic() - since > 0.6 and running.signs.phase < 3:
            assert status is not HealthStatus.HEALTHY
            assert any(reason.startswith(f"{part} stands still for") for reason in reasons), reasons
        if seen[-1:] != [status]:
            seen.append(status)
        assert time.monotonic() - since < 10, f"{part} was not found out: {seen}"
        await asyncio.sleep(0.01)
    error = running.task.exception()
    assert any(isinstance(each, StoodStill) for each in leaves(error))
    assert HealthStatus.UNHEALTHY in seen
    (stalled,) = running.said(PartStalled)
    assert (stalled.part, stalled.for_ms > 1_500) == (part, True)


@pytest.mark.usefixtures("soon")
async def test_an_ingest_that_is_never_answered(rig: Rig) -> None:
    running = rig.start(limits=STALL)
    await well(running)
    running.hangs.add("ingest")
    await is_found_out(running, "intake")


@pytest.mark.usefixtures("soon")
async def test_a_commit_that_is_never_answered(rig: Rig) -> None:
    running = rig.start(limits=STALL)
    await well(running)
    running.hangs.add("commit")
    await rig.publish("go", "1")
    await is_found_out(running, "committer")
    assert (running.signs.held, running.signs.executing) == (0, 0)
    rig.start("w2")
    await rig.until("job:1", RunStatus.COMPLETED)


@pytest.mark.usefixtures("soon")
async def test_a_commit_that_is_refused_is_kept_until_it_is_not(world: World, rig: Rig) -> None:
    """As when DURABILITY wants a replica that is not there: another process would only do the action again."""
    running = rig.start(limits=STALL)
    await well(running)
    await rig.publish("go", "1", how="work")
    await eventually(lambda: world.began, "the action runs")
    running.refuses.add("commit")
    world.gate.set()
    await eventually(lambda: running.signs.commit_since, "the result is to be recorded")
    since = time.monotonic()
    while time.monotonic() - since < 2.5 * STALL.stall_limit_ms / 1000:
        status, reasons = status_of(running)
        if time.monotonic() - since > 0.6:
            assert status is not HealthStatus.HEALTHY
            assert any(reason.startswith("committer stands still for") for reason in reasons), reasons
        assert not running.task.done()
        await asyncio.sleep(0.05)
    assert status_of(running)[0] is HealthStatus.UNHEALTHY
    running.refuses.clear()
    await rig.until("job:1", RunStatus.COMPLETED)
    assert len(world.began) == 1
    await well(running)


@pytest.mark.usefixtures("soon")
async def test_a_session_that_cannot_be_opened_again(rig: Rig) -> None:
    running = rig.start(limits=STALL)
    await well(running)
    running.hangs.add("open")
    for session in list(rig.store.partition.state.sessions):
        assert await rig.store.close(session)
    await eventually(lambda: running.said(SessionLost), "the session is lost")
    await eventually(lambda: running.task.done(), "the worker ends")
    assert running.said(PartStalled)[0].part == "intake"


@pytest.mark.usefixtures("soon")
async def test_a_blocking_read_that_never_returns_makes_the_worker_late_and_not_deaf(rig: Rig) -> None:
    running = rig.start(limits=STALL, hangs={"wait_for_work"})
    for number in range(5):
        await rig.publish("go", str(number))
        await rig.until(f"job:{number}", RunStatus.COMPLETED, within_s=2)
    assert running.signs.store_errors > 0
    assert not running.said(PartStalled)


@pytest.mark.parametrize("own_thread", [False, True])
async def test_attempts_end_before_another_worker_can_have_the_run(world: World, rig: Rig, own_thread: bool) -> None:
    first = rig.start("w1", own_thread=own_thread)
    await rig.publish("go", "1", how="work")
    await eventually(lambda: world.began, "the action runs")
    rig.start("w2", own_thread=own_thread)
    first.hangs.add("renew")
    await eventually(lambda: len(world.began) == 2, "the other worker has taken the run over")
    (cancelled_at,) = world.cancelled
    (token, _), (later_token, taken_over_at) = world.began
    assert taken_over_at - cancelled_at > 0.2, "the lease of a second ends a third after its holder gives up"
    assert later_token > token
    (lost,) = first.said(SessionLost)
    assert lost.reason == "could not renew in time"


async def test_attempts_end_in_time_though_the_keeper_itself_is_stuck(world: World, rig: Rig) -> None:
    first = rig.start("w1", hangs={"the keeper"})
    await rig.publish("go", "1", how="work")
    await eventually(lambda: world.began, "the action runs")
    await eventually(lambda: world.cancelled, "its worker gives it up")
    assert first.said(SessionLost)[0].reason == "expired without a renewal"
    first.worker.drain(hurry=True)
    rig.start("w2")
    await eventually(lambda: len(world.began) > 1, "another attempt")
    assert world.began[1][1] > world.cancelled[0]


async def test_a_session_that_the_store_calls_lost_ends_its_attempts_at_once(world: World, rig: Rig) -> None:
    rig.start()
    await rig.publish("go", "1", how="work")
    await eventually(lambda: world.began, "the action runs")
    (session,) = list(rig.store.partition.state.sessions)
    began = time.monotonic()
    assert await rig.store.close(session)
    await eventually(lambda: world.cancelled, "the attempt was cancelled")
    assert world.cancelled[0] - began < 0.4, "a renewal comes every fifth of a second"


@pytest.mark.parametrize("verb", ["ingest", "commit", "close", "open"])
async def test_a_store_call_that_hangs_does_not_hold_up_a_drain(rig: Rig, verb: str) -> None:
    limits = WorkerLimits(
        poll_interval_ms=50, lease_ttl_ms=1_000, shutdown_grace_ms=300, closing_ms=800, stall_limit_ms=60_000
    )
    running = rig.start(limits=limits)
    await well(running)
    running.hangs.add(verb)
    if verb == "open":
        for session in list(rig.store.partition.state.sessions):
            assert await rig.store.close(session)
        await eventually(lambda: running.said(SessionLost), "the session is lost")
    await rig.publish("go", "1")
    if verb in ("ingest", "commit"):
        await eventually(lambda: running.signs.intake_since or running.signs.commit_since, "the call is under way")
    assert await running.drained() < 3
    assert running.task.exception() is None


async def test_another_namespace_is_said_once_and_worked_on(world: World, rig: Rig) -> None:
    running = rig.start()
    await rig.publish("go", "1", how="work")
    await eventually(lambda: world.began, "the action runs")
    rig.store.partition.state = State()  # FLUSHALL
    await eventually(lambda: running.said(StoreReplaced), "the flush is noticed")
    (replaced,) = running.said(StoreReplaced)
    assert replaced.before != replaced.after
    await eventually(lambda: world.cancelled, "the attempt of a run that is gone was cancelled")
    await rig.publish("go", "2")
    await rig.until("job:2", RunStatus.COMPLETED)
    status, reasons = status_of(running)
    assert status is HealthStatus.DEGRADED
    assert reasons[0].startswith("the store was replaced ")
    await eventually(
        lambda: not health_of(running, HEALTH_CHECK_INTERVAL_MS="100").workers[0].reasons,
        "healthy again an interval later",
    )
    assert len(running.said(StoreReplaced)) == 1


async def test_every_fate_is_counted_and_every_letter_told(rig: Rig) -> None:
    note = (b"type", b"note", b"subject", b"s-1", b"data", b'{"text": "s-1"}', b"id", b"n-1")
    await rig.store.register(rig.app.registration())
    for fields in (note, note, (b"type", b"unknown", b"id", b"u-1", b"data", b"{}")):
        rig.store.add_raw(fields)
    running = rig.start()
    signs = running.signs
    await eventually(lambda: signs.ingested == 3, "all taken in")
    assert (signs.early, signs.duplicates, signs.dead) == (1, 1, 1)
    (told,) = running.said(DeadLettered)
    assert (told.event_type, told.reason, told.run) == ("unknown", "undeclared", "")
    letter = await rig.store.dead_letter(told.dead_id)
    assert letter is not None


async def test_errors_that_nobody_awaited_are_told_once(rig: Rig) -> None:
    running = rig.start()
    await rig.publish("go", "1", how="complain")
    await rig.until("job:1", RunStatus.COMPLETED)
    (told,) = await eventually(lambda: running.said(RunComplained), "the complaint")
    assert told.run == "job:1"
    assert "nobody looks" in told.complaints[0]


async def test_coroutines_that_refuse_to_end_show_in_health(rig: Rig) -> None:
    running = rig.start()
    events = [Publish(Event(str(n), "go", None, msgspec.json.encode({"how": "undead"}))) for n in range(12)]
    await rig.store.publish(events)
    for number in range(12):
        await rig.until(f"job:{number}", RunStatus.COMPLETED)
    await eventually(lambda: running.signs.undead == 12, "all are counted")
    assert "12 workflow coroutines refuse to end" in status_of(running)[1]
