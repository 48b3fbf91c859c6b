"""arq on Redis: one async no-op job."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import logging
from typing import Any

import uvloop
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from bench.load import NOTE, command, obey, server_port
from bench.ticks import tick

settings = RedisSettings(port=server_port())


async def noop(_: dict[str, Any], at: int, note: str) -> None:
    """Begin, and nothing else."""
    tick(at)


async def main() -> None:
    """Work, or publish as told."""
    if command()[0] == "work":
        logging.disable(logging.INFO)
        worker = Worker(
            functions=[func(noop, name="noop", keep_result=0)],
            redis_settings=settings,
            max_jobs=100,
            poll_delay=0.01,
            keep_result=0,
            handle_signals=False,
        )
        await worker.async_run()
    else:
        pool = await create_pool(settings)
        await obey(lambda at: pool.enqueue_job("noop", at, NOTE))


if __name__ == "__main__":
    uvloop.run(main())
