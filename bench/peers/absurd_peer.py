"""absurd on PostgreSQL: tasks of three no-op steps, each checkpointed, queued first, then worked off by one process."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from absurd_sdk import AsyncAbsurd

from bench.load import command
from bench.peers.engine import IDLE, running_postgres, tell

QUEUE = "bench"
AT_ONCE = 16
POLL_EVERY_S = 0.01
WITHIN_S = 90.0


class Tasks:
    """The app, its worker, and what has been done."""

    def __init__(self, address: str) -> None:
        self.client = AsyncAbsurd(address, queue_name=QUEUE)
        self.app = AsyncAbsurd(address, queue_name=QUEUE)
        self.done = 0
        self.last = 0.0
        self.first = 0.0
        self.app.register_task("three_steps")(self.three_steps)

    async def three_steps(self, params: dict[str, Any], context: Any) -> None:
        """Three steps in a row."""
        self.first = self.first or time.perf_counter()

        async def step() -> int:
            return params["number"]

        for name in ("a", "b", "c"):
            await context.step(name, step)
        self.done += 1
        self.last = time.perf_counter()

    async def wait(self, n: int) -> None:
        """Until `n` are done."""
        async with asyncio.timeout(WITHIN_S):
            while self.done < n:  # noqa: ASYNC110 - the worker runs in this loop and has no event for us
                await asyncio.sleep(0.001)


async def main(address: str) -> None:
    """``workflows N``: N tasks queued first, then some one at a time."""
    _, n = command()
    tasks = Tasks(address)
    await tasks.client.create_queue(QUEUE)
    for number in range(n):
        await tasks.client.spawn("three_steps", {"number": number}, queue=QUEUE)
    worker = asyncio.create_task(
        tasks.app.start_worker(concurrency=AT_ONCE, batch_size=AT_ONCE, poll_interval=POLL_EVERY_S)
    )
    await tasks.wait(n)
    rate = n / (tasks.last - tasks.first)
    idle: list[float] = []
    for number in range(min(IDLE, n)):
        begun, before = time.perf_counter(), tasks.done
        await tasks.client.spawn("three_steps", {"number": number}, queue=QUEUE)
        await tasks.wait(before + 1)
        idle.append((tasks.last - begun) * 1e3)
    tell(rate, idle)
    tasks.app.stop_worker()
    await worker


if __name__ == "__main__":
    with running_postgres() as database:
        program = Path(os.environ["BENCH_HOME"]) / "bin" / "absurdctl"
        subprocess.run([str(program), "init", "-d", database], check=True, capture_output=True)
        asyncio.run(main(database))
