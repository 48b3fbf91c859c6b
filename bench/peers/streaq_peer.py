"""streaq on Redis Streams: one async no-op task."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import uvloop
from streaq import Worker

from bench.load import NOTE, command, obey, server_url
from bench.ticks import tick

BATCH = 500
worker = Worker(redis_url=server_url(), concurrency=8, anyio_kwargs={"use_uvloop": True})


@worker.task(ttl=0, silent=True, timeout=None)
async def noop(at: int, note: str) -> None:
    """Begin, and nothing else."""
    tick(at)


async def publish(at: int) -> None:
    """One task."""
    await noop.enqueue(at, NOTE)


async def publish_many(n: int) -> None:
    """Many tasks, `BATCH` in one call."""
    for done in range(0, n, BATCH):
        await worker.enqueue_many([noop.enqueue(0, NOTE) for _ in range(min(BATCH, n - done))])


async def main() -> None:
    """Publish as told."""
    async with worker:
        await obey(publish, publish_many)


if __name__ == "__main__":
    if command()[0] == "work":
        worker.run_sync()
    else:
        uvloop.run(main())
