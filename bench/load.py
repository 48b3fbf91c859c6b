"""What every contestant's program has in common: its command line, its payload, its paced one-at-a-time publishing.

A program is run as ``python -m <module> <command> <n>`` and prints one JSON object as its last line. Standard library
only: this module is imported in the peers' environments.
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
NOTE = "x" * 40  # with its stamp and the JSON around them: about 64 bytes a payload
WARM_UP = 20
_PATIENCE_S = 30.0


def server_url() -> str:
    """Where the server of this run listens."""
    return os.environ[URL_VARIABLE]


def command() -> tuple[str, int]:
    """The command and the number that this program was called with."""
    return sys.argv[1], int(sys.argv[2])


def report(**figures: object) -> None:
    """Hand figures back to the harness."""
    print(json.dumps(figures), flush=True)


async def publish_async(publish: Callable[[], Awaitable[object]], n: int, at_once: int = 100) -> float:
    """Publish `n` times, `at_once` in flight; returns the seconds it took."""
    begun = time.perf_counter()
    for done in range(0, n, at_once):
        await asyncio.gather(*[publish() for _ in range(min(at_once, n - done))])
    return time.perf_counter() - begun


def publish_sync(publish: Callable[[], object], n: int) -> float:
    """Publish `n` times in a row; returns the seconds it took."""
    begun = time.perf_counter()
    for _ in range(n):
        publish()
    return time.perf_counter() - begun


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
