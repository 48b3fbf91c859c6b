"""Our publishing program: the commands of a queue (see `bench.load`), and those that only we have."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

import uvloop

from bench.load import NOTE, SPAN_VARIABLE, WARM_UP, command, obey, report, server_url
from bench.ours.app import Nap, Noop, Parcel, Ping, Steps, three_steps
from workflow_worker.client.client import Client

_LOOK_EVERY_S = 0.0002
_WITHIN_S = 30.0
_PREPARED = 20_000
"""Events prepared at once: a million of them in memory would be swapped, not measured."""
_LONE_NAP_S = 0.3


async def main() -> None:
    """Run the command of this program's arguments."""
    wanted, n = command()
    async with Client.connect(server_url()) as client:
        if wanted in _COMMANDS:
            await _COMMANDS[wanted](client, n)
        else:
            kind = Noop if wanted == "callers" else Ping
            await obey(lambda at: client.publish(kind(at, NOTE)))


async def _publish(client: Client, n: int) -> None:
    await _queue(client, (Noop(0, NOTE) for _ in range(n)))


async def _publish_workflows(client: Client, n: int) -> None:
    await _queue(client, (Steps(0, NOTE) for _ in range(n)))


async def _publish_waiting(client: Client, n: int) -> None:
    await _queue(client, (Parcel(f"parcel-{number}", NOTE) for number in range(n)))


async def _publish_naps(client: Client, n: int) -> None:
    """Runs that sleep until the same instant."""
    due = time.time() + float(os.environ[SPAN_VARIABLE])
    await _queue(client, (Nap(due, 0) for _ in range(n)), due=due)


async def _queue(client: Client, events: Iterator[object], **told: object) -> None:
    begun = time.perf_counter()
    while some := list(islice(events, _PREPARED)):
        await client.publish_many(some)
    report(seconds=time.perf_counter() - begun, **told)


async def _lone_naps(client: Client, n: int) -> None:
    """One sleeping run at a time; each stamps when it should have woken."""
    for _ in range(n):
        wall, monotonic = time.time(), time.monotonic_ns()
        await client.publish(Nap(wall + _LONE_NAP_S, monotonic + int(_LONE_NAP_S * 1e9)))
        await asyncio.sleep(_LONE_NAP_S + random.uniform(0.05, 0.1))
    report()


async def _finish(client: Client, n: int) -> None:
    """Start one workflow after the other; each is over when this process sees its result on the server."""
    idle = [await _one_workflow(client, number) for number in range(n + WARM_UP)]
    report(idle_ms=idle[WARM_UP:])


async def _one_workflow(client: Client, number: int) -> float:
    await asyncio.sleep(random.uniform(0.005, 0.02))
    begun = time.perf_counter()
    handle = await client.start(three_steps, Steps(0, NOTE), id=f"idle-{number}")
    while not (await handle.status()).ended:
        if time.perf_counter() - begun > _WITHIN_S:
            raise TimeoutError(f"{handle.ref} did not end within {_WITHIN_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)  # noqa: ASYNC251 - nothing else goes on here, and uvloop has no span below 1 ms
    return (time.perf_counter() - begun) * 1e3


_COMMANDS: dict[str, Callable[[Client, int], Awaitable[None]]] = {
    "publish": _publish,
    "publish-workflows": _publish_workflows,
    "publish-waiting": _publish_waiting,
    "publish-naps": _publish_naps,
    "lone-naps": _lone_naps,
    "finish": _finish,
}


if __name__ == "__main__":
    uvloop.run(main())
