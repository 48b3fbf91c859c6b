"""From the settings to a store: which server, which limits, and the embedded server where none is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.settings import Settings, without_password
from workflow_worker.service.facts import EmitAny, ServerRestarted
from workflow_worker.store.protocol import Store
from workflow_worker.store.redis.calls import Durability
from workflow_worker.store.redis.connection import check_server, connect, connect_blocking
from workflow_worker.store.redis.embedded import WATCH_INTERVAL_S, EmbeddedServer
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Limits

OpenStore = Callable[[], Awaitable[Store]]

_SLEEP_AT_LEAST_MS = 5_000


def store_limits(settings: Settings) -> Limits:
    """The spans and caps that transitions obey, from the settings."""
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
    """Make a function that makes a store on the running event loop; `settings.redis_url` must be there.

    Args:
        settings: REDIS_URL, NAMESPACE, DURABILITY and the limits.
        name: How the connections are called in the server's CLIENT LIST.
        check: Ask the server first whether it is fit (version, eviction). The function then raises
            `ConfigurationError` for one that is not, and `StoreUnavailable` while none answers.
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
        sleeper = connect_blocking(url, max(settings.poll_interval_ms, _SLEEP_AT_LEAST_MS), name=f"{name}-blocking")
        return RedisStore(
            client,
            sleeper,
            namespace=settings.namespace,
            limits=store_limits(settings),
            durability=cast("Durability", settings.durability),
        )

    return open_store


class EmbeddedWatch:
    """The embedded server of a working folder: started, kept running, and left to its other users at the end."""

    def __init__(self, folder: Path, emit: EmitAny) -> None:
        self._folder = folder
        self._emit = emit
        self._server: EmbeddedServer | None = None

    @property
    def url(self) -> str:
        """As in REDIS_URL."""
        return self._server.url if self._server is not None else ""

    async def __aenter__(self) -> Self:
        """Use the server, starting it if need be.

        Raises:
            ConfigurationError: There is none for this machine, or the folder cannot be written.
            StoreUnavailable: It does not come up.
        """
        self._server = await asyncio.to_thread(EmbeddedServer.acquire, self._folder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.release)

    async def keep_running(self) -> None:
        """Start it again whenever it has died, until cancelled."""
        server = self._server
        assert server is not None, "enter the watch first"
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            try:
                if await asyncio.to_thread(server.ensure_running):
                    self._emit(ServerRestarted(without_password(server.url)))
            except StoreUnavailable:
                continue  # the store's own watch reports the outage; the next look tries again
