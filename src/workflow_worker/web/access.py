"""The web server's own connection to the store, opened at the first request that needs it, on the server's loop."""

from __future__ import annotations

import asyncio

from workflow_worker.client.client import Client
from workflow_worker.client.opening import OpenStore
from workflow_worker.store.protocol import Store

_PATIENCE_S = 2.0
"""How long a request waits for a Redis that does not answer, before it is told to come again."""


class StoreAccess:
    """One client on one store."""

    def __init__(self, open_store: OpenStore, max_event_bytes: int) -> None:
        self._open_store = open_store
        self._max_event_bytes = max_event_bytes
        self._store: Store | None = None
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    async def client(self) -> Client:
        """The client.

        Raises:
            StoreUnavailable: The service does not know its server yet, or it does not answer.
        """
        async with self._opening:
            if self._client is None:
                self._store = await self._open_store()
                self._client = Client(self._store, max_event_bytes=self._max_event_bytes, patience=_PATIENCE_S)
            return self._client

    async def aclose(self) -> None:
        """Close the connection."""
        if self._store is not None:
            await self._store.aclose()
