"""A producer in a process of its own: ``python -m tests.chaos.producers``. Publishes its lane of the plan, in order.

What was acknowledged is written to the receipts file and synced to the disk before the next event goes out; so a
producer that was killed goes on where its receipts end, and publishes what it may have sent already once more, with the
same ids. Three ways: the client, a plain XADD with an id, and a plain XADD without one, which nobody may repeat when
its reply is lost: such an event promises nothing, and whether it is there is not asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.chaos.workload import Planned, plan
from tests.support.checker_facts import Promise, read_promises
from workflow_worker import Client, Event, Settings
from workflow_worker.model.exceptions import WorkflowWorkerError
from workflow_worker.worker.reality import real_environment

EVENTS = "ww:{ww:0}:events"
_MOST_AT_ONCE = 60
_BARE_AT_ONCE = 10
_LOOK_EVERY = 50
"""Events between two looks at the backlog."""
_REPEATED_SHARE = 0.05
_GIVE_UP_S = 60.0
_WORTH_A_LINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What one producer is to do."""

    url: str
    receipts: Path
    seed: int
    events: int
    slow: bool
    lanes: int
    lane: int
    rate: float
    backlog: int
    began: float
    """When the first producer of the lane began (monotonic seconds): who comes after a dead one makes up for it."""


class Receipts:
    """What was acknowledged, on the disk. `tried` are the events without an id that were sent."""

    def __init__(self, path: Path) -> None:
        self.acknowledged = {promise.n for promise in read_promises([path])}
        self._intents = path.with_suffix(".tried")
        self.tried = {int(line) for line in self._intents.read_text().split()} if self._intents.exists() else set[int]()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if self.acknowledged:
            os.write(self._file, b"\n")  # whatever piece of a line a killed producer left ends here

    def add(self, promises: list[Promise]) -> None:
        """These were acknowledged."""
        os.write(self._file, b"".join(msgspec.json.encode(promise) + b"\n" for promise in promises))
        os.fdatasync(self._file)
        self.acknowledged.update(promise.n for promise in promises)

    def intend(self, n: int) -> None:
        """This one is about to be sent, and cannot be sent again."""
        with self._intents.open("a") as intents:
            intents.write(f"{n}\n")


