"""`Pair`: a memory machine and a real server, made to walk the same way, again and again from empty."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.contract.actor import LIMITS, Clock
from tests.contract.picture import Picture, of_machine, of_server
from tests.contract.walk import Operation, Walk, compare
from tests.support.servers import RunningServer
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.store import RedisStore


class Pair:
    """One connection serves all walks; FLUSHALL lies between them."""

    def __init__(self, server: RunningServer, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._client: Any = connect(server.socket_url)
        self._blocking = connect_blocking(server.socket_url, 1_000)
        self._clock = Clock()
        self._store = RedisStore(self._client, self._blocking, namespace="ww", limits=LIMITS, clock=self._clock)

    def compare(self, operations: Sequence[Operation]) -> None:
        """Walk on both stores.

        Raises:
            Difference: They are not equal.
        """
        self._runner.run(self._compare(operations))

    async def _compare(self, operations: Sequence[Operation]) -> None:
        await self._client.execute_command("FLUSHALL", "ASYNC")
        self._clock.now = Clock().now
        clock = Clock()
        memory = MemoryStore(LIMITS, clock)
        memory.partition.memory = 0  # as on the server, which has no limit: each tick finds room

        async def add_here(fields: Sequence[bytes]) -> str:
            return memory.add_raw(fields)

        async def add_there(fields: Sequence[bytes]) -> str:
            return await self._client.execute_command("XADD", self._store.prefix + "events", "*", *fields)

        async def full_here(until: int) -> None:
            memory.partition.state.full_until = until

        async def full_there(until: int) -> None:
            await self._client.execute_command("HSET", self._store.prefix + "stat", "full", until)

        async def look_here() -> Picture:
            return of_machine(memory.partition)

        async def look_there() -> Picture:
            return await of_server(self._client.execute_command, self._store.prefix)

        here = Walk(memory, clock, add_here, full_here, look_here)
        await compare(here, Walk(self._store, self._clock, add_there, full_there, look_there), operations)

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._store.aclose())
