"""A producer of orders that any program could be: plain XADD at a steady rate, or publishing with ids."""

from __future__ import annotations

import asyncio
import time

import redis.asyncio
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

EVENTS = "ww:{ww:0}:events"


async def place_orders(url: str, count: int, per_second: float, prefix: str = "o") -> list[str]:
    """XADD `count` orders at a rate; waits out a server that is down, repeating the same id (deduplicated)."""
    orders = [f"{prefix}-{number}" for number in range(count)]
    client = redis.asyncio.from_url(url, socket_timeout=2)
    begin = time.monotonic()
    try:
        for number, order in enumerate(orders):
            delay = begin + number / per_second - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            await _place(client, order)
    finally:
        await client.aclose()
    return orders


def order_fields(order: str, event_id: str) -> dict[FieldT, EncodableT]:
    """The entry that places an order."""
    return {"id": event_id, "type": "order.placed", "subject": order, "data": f'{{"order_id":"{order}"}}'}


async def _place(client: redis.asyncio.Redis, order: str) -> None:
    fields = order_fields(order, f"evt-{order}")
    deadline = time.monotonic() + 30
    while True:
        try:
            await client.xadd(EVENTS, fields)
        except RedisError:
            assert time.monotonic() < deadline, "the server did not come back"
            await asyncio.sleep(0.05)
        else:
            return


async def all_completed(url: str, count: int, within_s: float) -> None:
    """Wait until `count` runs have completed."""
    client = redis.asyncio.from_url(url, socket_timeout=2)
    deadline = time.monotonic() + within_s
    try:
        while True:
            try:
                ended = await client.zcard("ww:{ww:0}:index:ended")
            except RedisError:
                ended = -1
            if ended >= count:
                return
            assert time.monotonic() < deadline, f"{ended} of {count} runs ended within {within_s} s"
            await asyncio.sleep(0.1)
    finally:
        await client.aclose()
