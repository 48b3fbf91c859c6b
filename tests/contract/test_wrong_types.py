"""A key that is of another type than ours harms its own run and no other."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.contract.conftest import Servers, redis_actor
from tests.support.servers import SERVERS
from workflow_worker.store.redis.connection import connect


@pytest.mark.parametrize("name", [server.name for server in SERVERS])
async def test_a_commit_that_raises_leaves_the_others_of_its_call_whole(servers: Servers, name: str) -> None:
    server = servers.get(name)
    async with redis_actor(server) as actor:
        for subject in "123":
            await actor.publish("order.paid", subject)
            await actor.publish("order.placed", subject)
        runs = await actor.ingest(10)
        client = connect(server.socket_url)
        key = f"ww:{{ww:0}}:mailbox:{runs[1].ref}"
        assert await cast("Any", client).execute_command("DEL", key) == 1
        await cast("Any", client).execute_command("SET", key, "another type")
        await client.aclose()
        outcomes = await actor.store.commit([actor.step(run) for run in runs])
        assert [outcome.word for outcome in outcomes] == ["ok", "conflict", "ok"]
        assert [(await actor.view(run.ref)).records for run in runs] == [1, 0, 1]
