"""The client on the memory store: ids, repetition while the store is away, operations, handles."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from workflow_worker.app.registry import App
from workflow_worker.client.client import Client
from workflow_worker.client.outgoing import Item
from workflow_worker.model.environment import Environment
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import Failed, NotFound, Refused, StoreUnavailable, UsageError
from workflow_worker.model.failure import describe
from workflow_worker.model.ids import NO_COMMIT, CommitId, SessionId, run_ref
from workflow_worker.model.record import RunResumed, decode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import (
    Commit,
    Ingest,
    Ingested,
    Limits,
    Mode,
    Publish,
    Published,
    Registration,
    Route,
    StartRoute,
)

SESSION = SessionId("s-1")


@dataclass
class World:
    """A clock that moves only by sleeping, and a store whose answers can be lost."""

    now: float = 1_000.0
    points: list[str] = field(default_factory=list[str])
    naps: list[float] = field(default_factory=list[float])
    while_asleep: Callable[[], Awaitable[None]] | None = None

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds
        if self.while_asleep is not None:
            await self.while_asleep()

    def environment(self) -> Environment:
        ids = iter(range(1_000_000))
        return Environment(
            monotonic=lambda: self.now,
            now_ms=lambda: int(self.now * 1000),
            sleep=self.sleep,
            random=random.Random(1),
            new_id=lambda: f"id-{next(ids)}",
            fault=self.points.append,
        )


class Lossy(MemoryStore):
    """Loses the next answers to publishes, before or after it did what they asked."""

    def __init__(self, world: World) -> None:
        super().__init__(Limits(), lambda: int(world.now * 1000))
        self.lose: list[str] = []
        self.batches: list[int] = []

    async def publish(self, items: Sequence[Publish]) -> list[Published]:
        how = self.lose.pop(0) if self.lose else ""
        if how == "before":
            raise StoreUnavailable("connection refused")
        self.batches.append(len(items))
        answer = await super().publish(items)
        if how == "after":
            raise StoreUnavailable("the answer was lost")
        return answer


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store(world: World) -> Lossy:
    return Lossy(world)


@pytest.fixture
def client(store: Lossy, world: World) -> Client:
    return Client(store, world.environment())


async def ingest(store: MemoryStore, number: int = 1) -> Ingested:
    """Take in what was published, as a worker that knows the workflows `job` and `other`."""
    start = StartRoute("job", 1, ("subject",))
    routes = {"job.start": Route(False, (start,)), "other.start": Route(False, (StartRoute("other", 1, ("subject",)),))}
    await store.register(Registration("m", routes, ("job@1", "other@1")))
    await store.open(SESSION)
    done = await store.ingest(Ingest(SESSION, number, 10, "m"))
    assert isinstance(done, Ingested)
    return done


async def finish(
    store: MemoryStore, status: RunStatus, result: bytes | None = None, error: bytes | None = None
) -> None:
    """Take in the start event of the run `job:a` and bring it to rest in this status."""
    leased = (await ingest(store)).runs[0]
    ended = status.ended
    commit = Commit(
        ref=leased.ref,
        session=SESSION,
        token=leased.token,
        base=NO_COMMIT,
        cid=CommitId("s-1/1"),
        records=(b"r",),
        status=status,
        mode=Mode.END if ended else Mode.RELEASE,
        state=b'{"at":"bank"}',
        result=result,
        error=error,
    )
    assert [outcome.word for outcome in await store.commit([commit])] == ["ok"]


async def test_an_event_enters_once_however_many_answers_are_lost(client: Client, store: Lossy, world: World) -> None:
    store.lose = ["before", "after", "after"]
    answer = await client.publish("a.b", {"x": 1})
    assert answer.id == "id-0"
    assert (await client.audit()).added == 1
    assert len(world.naps) == 3
    assert world.points == ["publish.sent"] * 4 + ["publish.acked"]


async def test_patience_ends_at_its_deadline(client: Client, store: Lossy, world: World) -> None:
    store.lose = ["before"] * 1_000
    with pytest.raises(StoreUnavailable, match="connection refused"):
        await client.publish("a.b")
    assert world.now == pytest.approx(1_010.0, abs=0.01)
    assert len(world.naps) < 30


async def test_many_events_go_200_in_a_call_in_their_order(client: Client, store: Lossy) -> None:
    answers = await client.publish_many([Item("a.b", number, id=f"e-{number}") for number in range(450)])
    assert store.batches == [200, 200, 50]
    assert [answer.id for answer in answers] == [f"e-{number}" for number in range(450)]
    assert all(answer.duplicate for answer in await client.publish_many([Event("e-1", "a.b"), Event("e-449", "a.b")]))


async def test_one_bad_event_keeps_the_whole_batch_back(client: Client, store: Lossy) -> None:
    with pytest.raises(Exception, match="not JSON"):
        await client.publish_many([Item("a.b"), Item("a.b", b"{")])
    assert store.batches == []


async def test_start_returns_a_handle_and_repeated_the_same_run(client: Client, store: Lossy) -> None:
    handle = await client.start("job", Item("job.start", {}), id="a")
    again = await client.start("job", Item("job.start", {}), id="a")
    assert (handle.ref, handle.existed, again.ref, again.existed) == ("job:a", False, "job:a", True)
    assert (await handle.status(), await handle.state()) == (RunStatus.PENDING, None)
    with pytest.raises(NotFound, match="yet"):
        await handle.cancel()
    await finish(store, RunStatus.COMPLETED, result=b'{"paid":3}')
    assert await handle.result(timeout=1) == {"paid": 3}
    assert (await handle.state(), await handle.status()) == ({"at": "bank"}, RunStatus.COMPLETED)


async def test_a_result_is_waited_for_by_the_clock_given(client: Client, store: Lossy, world: World) -> None:
    handle = await client.start("job", Item("job.start", {}), id="a")
    with pytest.raises(TimeoutError, match="not begun"):
        await handle.result(timeout=5)
    assert world.now == pytest.approx(1_005.0)

    async def complete_once() -> None:
        world.while_asleep = None
        await finish(store, RunStatus.COMPLETED, result=b"1")

    world.while_asleep = complete_once
    assert await handle.result() == 1


async def test_a_failed_run_raises_its_own_error(client: Client, store: Lossy) -> None:
    handle = await client.start("job", Item("job.start", {}), id="a")
    await finish(store, RunStatus.FAILED, error=msgspec.msgpack.encode(describe(Failed("not packed in 2 days"))))
    with pytest.raises(Failed, match="not packed"):
        await handle.result()


async def test_a_cancelled_run_has_no_result(client: Client, store: Lossy) -> None:
    handle = await client.start("job", Item("job.start", {}), id="a")
    await finish(store, RunStatus.CANCELLED)
    with pytest.raises(Refused, match="cancelled"):
        await handle.result()
    with pytest.raises(Refused, match="has ended already"):
        await client.cancel("a")


async def test_a_suspended_run_is_resumed_once(client: Client, store: Lossy) -> None:
    handle = await client.start("job", Item("job.start", {}), id="a")
    await finish(store, RunStatus.SUSPENDED, error=msgspec.msgpack.encode(describe(ValueError("broken"))))
    with pytest.raises(Refused, match="needs a person: ValueError: broken"):
        await handle.result()
    assert await client.resume("a", by="ann", note="fixed") == "job:a"
    record = decode_record((await client.history("job:a"))[-1])
    assert isinstance(record, RunResumed)
    assert (record.by, record.note) == ("ann", "fixed")
    with pytest.raises(Refused, match="only a suspended run"):
        await client.resume("job:a")


async def test_cancelling_twice_is_refused_with_the_reason(client: Client, store: Lossy) -> None:
    await client.start("job", Item("job.start", {}), id="a")
    await ingest(store)
    assert await client.cancel("job:a", by="ann", reason="twice") == "job:a"
    with pytest.raises(Refused, match="asked to end before"):
        await client.cancel("a")


async def test_an_id_of_two_workflows_must_be_told_apart(client: Client, store: Lossy) -> None:
    await client.start("job", Item("job.start"), id="x:1")
    await client.start("other", Item("other.start"), id="x:1")
    await ingest(store)
    with pytest.raises(Refused, match="job:x:1, other:x:1"):
        await client.run("x:1")
    assert (await client.run("other:x:1")).ref == run_ref("other", "x:1")
    with pytest.raises(NotFound, match="no run y"):
        await client.cancel("y")


async def test_dead_letters_are_sent_again_once_and_dropped_once(client: Client, store: Lossy) -> None:
    await client.publish("nobody.declared.this", id="d-1")
    await client.publish("nor.this", id="d-2")
    await ingest(store)
    first, second = await client.dead_letters()
    assert (first.field("id"), (await client.dead_letter(first.id)).id) == ("d-1", first.id)
    await client.redrive(first.id, by="ann")
    with pytest.raises(Refused, match="before"):
        await client.redrive(first.id)
    await client.drop(second.id)
    for attempt in (client.drop, client.redrive, client.dead_letter):
        with pytest.raises(NotFound, match="no dead letter"):
            await attempt(second.id)
    assert (await client.audit()).balanced


async def test_a_client_that_is_given_an_app_says_what_it_takes() -> None:
    with pytest.raises(UsageError, match="a client needs no app"):
        async with Client.from_env(App("shop")):  # pyright: ignore[reportArgumentType] - the mistake that is tested
            pass


async def test_what_a_person_writes_has_an_end() -> None:
    client = Client(MemoryStore(Limits(), lambda: 1_000_000))
    with pytest.raises(UsageError, match="by has 201 characters: at most 200"):
        await client.drop("1-1", by="a" * 201)
    for act, name in ((client.cancel, "reason"), (client.resume, "note")):
        with pytest.raises(UsageError, match=f"{name} has 2,001 characters: at most 2,000"):
            await act("r", by="ann", **{name: "x" * 2_001})
