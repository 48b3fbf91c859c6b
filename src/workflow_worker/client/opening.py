"""From settings to a store that works: the one place where a server's address becomes a `RedisStore`."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from workflow_worker.model.environment import Environment
from workflow_worker.model.settings import Settings
from workflow_worker.store.redis.calls import Durability
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.embedded import EmbeddedServer
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Limits

_DURABILITIES: dict[str, Durability] = {"relaxed": "relaxed", "fsync": "fsync", "replicated": "replicated"}


def limits_of(settings: Settings) -> Limits:
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


def open_store(url: str, settings: Settings) -> RedisStore:
    """A store on a server; nothing is sent before its first verb. Close it with ``aclose``.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    return RedisStore(
        connect(url),
        connect_blocking(url),
        namespace=settings.namespace,
        limits=limits_of(settings),
        durability=_DURABILITIES[settings.durability],
    )


@asynccontextmanager
async def opened_store(settings: Settings, folder: Path) -> AsyncGenerator[RedisStore]:
    """A store on the server of the settings, or on the embedded one of `folder`, which runs at least as long.

    Raises:
        ConfigurationError: The URL cannot be used, or there is no embedded server for this machine.
        StoreUnavailable: The embedded server does not come up.
    """
    async with AsyncExitStack() as stack:
        url = settings.redis_url
        if url is None:
            server = await asyncio.to_thread(EmbeddedServer.acquire, folder)
            stack.push_async_callback(asyncio.to_thread, server.release)
            url = server.url
        store = open_store(url, settings)
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
