"""From REDIS_URL to connections: the one place that knows the topology.

They are our own: redis-py costs 60 µs and a task for each awaited command where `wire` costs 5, repeats commands by
itself unless told not to (its default policy put one ``xadd`` into the stream eleven times through a lossy link), and
its default deadline cuts longer blocking reads. Here nothing is repeated, and every deadline is explicit. Who wants to
repeat does it above the store, with equal arguments.
"""

from __future__ import annotations

from workflow_worker.store.redis.address import parse_address
from workflow_worker.store.redis.dialing import Dialer
from workflow_worker.store.redis.link import BlockingLink, SharedLink

COMMAND_TIMEOUT_S = 5.0
BLOCKING_MARGIN_S = 2.0
"""How much longer than its block time a blocking read may take: servers answer late when others are served first."""


def connect(url: str, *, name: str = "workflow-worker", timeout_s: float | None = COMMAND_TIMEOUT_S) -> SharedLink:
    """One connection for short commands, opened when it is needed and again after a failure; answers bytes.

    Args:
        url: As in REDIS_URL.
        name: Shown by ``CLIENT LIST``.
        timeout_s: Deadline of one answer, in seconds; a frozen server keeps its TCP connections alive. None only for
            callers that set a deadline around each call.

    Raises:
        ConfigurationError: The URL cannot be used; the message shows no password.
    """
    return SharedLink(Dialer(parse_address(url), name), timeout_s)


def connect_blocking(url: str, block_ms: int | None = None, *, name: str = "workflow-worker-blocking") -> BlockingLink:
    """For reads that block at most `block_ms`, and for channels; each holds a connection of its own.

    Without `block_ms` the caller sets a deadline around each read (block time and `BLOCKING_MARGIN_S`).

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    within_s = None if block_ms is None else block_ms / 1000 + BLOCKING_MARGIN_S
    return BlockingLink(Dialer(parse_address(url), name), within_s)
