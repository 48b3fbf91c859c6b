"""dramatiq on Redis: one sync no-op actor, its faster kind."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.load import NOTE, command, pace_sync, publish_sync, report, server_url
from bench.ticks import tick

broker = RedisBroker(url=server_url())
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=3)
def noop(at: int, note: str) -> None:
    """Begin, and nothing else."""
    tick(at)


def main() -> None:
    """``publish N``: queue N messages.  ``latency N``: one at a time to an idle worker."""
    wanted, n = command()
    if wanted == "publish":
        report(seconds=publish_sync(lambda: noop.send(0, NOTE), n))
    else:
        pace_sync(lambda at: noop.send(at, NOTE), n)
        report()


if __name__ == "__main__":
    main()
