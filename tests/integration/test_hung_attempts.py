"""A body that outlives its attempt: the run goes on with a higher fencing token, and the body cannot harm it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.integration.worker_rig import Rig, eventually, rig_of
from workflow_worker import App, RetryPolicy, action, wf
from workflow_worker.model.facts import AttemptHung
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import ActionCompleted, AttemptFailed, decode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.worker import actions
from workflow_worker.worker.limits import WorkerLimits


class OldToken(Exception):
    """The resource has seen a newer one."""


@dataclass
class Resource:
    """Something outside that refuses old fencing tokens of a run."""

    highest: dict[str, int] = field(default_factory=dict[str, int])
    written: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    refused: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, token: int) -> None:
        """An attempt shows its token before it works."""
        with self.lock:
            self.highest[action.run] = max(self.highest.get(action.run, 0), token)

    def write(self, attempt: int, token: int) -> None:
        """Write, unless a newer token was here.

        Raises:
            OldToken: It was.
        """
        with self.lock:
            if token < self.highest[action.run]:
                self.refused.append((attempt, token))
                raise OldToken
            self.written.append((attempt, token))


@dataclass(frozen=True)
class Go:
    how: str


NOW = RetryPolicy(initial=0.001, factor=1, jitter="none", attempts=4)


@dataclass
class World:
    app: App
    resource: Resource
    release: threading.Event
    """Lets the hung bodies go on."""
    tokens: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])

    def note(self) -> tuple[int, int]:
        self.tokens.append((action.name, action.attempt, action.fencing_token))
        return action.attempt, action.fencing_token


def make_world() -> World:  # noqa: C901 - a table of small functions
    app = App("hung")
    app.event("go")(Go)
    world = World(app, Resource(), threading.Event())

    @app.action(retry=NOW, timeout=0.1)
    def write() -> int:
        attempt, token = world.note()
        world.resource.claim(token)
        if attempt == 1:
            world.release.wait(20)
        world.resource.write(attempt, token)
        return token

    @app.action(retry=NOW, timeout=0.1)
    async def stubborn() -> int:
        attempt, token = world.note()
        while attempt == 1 and not world.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return token

    @app.action(timeout=60)
    def deaf() -> int:
        world.note()
        world.release.wait(20)
        return 0

    @app.action
    async def after() -> int:
        world.note()
        return action.fencing_token

    @app.action
    async def beside() -> int:
        world.note()
        await asyncio.sleep(0.4)
        return 1

    @app.workflow(on=Go, id="{id}")
    async def job(go: Go) -> list[int]:
        match go.how:
            case "sync":
                return [await write(), await after()]
            case "async":
                return [await stubborn()]
            case "given up":
                try:
                    async with asyncio.timeout(0.1):
                        await deaf()
                except TimeoutError:
                    return [await after()]
                raise wf.Failed("it ended")
            case "patient":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await deaf()
                await asyncio.sleep(0.09)  # short enough to keep the run in hand
                return [await after()]
            case "many":
                return list(await asyncio.gather(*(write() for _ in range(6))))
            case _:
                return list(await asyncio.gather(write(), beside()))

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
            world.release.set()


async def test_a_hung_thread_writes_with_an_old_token(world: World, rig: Rig) -> None:
    running = rig.start()
    await rig.publish("go", "1", how="sync")
    await rig.until("job:1", RunStatus.COMPLETED)
    assert running.signs.hung == running.signs.hanging == 1
    world.release.set()
    await eventually(lambda: world.resource.refused, "the hung body tried to write")
    (first, second), attempts = [token for _, _, token in world.tokens[:2]], [a for _, a, _ in world.tokens[:2]]
    assert attempts == [1, 2]
    assert second > first
    assert world.resource.refused == [(1, first)]
    assert world.resource.written == [(2, second)]
    await eventually(lambda: running.signs.hanging == 0, "the hung body has ended")
    assert len(running.said(AttemptHung)) == running.signs.hung == 1
    history = [decode_record(raw) for raw in await rig.store.history(RunRef("job:1"))]
    assert sum(isinstance(record, ActionCompleted) for record in history) == 2
    assert sum(isinstance(record, AttemptFailed) for record in history) == 1


async def test_a_coroutine_that_swallows_its_cancellation_is_fenced_too(
    world: World, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_CANCEL_GRACE_S", 0.1)
    running = rig.start()
    await rig.publish("go", "1", how="async")
    await rig.until("job:1", RunStatus.COMPLETED)
    (_, _, first), (_, attempt, second) = world.tokens
    assert attempt == 2
    assert second > first
    assert (running.signs.hung, running.signs.hanging) == (1, 1)
    world.release.set()
    await eventually(lambda: running.signs.hanging == 0, "the hung body has ended")


async def test_a_thread_that_the_workflow_gave_up_is_fenced_before_the_next_action(
    world: World, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_CANCEL_GRACE_S", 0.3)
    running = rig.start()
    await rig.publish("go", "1", how="given up")
    await rig.until("job:1", RunStatus.COMPLETED)
    (name, _, first), (_, _, second) = world.tokens
    assert name == "deaf"
    assert second > first
    assert not running.said(AttemptHung), "it has a while to end"
    await eventually(lambda: running.said(AttemptHung), "it did not")
    assert running.signs.hanging == 1
    world.release.set()
    await eventually(lambda: running.signs.hanging == 0, "the hung body has ended")


async def test_a_thread_that_ends_soon_after_it_was_given_up_costs_nothing(world: World, rig: Rig) -> None:
    running = rig.start()
    await rig.publish("go", "1", how="patient")
    await eventually(lambda: world.tokens, "the action runs")
    world.release.set()
    await rig.until("job:1", RunStatus.COMPLETED)
    (name, _, first), (_, _, second) = world.tokens
    assert (name, first) == ("deaf", second)
    assert running.signs.hung == 0


async def test_the_run_is_not_handed_back_under_an_attempt_that_is_well(world: World, rig: Rig) -> None:
    rig.start()
    await rig.publish("go", "1", how="both")
    await rig.until("job:1", RunStatus.COMPLETED)
    assert [name for name, _, _ in world.tokens].count("beside") == 1
    tokens = [token for name, _, token in world.tokens if name == "write"]
    assert tokens[1] > tokens[0]


@pytest.mark.parametrize("how", ["sync", "many"])
async def test_hung_threads_leave_none_without_a_thread(world: World, rig: Rig, how: str) -> None:
    """More bodies hang than the pool has threads; those that waited for a thread lose no attempt by it."""
    running = rig.start(limits=WorkerLimits(concurrency_limit=2, poll_interval_ms=50, lease_ttl_ms=1_000))
    runs = 6 if how == "sync" else 1
    for number in range(runs):
        await rig.publish("go", str(number), how=how)
    for number in range(runs):
        await rig.until(f"job:{number}", RunStatus.COMPLETED)
    assert running.signs.hung == 6
    assert sorted(attempt for name, attempt, _ in world.tokens if name == "write") == [1] * 6 + [2] * 6


async def test_a_drain_does_not_wait_for_a_hung_thread(world: World, rig: Rig) -> None:
    limits = WorkerLimits(poll_interval_ms=50, lease_ttl_ms=1_000, shutdown_grace_ms=300, closing_ms=400)
    running = rig.start(limits=limits)
    await rig.publish("go", "1", how="given up")
    await eventually(lambda: world.tokens, "the action runs")
    assert await running.drained() < 2
    assert (running.signs.held, running.signs.executing) == (0, 0)
