"""From a command to the store: REDIS_URL, or the embedded server of the working folder."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from workflow_worker.client.client import Client
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.settings import Settings, without_password
from workflow_worker.store.redis.embedded import FOLDER, EmbeddedServer

_PATIENCE_S = 3.0
"""How long a person at a terminal waits for a server that does not answer."""


@asynccontextmanager
async def connected(settings: Settings, *, start: bool = False) -> AsyncGenerator[Client]:
    """A client for this command, closed at the end.

    Without REDIS_URL, a folder that has an embedded server's data has that server started if it does not run, and
    stopped again by its last user. `start` makes one also where there was none.

    Raises:
        StoreUnavailable: No server answers.
        ConfigurationError: There is no embedded server for this machine.
    """
    if settings.redis_url is not None:
        async with _client(settings) as client:
            yield client
        return
    server = await asyncio.to_thread(_embedded, start)
    try:
        async with _client(replace(settings, redis_url=server.url)) as client:
            yield client
    finally:
        await asyncio.to_thread(server.release)


def _embedded(start: bool) -> EmbeddedServer:
    if start or Path(FOLDER, "data").is_dir():
        return EmbeddedServer.acquire(Path())
    return EmbeddedServer.attach(Path())


@asynccontextmanager
async def _client(settings: Settings) -> AsyncGenerator[Client]:
    try:
        async with Client.from_settings(settings, patience=_PATIENCE_S) as client:
            yield client
    except StoreUnavailable as error:
        where = f"REDIS_URL={without_password(settings.redis_url or '')}"
        raise StoreUnavailable(f"{error}; the server is {where}") from error


def operator() -> str:
    """Who acts, for the history: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
