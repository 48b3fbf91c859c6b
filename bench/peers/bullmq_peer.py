"""BullMQ's Python client and worker: one async no-op job."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from bullmq import Queue, Worker

from bench.load import NOTE, command, obey, server_port
from bench.ticks import tick

CONNECTION = {"connection": {"host": "127.0.0.1", "port": server_port()}}
OPTIONS = {"removeOnComplete": True}
CONCURRENCY = 10
BATCH = 500


async def noop(job: Any, _: str) -> None:
    """Begin, and nothing else."""
    tick(job.data["at"])


async def main() -> None:
    """Work, or publish as told."""
    if command()[0] == "work":
        worker = Worker("bench", noop, {**CONNECTION, "concurrency": CONCURRENCY})
        await asyncio.Event().wait()
        await worker.close()
    queue = Queue("bench", CONNECTION)

    async def publish_many(n: int) -> None:
        for done in range(0, n, BATCH):
            await queue.addBulk([_job(0) for _ in range(min(BATCH, n - done))])

    await obey(lambda at: queue.add("noop", {"at": at, "note": NOTE}, OPTIONS), publish_many)
    await queue.close()


def _job(at: int) -> dict[str, Any]:
    return {"name": "noop", "data": {"at": at, "note": NOTE}, "opts": OPTIONS}


if __name__ == "__main__":
    uvloop.run(main())
