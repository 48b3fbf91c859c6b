"""One suite on every store: memory, and each real server that is here, started once per process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from tests.contract.actor import LIMITS, Actor, Clock
from tests.support.servers import SERVERS, RunningServer, server_binary
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Limits


class Servers:
    """Starts a server when it is first asked for; all are stopped with the test session."""

    def __init__(self, stack: ExitStack, factory: pytest.TempPathFactory) -> None:
        self._stack, self._factory = stack, factory
        self._running: dict[str, RunningServer] = {}

    def get(self, name: str) -> RunningServer:
        """The running server of this name."""
        if name not in self._running:
            server = RunningServer(server_binary(name), self._factory.mktemp(name))
            self._running[name] = self._stack.enter_context(server)
        return self._running[name]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All servers of this test process."""
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory)


Raw = Callable[..., Awaitable[Any]]
"""Any command; a key named ``:…`` gets the partition's prefix."""


@pytest.fixture(params=[server.name for server in SERVERS])
def server(request: pytest.FixtureRequest, servers: Servers) -> RunningServer:
    """Each real server that is here."""
    return servers.get(request.param)


@asynccontextmanager
async def redis_actor(server: RunningServer, limits: Limits = LIMITS) -> AsyncGenerator[Actor]:
    """A worker on an empty real server."""
    async with actor_and_raw(server, limits) as (actor, _):
        yield actor


@asynccontextmanager
async def actor_and_raw(server: RunningServer, limits: Limits = LIMITS) -> AsyncGenerator[tuple[Actor, Raw]]:
    """The same, and a way to do what strangers do."""
    client, clock = connect(server.socket_url), Clock()
    await cast("Any", client).execute_command("FLUSHALL")
    blocking = connect_blocking(server.socket_url, 5_000)
    store = RedisStore(client, blocking, namespace="ww", limits=limits, clock=clock)

    async def raw(*command: Any) -> Any:
        named = [
            store.prefix + part[1:] if isinstance(part, str) and part.startswith(":") else part for part in command
        ]
        return await cast("Any", client).execute_command(*named)

    async def add_raw(fields: Sequence[bytes]) -> str:
        return (await cast("Any", client).execute_command("XADD", store.prefix + "events", "*", *fields)).decode()

    try:
        yield await Actor(store, clock, add_raw).begin(), raw
    finally:
        await store.aclose()


async def memory_actor() -> Actor:
    """A worker on an empty memory store."""
    clock = Clock()
    store = MemoryStore(LIMITS, clock)

    async def add_raw(fields: Sequence[bytes]) -> str:
        return store.add_raw(fields)

    return await Actor(store, clock, add_raw).begin()


@pytest.fixture(params=["memory", *(server.name for server in SERVERS)])
async def actor(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Actor]:
    """A worker on each store; whatever a test did, the books balance afterwards."""
    if request.param == "memory":
        made = await memory_actor()
        yield made
        audit = await made.store.audit()
    else:
        async with redis_actor(servers.get(request.param)) as made:
            yield made
            audit = await made.store.audit()
    assert audit.balanced, audit.problems
