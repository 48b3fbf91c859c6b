"""The client on a real server and on the embedded one."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.support.servers import RunningServer
from workflow_worker.client.client import Client
from workflow_worker.client.outgoing import Item


async def test_publishing_by_url_into_a_namespace(valkey: RunningServer) -> None:
    namespace = f"t-{uuid4().hex[:8]}"
    async with Client.connect(valkey.url, namespace=namespace) as client:
        first = await client.publish("order.placed", {"order_id": "o-1"}, subject="o-1", id="e-1")
        again = await client.publish("order.placed", {"order_id": "o-1"}, subject="o-1", id="e-1")
        await client.publish_many([Item("order.placed", {}, id=f"m-{number}") for number in range(250)])
        assert (first.id, first.duplicate, again.duplicate) == ("e-1", False, True)
        assert (await client.depth()).events == 251
        assert (await client.audit()).balanced
    async with Client.connect(valkey.url, namespace=f"{namespace}-other") as client:
        assert (await client.depth()).events == 0


async def test_without_a_url_events_wait_in_the_embedded_server(tmp_path: Path) -> None:
    async with Client.from_env({}, folder=tmp_path) as client:
        await client.publish("order.placed", {"order_id": "o-1"}, subject="o-1", delay=3_600)
        await client.publish("order.placed", {"order_id": "o-2"}, subject="o-2")
    async with Client.from_env({}, folder=tmp_path) as client:
        depth = await client.depth()
        assert (depth.events, depth.delayed) == (1, 1)


async def test_a_server_that_comes_back_gets_the_event_once(server: RunningServer) -> None:
    async with Client.connect(server.url, namespace="back") as client:
        await client.publish("a.b", id="e-1")
        server.restart()
        answer = await client.publish("a.b", id="e-2")
        assert answer.id == "e-2"
        assert (await client.depth()).events == 1
