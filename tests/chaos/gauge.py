"""The gauge: what waits in the stream and how much has entered it, all the time, in ``gauge.jsonl``.

It decides nothing. It tells afterwards whether a stretch without work was the producers' silence or the workers'.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.chaos.producers import EVENTS

_EVERY_S = 0.25
_ANSWER_WITHIN_S = 0.5


async def watch(socket: Path, log: Path) -> None:
    """Append a line four times a second until cancelled; nothing while the server does not answer."""
    connection: Any = redis.asyncio.Redis(
        unix_socket_path=str(socket), socket_timeout=_ANSWER_WITHIN_S, retry=Retry(NoBackoff(), 0)
    )
    try:
        with log.open("ab") as lines:
            while True:
                try:
                    stream = await connection.xinfo_stream(EVENTS)
                except (RedisError, OSError):
                    stream = None
                if stream is not None:
                    at, waiting, entered = time.monotonic_ns(), stream["length"], stream["entries-added"]
                    lines.write(msgspec.json.encode({"at": at, "waiting": waiting, "entered": entered}) + b"\n")
                    lines.flush()
                await asyncio.sleep(_EVERY_S)
    finally:
        await connection.aclose()
