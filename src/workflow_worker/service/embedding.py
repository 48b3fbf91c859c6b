"""`EmbeddedWatch`: the embedded server of development mode, kept running while the service does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.settings import without_password
from workflow_worker.service.facts import EmitAny, ServerRestarted
from workflow_worker.store.redis.embedded import WATCH_INTERVAL_S, EmbeddedServer


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
