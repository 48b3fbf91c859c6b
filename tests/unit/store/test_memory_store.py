"""`MemoryStore` as its users see it: sleepers, hints, strangers' entries."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.unit.store.partitions import ANN, KNOWS, ORDER, ROUTES
from workflow_worker.model.event import Event
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Ingest, Limits, Publish, Registration, RunQuery


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(Limits(), lambda: 1_000_000)
    await store.register(Registration("m", ROUTES, KNOWS))
    await store.open(ANN)
    return store


def placed(event_id: str = "placed") -> Publish:
    return Publish(Event(event_id, "order.placed", "1"))


async def test_it_is_a_store(store: MemoryStore) -> None:
    shared: Store = store
    await shared.publish([placed()])
    await shared.ingest(Ingest(ANN, 1, 10, "m"))
    assert (await shared.runs(RunQuery(subject="1"))).total == 1
    assert await shared.find_runs("order-1") == [ORDER]
    assert (await shared.audit()).balanced
    assert (await shared.depth()).sessions == 1


async def test_one_sleeper_wakes_per_entry(store: MemoryStore) -> None:
    sleepers = [asyncio.create_task(store.wait_for_work(5_000)) for _ in range(2)]
    await asyncio.sleep(0)
    await store.publish([placed()])
    done, waiting = await asyncio.wait(sleepers, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert [task.result() for task in done] == [True]
    assert len(waiting) == 1
    await store.publish([placed("another")])
    assert await waiting.pop() is True


async def test_an_entry_that_came_before_wakes_at_once_unless_it_is_gone(store: MemoryStore) -> None:
    await store.publish([placed()])
    assert await store.wait_for_work(5_000)
    assert not await store.wait_for_work(1)
    await store.publish([placed("another")])
    await store.ingest(Ingest(ANN, 1, 10, "m"))
    assert not await store.wait_for_work(1)


async def test_a_publisher_in_another_thread_wakes_a_sleeper(store: MemoryStore) -> None:
    sleeper = asyncio.create_task(store.wait_for_work(5_000))
    await asyncio.sleep(0)
    thread = threading.Thread(target=lambda: asyncio.run(store.publish([placed()])), daemon=True)
    thread.start()
    assert await sleeper
    thread.join(5)


async def test_mail_for_a_held_run_hints_its_session(store: MemoryStore) -> None:
    await store.publish([placed()])
    await store.ingest(Ingest(ANN, 1, 10, "m"))
    hints = store.hints(ANN)
    first = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0)
    await store.publish([Publish(Event("e", "order.packed", "1"))])
    await store.ingest(Ingest(ANN, 2, 10, "m"))
    assert await asyncio.wait_for(first, 5) == ORDER


async def test_a_strangers_entry_may_hold_any_bytes(store: MemoryStore) -> None:
    raw = (b"\xff\x00", b"\xfe")
    store.add_raw(raw)
    await store.ingest(Ingest(ANN, 1, 10, "m"))
    (letter,) = await store.dead_letters()
    assert (letter.reason, letter.raw) == ("not utf-8", raw)
    with pytest.raises(ValueError, match="no fields"):
        store.add_raw((b"name",))
