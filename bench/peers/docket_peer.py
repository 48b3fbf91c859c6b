"""docket on Redis Streams: one async no-op task."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import logging
from datetime import timedelta

import uvloop
from docket import Docket, Worker

from bench.load import NOTE, command, obey, server_url
from bench.ticks import tick

CONCURRENCY = 80  # above about 100 its pool of connections is exhausted again and again
CHECK_EVERY = timedelta(milliseconds=1)


async def noop(at: int, note: str) -> None:
    """Begin, and nothing else."""
    tick(at)


async def main() -> None:
    """Work, or publish as told."""
    logging.disable(logging.INFO)
    async with Docket(name="bench", url=server_url(), execution_ttl=timedelta(0)) as docket:
        docket.register(noop)
        if command()[0] == "work":
            async with Worker(docket, concurrency=CONCURRENCY, minimum_check_interval=CHECK_EVERY) as worker:
                await worker.run_forever()
        else:
            await obey(lambda at: docket.add(noop)(at, NOTE))


if __name__ == "__main__":
    uvloop.run(main())
