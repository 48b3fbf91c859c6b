"""The yardstick: how fast a bare client moves entries here and now.

redis-py's asyncio client with hiredis on uvloop, ``XREADGROUP COUNT 10`` and one ``XACK`` of the ten, nothing else. It
is run before every measurement, because machines are shared: a rate divided by the yardstick of its own minute compares
better than the rate.
"""

from __future__ import annotations

import time
from typing import Any, cast

import redis.asyncio
import uvloop

from bench.load import NOTE

_STREAM, _GROUP = "yardstick", "readers"


def yardstick(url: str, entries: int) -> float:
    """Entries a second, for `entries` queued first."""
    return uvloop.run(_read_all(url, entries))


async def _read_all(url: str, entries: int) -> float:
    # redis-py's annotations leave its keyword arguments and the replies to stream commands unknown.
    calls = cast("Any", redis.asyncio.Redis).from_url(url)
    try:
        await calls.delete(_STREAM)
        await calls.xgroup_create(_STREAM, _GROUP, "0", mkstream=True)
        for begin in range(0, entries, 500):
            pipeline = calls.pipeline(transaction=False)
            for _ in range(min(500, entries - begin)):
                pipeline.xadd(_STREAM, {"data": '{"at":0,"note":"' + NOTE + '"}'})
            await pipeline.execute()
        done = 0
        begun = time.perf_counter()
        while done < entries:
            reply = await calls.xreadgroup(_GROUP, "reader", {_STREAM: ">"}, count=10)
            found = _ids(reply)
            await calls.xack(_STREAM, _GROUP, *found)
            done += len(found)
        return entries / (time.perf_counter() - begun)
    finally:
        await calls.delete(_STREAM)
        await calls.aclose()


def _ids(reply: Any) -> list[bytes]:
    # A list of (stream, entries) in RESP2, a mapping of stream to a list of lists of entries in RESP3.
    entries: list[Any] = next(iter(reply.values())) if hasattr(reply, "values") else reply[0][1]
    return [entry[0] for entry in cast("list[list[bytes]]", entries[0] if isinstance(entries[0], list) else entries)]
