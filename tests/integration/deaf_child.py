"""A worker process whose ingest is never answered while the file of DEAF_WHILE exists: for `test_service.py`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from workflow_worker.client.opening import OpenStore, store_opener
from workflow_worker.model.settings import Settings
from workflow_worker.service import child
from workflow_worker.store.protocol import Store
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Ingest, IngestOutcome

DEAF_WHILE = Path(os.environ["DEAF_WHILE"])


def is_deaf() -> bool:
    """Whether the file is there."""
    return DEAF_WHILE.exists()


async def ingest(self: RedisStore, request: Ingest) -> IngestOutcome:
    """Never answered while the file is there; everything else goes on."""
    if is_deaf():
        await asyncio.get_running_loop().create_future()
    return await RedisStore.ingest(self, request)


def opener(settings: Settings) -> OpenStore:
    """As the worker's own, with that verb."""
    open_store = store_opener(settings)
    deaf = type("DeafStore", (RedisStore,), {"ingest": ingest})

    async def open_deaf() -> Store:
        store = await open_store()
        store.__class__ = deaf
        return store

    return open_deaf


if __name__ == "__main__":
    child.store_opener = opener
    sys.exit(child.main())