class Producer:
    """Publishes one lane."""

    def __init__(self, order: Order, client: Client, connection: redis.asyncio.Redis) -> None:
        self._order = order
        self._client = client
        self._connection: Any = connection
        self._receipts = Receipts(order.receipts)
        self._chance = random.Random(f"{order.seed}/{order.lane}/{len(self._receipts.acknowledged)}")
        self._sent = len(self._receipts.acknowledged)
        self._looked_at = self._sent - _LOOK_EVERY
        self.repeated = 0

    async def run(self) -> None:
        """Publish what is not acknowledged yet, to the end of the plan."""
        order, receipts = self._order, self._receipts
        batch, bare = list[Planned](), list[Planned]()
        wanted = self._chance.randint(1, _MOST_AT_ONCE)
        for planned in plan(order.seed, order.events, order.slow):
            if planned.lane_of(order.lanes) != order.lane or planned.promise.n in receipts.acknowledged:
                continue
            if planned.promise.n in receipts.tried:
                continue
            if planned.by == "bare":  # about no subject: whether it comes before the others is all the same
                bare.append(planned)
                if len(bare) == _BARE_AT_ONCE:
                    await self._send(bare)
                    bare = []
                continue
            if batch and (len(batch) == wanted or planned.by != batch[0].by):
                await self._send(batch)
                batch, wanted = [], self._chance.randint(1, _MOST_AT_ONCE)
            batch.append(planned)
        await self._send(batch)
        await self._send(bare)

    async def _send(self, batch: list[Planned]) -> None:
        if not batch:
            return
        await self._wait_for_room(len(batch))
        match batch[0].by:
            case "bare":
                await self._send_bare(batch)
            case "xadd":
                await self._insist(lambda: self._add(batch))
                self._receipts.add([planned.promise for planned in batch])
            case _:
                await self._insist(lambda: self._publish(batch))
                self._receipts.add([planned.promise for planned in batch])
        if batch[0].by != "bare" and self._chance.random() < _REPEATED_SHARE:
            # The same event once more, also the other way than before; what is no event only as it came.
            again = self._publish if all(planned.promise.fate != "dead" for planned in batch) else self._add
            await self._insist(lambda: again(batch))
            self.repeated += len(batch)
        self._sent += len(batch)

    async def _wait_for_room(self, count: int) -> None:
        """Keep to the rate, and to the backlog that the workers may have."""
        order = self._order
        delay = order.began + (self._sent + count) / order.rate - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        if self._sent + count - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = self._sent + count
        while await self._insist(lambda: self._connection.xlen(EVENTS)) > order.backlog:  # noqa: ASYNC110 - Redis has no event
            await asyncio.sleep(0.1)

    async def _insist(self, request: Any) -> Any:
        began = time.monotonic()
        while True:
            try:
                answer = await request()
            except (RedisError, OSError, WorkflowWorkerError) as error:
                if time.monotonic() > began + _GIVE_UP_S:
                    raise
                if isinstance(error, RedisError) and _is_refused_for_good(error):
                    raise
                _say(f"{type(error).__name__} after {time.monotonic() - began:.2f} s: {error}")
                await asyncio.sleep(0.05 + self._chance.random() * 0.1)
                continue
            if time.monotonic() > began + _WORTH_A_LINE_S:
                _say(f"done after {time.monotonic() - began:.2f} s")
            return answer

    async def _publish(self, batch: list[Planned]) -> None:
        await self._client.publish_many(
            [
                Event(id=planned.promise.id, type=planned.type, subject=planned.subject, data=planned.data)
                for planned in batch
            ]
        )

    async def _add(self, batch: list[Planned]) -> None:
        async with self._connection.pipeline(transaction=False) as pipe:
            for planned in batch:
                pipe.xadd(EVENTS, planned.fields)
            await pipe.execute()

    async def _send_bare(self, batch: list[Planned]) -> None:
        for planned in batch:
            self._receipts.intend(planned.promise.n)
            try:
                entry = cast("bytes", await self._connection.xadd(EVENTS, planned.fields)).decode()
            except (RedisError, OSError):
                continue  # nobody knows whether it was added: no promise
            known = msgspec.structs.replace(planned.promise, id=entry, runs=(f"one:{entry}",))
            self._receipts.add([known])


def _say(what: str) -> None:
    """One line for whoever asks later where the time went."""
    print(f"{time.monotonic():.2f} {what[:200]}", flush=True)


def _is_refused_for_good(error: RedisError) -> bool:
    return str(error).startswith(("WRONGTYPE", "NOAUTH", "NOPERM"))


async def _main(order: Order) -> int:
    _say("begins")
    connection = redis.asyncio.from_url(
        order.url, socket_timeout=3, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    settings = Settings(redis_url=order.url)
    environment = real_environment(os.environ.get("WW_FAULT"))
    async with Client.from_settings(settings, environment=environment, patience=5) as client:
        producer = Producer(order, client, connection)
        try:
            await producer.run()
        finally:
            await connection.aclose()
    print(f"repeated {producer.repeated}", flush=True)
    return 0


def arguments_of(order: Order) -> list[str]:
    """The command that starts this producer."""
    words = [sys.executable, "-m", "tests.chaos.producers"]
    for name in Order.__dataclass_fields__:
        value = getattr(order, name)
        words += [f"--{name}", str(int(value) if isinstance(value, bool) else value)]
    return words


def _parse() -> Order:
    parser = argparse.ArgumentParser()
    for name in ("seed", "events", "lanes", "lane", "backlog", "slow"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--receipts", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--began", type=float, required=True)
    found = vars(parser.parse_args())
    found["slow"] = bool(found["slow"])
    return Order(**found)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_parse())))
