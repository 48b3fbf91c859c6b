"""What every contestant's program has in common: its command line, its payload, its ways of publishing.

A program is started as ``<program> <command> <n>`` and prints one JSON object as its last line. A queue's commands:

- ``publish``: queue n events as fast as it can, in bulk where it has that;
- ``callers``: n events, one by one, by `CALLERS` callers at once;
- ``latency``: n stamped events, one at a time, to an idle worker;
- ``first``: queue one event.

Standard library only: this module is imported in the peers' environments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.ticks import VARIABLE, tally

URL_VARIABLE = "BENCH_URL"
SPAN_VARIABLE = "BENCH_SPAN_S"
"""How long the runs of ``publish-naps`` shall sleep, in seconds."""
NOTE = "x" * 40  # with its stamp and the JSON around them: about 64 bytes a payload
WARM_UP = 20
CALLERS = 100
_PATIENCE_S = 30.0


def server_url() -> str:
    """Where the server of this run listens."""
    return os.environ[URL_VARIABLE]


def server_port() -> int:
    """Its port, on the loopback address."""
    return int(server_url().rpartition(":")[2].partition("/")[0])


def command() -> tuple[str, int]:
    """The command and the number that this program was called with."""
    return sys.argv[1], int(sys.argv[2])


def report(**figures: object) -> None:
    """Hand figures back to the harness."""
    print(json.dumps(figures), flush=True)


async def obey(
    publish: Callable[[int], Awaitable[object]], publish_many: Callable[[int], Awaitable[object]] | None = None
) -> None:
    """Do what this program was called for, with a queue that publishes asynchronously.

    Args:
        publish: Publishes one event with this stamp (0: none).
        publish_many: Publishes so many at once; without it `CALLERS` callers publish one by one.
    """
    wanted, n = command()
    if wanted == "latency":
        await pace_async(publish, n)
        report()
        return
    begun = time.perf_counter()
    if wanted == "publish" and publish_many is not None:
        await publish_many(n)
    elif wanted == "first":
        await publish(0)
    else:
        await from_callers(publish, n)
    report(seconds=time.perf_counter() - begun)


def obey_sync(publish: Callable[[int], object]) -> None:
    """`obey` for a blocking client."""
    wanted, n = command()
    if wanted == "latency":
        pace_sync(publish, n)
        report()
        return
    begun = time.perf_counter()
    for _ in range(1 if wanted == "first" else n):
        publish(0)
    report(seconds=time.perf_counter() - begun)


async def from_callers(publish: Callable[[int], Awaitable[object]], n: int) -> None:
    """Publish `n` events from `CALLERS` callers, each waiting for its answer before the next."""
    left = iter(range(n))

    async def caller() -> None:
        for _ in left:
            await publish(0)

    await asyncio.gather(*[caller() for _ in range(min(CALLERS, n))])


async def pace_async(publish: Callable[[int], Awaitable[object]], n: int) -> None:
    """Publish `n` stamped events to an idle worker, each after the one before has begun and a random pause.

    The first `WARM_UP` ones carry no stamp, so they are not measured.

    Raises:
        TimeoutError: An event did not begin in time.
    """
    for number in range(n + WARM_UP):
        await publish(0 if number < WARM_UP else time.monotonic_ns())
        deadline = time.monotonic() + _PATIENCE_S
        while not _begun(number + 1, deadline):  # noqa: ASYNC110 - the tick comes from another process
            await asyncio.sleep(0.001)
        await asyncio.sleep(_pause())


def pace_sync(publish: Callable[[int], object], n: int) -> None:
    """`pace_async` for a blocking client.

    Raises:
        TimeoutError: An event did not begin in time.
    """
    for number in range(n + WARM_UP):
        publish(0 if number < WARM_UP else time.monotonic_ns())
        deadline = time.monotonic() + _PATIENCE_S
        while not _begun(number + 1, deadline):
            time.sleep(0.001)
        time.sleep(_pause())


def _begun(count: int, deadline: float) -> bool:
    seen = tally(Path(os.environ[VARIABLE])).count
    if seen < count and time.monotonic() > deadline:
        raise TimeoutError(f"event {count} did not begin within {_PATIENCE_S} s")
    return seen >= count


def _pause() -> float:
    # Random, so that no contestant's polling interval is met in step.
    return random.uniform(0.005, 0.02)
