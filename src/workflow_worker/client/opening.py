"""From settings to a store that works: the one place where a server's address becomes a store, for all layers above."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from workflow_worker.model.environment import Environment
from workflow_worker.model.settings import Settings
from workflow_worker.store.protocol import Store
from workflow_worker.store.redis.calls import Durability
from workflow_worker.store.redis.connection import check_server, connect, connect_blocking
from workflow_worker.store.redis.embedded import EmbeddedServer
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Limits

OpenStore = Callable[[], Awaitable[Store]]
"""Makes a store on the running event loop; whoever calls it closes the store."""

_LISTEN_MS = 5_000
"""Listening for hints blocks so long, whatever POLL_INTERVAL_MS is."""
_DURABILITIES: dict[str, Durability] = {"relaxed": "relaxed", "fsync": "fsync", "replicated": "replicated"}


def store_limits(settings: Settings) -> Limits:
    """The spans and caps that must be the same for everybody in a namespace."""
    return Limits(
        lease_ttl_ms=settings.lease_ttl_ms,
        early_event_ttl_ms=settings.early_event_ttl_ms,
        dedup_window_ms=settings.dedup_window_ms,
        retention_ms=settings.retention_hours * 3_600_000,
        retention_runs=settings.retention_runs,
        max_event_bytes=settings.max_event_bytes,
        max_takeovers=settings.max_takeovers,
    )


def store_opener(settings: Settings, *, name: str = "workflow-worker", check: bool = False) -> OpenStore:
    """Make a function that makes stores; `settings.redis_url` must be there. The function raises `ConfigurationError`
    if the URL cannot be used, and sends nothing before a store's first verb unless `check` is set.

    Args:
        settings: REDIS_URL, NAMESPACE, DURABILITY and the limits.
        name: How the connections are called in the server's CLIENT LIST.
        check: Ask the server first whether it is fit (version, eviction). The function then raises
            `ConfigurationError` also for one that is not, and `StoreUnavailable` while none answers.
    """
    url = settings.redis_url
    assert url is not None, "without REDIS_URL the embedded server's address stands in the settings"

    async def open_store() -> Store:
        client = connect(url, name=name)
        try:
            if check:
                await check_server(client, allow_eviction=settings.allow_eviction)
        except BaseException:
            await client.aclose()
            raise
        return RedisStore(
            client,
            connect_blocking(url, max(settings.poll_interval_ms, _LISTEN_MS), name=f"{name}-blocking"),
            namespace=settings.namespace,
            limits=store_limits(settings),
            durability=_DURABILITIES[settings.durability],
        )

    return open_store


@asynccontextmanager
async def opened_store(settings: Settings, folder: Path) -> AsyncGenerator[Store]:
    """A store on the server of the settings, or on the embedded one of `folder`, which runs at least as long.

    Raises:
        ConfigurationError: The URL cannot be used, or there is no embedded server for this machine.
        StoreUnavailable: The embedded server does not come up.
    """
    async with AsyncExitStack() as stack:
        if settings.redis_url is None:
            server = await asyncio.to_thread(EmbeddedServer.acquire, folder)
            stack.push_async_callback(asyncio.to_thread, server.release)
            settings = replace(settings, redis_url=server.url)
        store = await store_opener(settings)()
        stack.push_async_callback(store.aclose)
        yield store


def producer_environment() -> Environment:
    """Clock, randomness and ids of this machine, without fault points."""
    return Environment(
        monotonic=time.monotonic,
        now_ms=lambda: time.time_ns() // 1_000_000,
        sleep=asyncio.sleep,
        random=random.Random(),
        new_id=lambda: uuid.uuid4().hex,
    )
