"""A namespace whose memory is nearly used up: what would start a run is refused, and the publisher hears it."""

from __future__ import annotations

import pytest

from workflow_worker.client.client import Client
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, StoreFull
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import Limits, Registration, Route, StartRoute


@pytest.fixture
async def client() -> Client:
    """On a store that was found too full a moment ago."""
    store = MemoryStore(Limits(), lambda: 1_000)
    await store.register(Registration("m", {"go": Route(False, (StartRoute("work", 1),)), "on": Route(False)}, ()))
    store.partition.memory = 90
    await store.tick()
    return Client(store)


async def test_what_would_start_a_run_is_refused(client: Client) -> None:
    with pytest.raises(StoreFull, match="1 of 1 were not taken, first e1"):
        await client.publish("go", id="e1")
    with pytest.raises(StoreFull):
        await client.start("work", Event("", "go"), id="r1")
    assert (await client.publish("on", id="e2")).id == "e2"


async def test_the_others_of_the_call_are_taken(client: Client) -> None:
    with pytest.raises(StoreFull, match="1 of 3"):
        await client.publish_many([Event("a", "on"), Event("b", "go"), Event("c", "on")])
    assert (await client.depth()).events == 2


@pytest.mark.parametrize("event", [Event("é" * 251, "on"), Event("a", "on", "é" * 251)], ids=["id", "subject"])
async def test_names_are_bounded_in_bytes(client: Client, event: Event) -> None:
    with pytest.raises(EventRejected, match="has 502 bytes in UTF-8: at most 500"):
        await client.publish(event)
