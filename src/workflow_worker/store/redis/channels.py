"""Listening to a channel, over a connection that tells a quiet channel from a server that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from workflow_worker.store.redis.errors import ConnectionFailed
from workflow_worker.store.redis.replies import pack
from workflow_worker.store.redis.wire import Wire

SUBSCRIBED = b""
"""The first thing that `listen` yields: from now on nothing is missed."""


async def listen(
    dial: Callable[[Callable[[bytes], None]], Awaitable[Wire]], channel: str, *, ask_every_s: float, within_s: float
) -> AsyncGenerator[bytes]:
    """`SUBSCRIBED`, then every message of the channel.

    Args:
        dial: Makes a connection that hands the messages which it receives to the given function.
        channel: Its name.
        ask_every_s: A subscribed connection on which nothing comes looks like one whose server has vanished: so it is
            asked so often, in seconds.
        within_s: Deadline of its answer.

    Raises:
        ConnectionFailed, NoAnswer, OSError: The connection is gone, or its server.
    """
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
    wire = await dial(arrived.put_nowait)
    wire.closed.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        await wire.send(pack(("SUBSCRIBE", channel)), within_s)
        yield SUBSCRIBED
        while True:
            try:
                async with asyncio.timeout(ask_every_s):
                    message = await arrived.get()
            except TimeoutError:
                await wire.send(pack(("PING",)), within_s)
                continue
            if message is None:
                raise ConnectionFailed("the connection that listens was lost")
            yield message
    finally:
        wire.abort("nobody listens any more")
