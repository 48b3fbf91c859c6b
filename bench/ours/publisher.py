"""Our publishing program, with the commands that `bench.scenarios` calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from bench.load import NOTE, WARM_UP, command, pace_async, report, server_url
from bench.ours.app import Noop, Parcel, Ping, Steps, three_steps
from workflow_worker.client.client import Client

_LOOK_EVERY_S = 0.0005
_WITHIN_S = 30.0


async def main() -> None:
    """Run the command of this program's arguments."""
    wanted, n = command()
    async with Client.connect(server_url()) as client:
        await _COMMANDS[wanted](client, n)


async def _publish(client: Client, n: int) -> None:
    await _queue(client, [Noop(0, NOTE)] * n)


async def _publish_workflows(client: Client, n: int) -> None:
    await _queue(client, [Steps(0, NOTE)] * n)


async def _publish_waiting(client: Client, n: int) -> None:
    await _queue(client, [Parcel(f"parcel-{number}", NOTE) for number in range(n)])


async def _queue(client: Client, events: Sequence[object]) -> None:
    begun = time.perf_counter()
    await client.publish_many(events)
    report(seconds=time.perf_counter() - begun)


async def _latency(client: Client, n: int) -> None:
    await pace_async(lambda at: client.publish(Ping(at, NOTE)), n)
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
        await asyncio.sleep(_LOOK_EVERY_S)
    return (time.perf_counter() - begun) * 1e3


_COMMANDS: dict[str, Callable[[Client, int], Awaitable[None]]] = {
    "publish": _publish,
    "publish-workflows": _publish_workflows,
    "publish-waiting": _publish_waiting,
    "latency": _latency,
    "finish": _finish,
}


if __name__ == "__main__":
    uvloop.run(main())
