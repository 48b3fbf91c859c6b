"""Redis Streams: the consumer group that wakes, and the channel of hints. Nothing is decided here.

One entry wakes one sleeper: `XREADGROUP ... NOACK` hands each entry of `events` and `ready` to one of the blocked
readers and keeps nothing pending. The sleeper then ingests, and only the ingest takes entries. All readers share one
consumer name, so that none leaks. https://redis.io/docs/latest/commands/xreadgroup/

A server reads no further command of a connection that is blocked, and goes on with what has come behind as soon as it
is not: so the ingest of an idle worker lies there already when an entry wakes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.redis.errors import ErrorReply, NoPermissionError, RedisError
from workflow_worker.store.redis.failures import refuses_writes, translate_at_work
from workflow_worker.store.redis.link import BlockingClient
from workflow_worker.store.redis.replies import Argument
from workflow_worker.store.transitions import Ingest

GROUP = "workers"
CONSUMER = "w"
_SLACK_S = 2.0


class Wakening:
    """Sleeps until there may be work. Its client is for blocking reads alone."""

    def __init__(self, client: BlockingClient, prefix: str, ingest: Callable[[Ingest], tuple[Argument, ...]]) -> None:
        self._client = client
        self._streams = (prefix + "events", prefix + "ready")
        self._ingest = ingest
        self._works = False

    async def sleep(self, timeout_ms: int, then: asyncio.Future[Ingest]) -> bool | list[Any]:
        """True when an entry came, False after `timeout_ms`; or the server's reply to the ingest that `then` brought,
        made a command by `ingest`, which it executed at that moment.

        Raises:
            StoreUnavailable: The server did not answer 2 s after the block was over, or is not there.
        """
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_ms / 1000 + _SLACK_S):
                return await self._read_until(deadline, then)
        except (RedisError, OSError, TimeoutError) as error:
            self._works = False
            if not refuses_writes(error) and not isinstance(error, NoPermissionError):
                raise translate_at_work(error) from error
        # Reading and making groups are writes: where they are refused, the caller polls by ingest.
        await asyncio.sleep(deadline - asyncio.get_running_loop().time())
        return False

    async def _read_until(self, deadline: float, then: asyncio.Future[Ingest]) -> bool | list[Any]:
        for attempt in range(2):
            left_ms = max(1, int((deadline - asyncio.get_running_loop().time()) * 1000))
            # Behind a read that is refused at once an ingest would be executed at once: only where reads have worked.
            came, ingested = await self._read(left_ms, then if self._works else then.get_loop().create_future())
            self._works = not isinstance(came, RedisError)
            if isinstance(ingested, list):
                return cast("list[Any]", ingested)
            if self._works:
                return _brought(came)
            if "NOGROUP" not in str(came) or attempt == 1:
                raise came
            await self._make_groups()
        return False

    async def _read(self, block_ms: int, then: asyncio.Future[Ingest]) -> tuple[Any, Any]:
        command = (
            *("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", 1, "BLOCK", block_ms, "NOACK"),
            *("STREAMS", *self._streams, ">", ">"),
        )
        return await self._client.execute_followed(command, then, self._ingest)

    async def _make_groups(self) -> None:
        """From the beginning, so that what is there already wakes somebody."""
        for stream in self._streams:
            try:
                await self._client.execute_command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            except ErrorReply as error:
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
