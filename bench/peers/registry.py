"""The peers: packages with exact versions, best known settings, and what each one does not promise.

To add one: write ``bench/peers/<name>_peer.py`` (its program, see `bench.load`) and a `Peer` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.contestants import Contestant, Workload

QUEUE = frozenset({Workload.NOOP, Workload.LATENCY})


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One peer; `workers` gets the folder of its environment's programs and the number of worker processes."""

    name: str
    packages: tuple[str, ...]
    settings: str
    lacks: str
    workloads: frozenset[Workload]
    workers: Callable[[Path, int], list[str]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def installed_in(self, bin_folder: Path) -> Contestant:
        """The contestant that runs in an environment with this peer's packages."""
        start = self.workers
        return Contestant(
            name=self.name,
            title=self.packages[0].replace("==", " ").replace("[redis]", ""),
            settings=self.settings,
            lacks=self.lacks,
            python=bin_folder / "python",
            program=f"bench.peers.{self.name}_peer",
            workloads=self.workloads,
            workers=None if start is None else lambda count, url: (start(bin_folder, count), {}),
            environment=self.environment,
        )


def _taskiq(bin_folder: Path, count: int) -> list[str]:
    options = ["--workers", str(count), "--max-async-tasks", "200", "--max-prefetch", "200", "--log-level", "WARNING"]
    return [str(bin_folder / "taskiq"), "worker", "bench.peers.taskiq_peer:broker", *options]


def _dramatiq(bin_folder: Path, count: int) -> list[str]:
    return [str(bin_folder / "dramatiq"), "bench.peers.dramatiq_peer", "--processes", str(count), "--threads", "2"]


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            name="taskiq",
            packages=(
                "taskiq==0.13.0",
                "taskiq-redis==1.2.4",
                "redis==8.1.0",
                "hiredis==3.5.0",
                "uvloop==0.23.0",
                "orjson",
            ),
            settings="RedisStreamBroker, ORJSON, xread_count 100, 200 async tasks, prefetch 200, uvloop",
            lacks=(
                "A task, not a workflow: no history, no steps that are done once, no timers or waits that survive a"
                " restart. At least once: after a crash a task runs again, and nothing fences off the first attempt."
                " No order by key, no detection of repeated ids. Entries stay in the stream unless maxlen is set."
            ),
            workloads=QUEUE,
            workers=_taskiq,
        ),
        Peer(
            name="dramatiq",
            packages=("dramatiq[redis]==2.2.1", "redis==8.1.0", "hiredis==3.5.0"),
            settings="RedisBroker, sync actor, 2 threads, queue prefetch 2000",
            lacks=(
                "A task, not a workflow: no history, no steps that are done once, no waits. At least once, no fencing."
                " No order by key, no detection of repeated ids. Polls with back-off when idle."
            ),
            workloads=QUEUE,
            workers=_dramatiq,
            environment={"dramatiq_queue_prefetch": "2000", "dramatiq_prom_port": "0"},
        ),
        Peer(
            name="dbos",
            packages=("dbos==3.4.0",),
            settings="SQLite (its default), sync workflows called directly from 8 threads",
            lacks=(
                "Workflows are durable too. Measured here: direct calls in one process on a SQLite file, without the"
                " stream, routing and leases that our figure includes; its Postgres, which several processes can share,"
                " is not measured."
            ),
            workloads=frozenset({Workload.EMBEDDED}),
        ),
    )
}
