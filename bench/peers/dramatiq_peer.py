"""dramatiq on Redis: one sync no-op actor, its faster kind."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.load import NOTE, obey_sync, server_url
from bench.ticks import tick

broker = RedisBroker(url=server_url())
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=3)
def noop(at: int, note: str) -> None:
    """Begin, and nothing else."""
    tick(at)


if __name__ == "__main__":
    obey_sync(lambda at: noop.send(at, NOTE))
