"""Our own lines of the table: the service as an operator starts it, tuned and as shipped."""

from __future__ import annotations

import sys

from bench.contestants import Contestant, Workload
from bench.server import Server
from workflow_worker import __version__

OURS = ("ours", "ours-defaults")
TUNED = {"BATCH_SIZE": "200", "CONCURRENCY_LIMIT": "200"}
_PREFIX = "ww:{ww:0}:"
_ALIKE = frozenset({Workload.WAITING, Workload.TIMERS, Workload.GROWTH, Workload.CALLERS})
"""What does not hang on these settings, or is measured for one of them only."""


def ours() -> list[Contestant]:
    """Tuned for many short runs, and with the defaults that it is shipped with."""
    every = frozenset(Workload) - {Workload.ENGINE}
    tuned = ", ".join(f"{name}={value}" for name, value in TUNED.items())
    return [
        _contestant(OURS[0], tuned, TUNED, every),
        _contestant(OURS[1], "defaults", {}, every - _ALIKE),
    ]


def completed(server: Server, workload: Workload) -> int:
    """Runs whose end is committed; for `Workload.WAITING`, those that came to rest."""
    if workload is not Workload.WAITING:
        return int(server.call("ZCARD", _PREFIX + "index:ended"))
    created = int(server.call("ZCARD", _PREFIX + "index"))
    sessions: list[bytes] = server.call("ZRANGE", _PREFIX + "sessions", 0, -1)
    # The held runs of a session stand beside one field of its own, the number of its last ingest.
    return created - sum(max(0, server.call("HLEN", f"{_PREFIX}held:{session.decode()}") - 1) for session in sessions)


def id_bytes(server: Server) -> float:
    """Server memory of one remembered event id."""
    key = _PREFIX + "seen:new"
    return float(server.call("MEMORY", "USAGE", key, "SAMPLES", 0)) / max(1, int(server.call("SCARD", key)))


def _contestant(name: str, settings: str, variables: dict[str, str], workloads: frozenset[Workload]) -> Contestant:
    return Contestant(
        name=name,
        title=f"workflow-worker {__version__}",
        settings=settings,
        program=(sys.executable, "-m", "bench.ours.publisher"),
        workloads=workloads,
        workers=_service,
        environment={**variables, "LOG_LEVEL": "warning", "LOG_FORMAT": "json"},
        completed=completed,
        id_bytes=id_bytes,
    )


def _service(count: int, url: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "bench.ours.service"], {"WORKER_COUNT": str(count), "REDIS_URL": url}
