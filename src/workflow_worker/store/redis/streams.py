"""Redis Streams: the consumer group that wakes, and the channel of hints. Nothing is decided here.

One entry wakes one sleeper: `XREADGROUP ... NOACK` hands each entry of `events` and `ready` to one of the blocked
readers and keeps nothing pending. The sleeper then ingests, and only the ingest takes entries. All readers share one
consumer name, so that none leaks. https://redis.io/docs/latest/commands/xreadgroup/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.redis.failures import refuses_writes, translate_at_work
from workflow_worker.store.redis.link import BlockingClient, Client

GROUP = "workers"
CONSUMER = "w"
_SLACK_S = 2.0


class Wakening:
    """Sleeps until there may be work. Its client is for blocking reads alone."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._streams = (prefix + "events", prefix + "ready")

    async def sleep(self, timeout_ms: int) -> bool:
        """True when an entry came; False after `timeout_ms`.

        Raises:
            StoreUnavailable: The server did not answer 2 s after the block was over, or is not there.
        """
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_ms / 1000 + _SLACK_S):
                return _brought(await self._read_until(deadline))
        except (RedisError, OSError, TimeoutError) as error:
            if not refuses_writes(error) and not isinstance(error, NoPermissionError):
                raise translate_at_work(error) from error
        # Reading and making groups are writes: where they are refused, the caller polls by ingest.
        await asyncio.sleep(deadline - asyncio.get_running_loop().time())
        return False

    async def _read_until(self, deadline: float) -> Any:
        for attempt in range(2):
            left_ms = max(1, int((deadline - asyncio.get_running_loop().time()) * 1000))
            try:
                return await self._read(left_ms)
            except ResponseError as error:
                if "NOGROUP" not in str(error) or attempt == 1:
                    raise
            await self._make_groups()
        return None

    async def _read(self, block_ms: int) -> Any:
        return await self._client.execute_command(
            *("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", 1, "BLOCK", block_ms, "NOACK"),
            *("STREAMS", *self._streams, ">", ">"),
        )

    async def _make_groups(self) -> None:
        """From the beginning, so that what is there already wakes somebody."""
        for stream in self._streams:
            try:
                await self._client.execute_command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):  # another worker was quicker
                    raise


def _brought(reply: Any) -> bool:
    """Whether any stream in the reply brought an entry: an empty list is no wake-up (Redis 7.0.15 sends one)."""
    if not reply:
        return False
    pairs: Any = dict(reply)
    return any(pairs.values())


async def listen(client: BlockingClient, prefix: str, session: SessionId) -> AsyncIterator[RunRef]:
    """Runs named on the session's channel, as they are published.

    Raises:
        StoreUnavailable: The connection is gone; hints until the next call are lost, `renew` tells the same.
    """
    try:
        async with aclosing(client.listen(f"{prefix}hint:{session}")) as hints:
            async for ref in hints:
                yield RunRef(ref.decode())
    except (RedisError, OSError) as error:
        raise translate_at_work(error) from error
