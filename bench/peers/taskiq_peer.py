"""taskiq on Redis Streams: one async no-op task."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import uvloop
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from bench.load import NOTE, obey, server_url
from bench.ticks import tick

broker = RedisStreamBroker(url=server_url(), consumer_id="0", xread_count=100).with_serializer(ORJSONSerializer())


@broker.task(task_name="noop")
async def noop(at: int, note: str) -> None:
    """Begin, and nothing else."""
    tick(at)


async def main() -> None:
    """Publish as told."""
    await broker.startup()
    await obey(lambda at: noop.kiq(at, NOTE))
    await broker.shutdown()


if __name__ == "__main__":
    uvloop.run(main())
