"""From settings to a store that works: the one place where a server's address becomes a store, for all layers above."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from workflow_worker.client.identifiers import Identifiers
from workflow_worker.model.environment import Environment
from workflow_worker.model.settings import Settings
from workflow_worker.store.protocol import Store
from workflow_worker.store.redis.connection import COMMAND_TIMEOUT_S, connect, connect_blocking
from workflow_worker.store.redis.durable import Durability
from workflow_worker.store.redis.embedded import EmbeddedServer
from workflow_worker.store.redis.fitness import check_server
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
        memory_high_water=settings.memory_high_water,
    )


def answer_deadline_s(lease_ttl_ms: int) -> float:
    """How long one answer may take: half a lease, because who waits longer for a dead connection loses the session
    over it; at least a second, because a busy server is no dead one."""
    return min(COMMAND_TIMEOUT_S, max(1.0, lease_ttl_ms / 2_000))


def store_opener(
    settings: Settings,
    *,
    name: str = "workflow-worker",
    check: bool = False,
    warn: Callable[[str], None] | None = None,
) -> OpenStore:
    """Make a function that makes stores; `settings.redis_url` must be there. The function raises `ConfigurationError`
    if the URL cannot be used, and sends nothing before a store's first verb unless `check` is set.

    Args:
        settings: REDIS_URL, NAMESPACE, DURABILITY and the limits.
        name: How the connections are called in the server's CLIENT LIST.
        check: Ask the server first whether it is fit (version, eviction, what DURABILITY needs). The function then
            raises `ConfigurationError` also for one that is not, and `StoreUnavailable` while none answers.
        warn: Is told what the check found to work and to want a person's look all the same; default: a line on stderr.
    """
    url = settings.redis_url
    assert url is not None, "without REDIS_URL the embedded server's address stands in the settings"
    durability = _DURABILITIES[settings.durability]

    async def open_store() -> Store:
        client = connect(url, name=name, timeout_s=answer_deadline_s(settings.lease_ttl_ms))
        try:
            if check:
                info = await check_server(client, allow_eviction=settings.allow_eviction, durability=durability)
                for warning in info.warnings:
                    (warn or _tell)(warning)
        except BaseException:
            await client.aclose()
            raise
        return RedisStore(
            client,
            connect_blocking(url, max(settings.poll_interval_ms, _LISTEN_MS), name=f"{name}-blocking"),
            namespace=settings.namespace,
            limits=store_limits(settings),
            durability=durability,
        )

    return open_store


def _tell(warning: str) -> None:
    print(f"workflow-worker: warning: {warning}", file=sys.stderr)


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
        new_id=Identifiers(),
    )
