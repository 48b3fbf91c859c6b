"""The probe: a producer that publishes a small event all the time, past all proxies, and never gives one up.

So after a fault there is always something new to take in, and it is known when the first event was acknowledged that
was published after the server was back. Its events carry promises like all others.
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

from tests.chaos.measures import Probed
from tests.chaos.producers import EVENTS, Receipts
from tests.support.checker_facts import Promise

EVERY_S = 0.05
FIRST_NUMBER = 1_000_000_000
"""Its events are numbered from here: those of the plan have lower numbers."""
_ANSWER_WITHIN_S = 1.0
_AGAIN_S = 0.02


class Probe:
    """Publishes until it is stopped; what was acknowledged is in its receipts and in `probed`."""

    def __init__(self, socket: Path, receipts: Path) -> None:
        self._connection: Any = redis.asyncio.Redis(
            unix_socket_path=str(socket),
            socket_timeout=_ANSWER_WITHIN_S,
            socket_connect_timeout=_ANSWER_WITHIN_S,
            retry=Retry(NoBackoff(), 0),
        )
        self.receipts = receipts
        self._stopped = False
        self.probed: list[Probed] = []

    def stop(self) -> None:
        """End behind the event that is under way, which is not given up."""
        self._stopped = True

    async def run(self) -> None:
        """Publish one event after the other, each until it is acknowledged."""
        receipts = Receipts(self.receipts)
        try:
            while not self._stopped:
                n = FIRST_NUMBER + len(self.probed)
                event_id = f"probe-{n}"
                sent_at = await self._insist(n, event_id)
                promise = Promise(n, event_id, "probe", "starts", runs=(f"one:{event_id}",), steps={"work": 1})
                receipts.add([promise])
                self.probed.append(Probed(promise.runs[0], sent_at, time.monotonic_ns()))
                await asyncio.sleep(EVERY_S)
        finally:
            await self._connection.aclose()

    async def _insist(self, n: int, event_id: str) -> int:
        """Returns when it was sent for the first time (monotonic nanoseconds)."""
        fields: dict[str, str | bytes] = {"id": event_id, "type": "chaos.one", "data": msgspec.json.encode({"n": n})}
        sent_at = time.monotonic_ns()
        while True:
            try:
                await self._connection.xadd(EVENTS, fields)
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN_S)
            else:
                return sent_at
