"""`Peer`: one contestant that is not ours, before it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.contestants import Contestant, Workload
from bench.peers.versions import VERSIONS

TASK_QUEUE = frozenset({Workload.NOOP, Workload.LATENCY, Workload.START_UP})
ASYNC_QUEUE = TASK_QUEUE | {Workload.CALLERS}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One peer; `workers` gets the folder of its environment and the number of worker processes.

    Args:
        name: What PEERS names; its program is ``<name>_peer.py``, or ``.js`` where that exists.
        module: The program's name without its ending, where it is shared with another peer.
        settings: How it is set up, for people: the best that we know.
        lacks: What it does not promise and this project does, each in a few words.
        note: What else a reader of its figures must know.
        workloads: What is measured of it.
        workers: The command that starts worker processes; None: its program does all.
        environment: Variables for program and workers.
        noop_share: See `Contestant`; a third of 60,000 keeps each but the fastest busy for 2.5 s and more.
    """

    name: str
    settings: str
    lacks: tuple[str, ...]
    workloads: frozenset[Workload]
    module: str = ""
    note: str = ""
    workers: Callable[[Path, int], list[str]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    noop_share: float = 1 / 3

    @property
    def title(self) -> str:
        """Name and version of what is measured, for people."""
        packages = VERSIONS[self.name]
        first = [each[0] for each in (packages.python, packages.node) if each]
        return ", ".join(_shown(package) for package in first)

    def installed_in(self, home: Path) -> Contestant:
        """The contestant that runs in an environment with this peer's packages."""
        start = self.workers
        return Contestant(
            name=self.name,
            title=self.title,
            settings=self.settings,
            lacks=self.lacks,
            note=self.note,
            program=self._program(home),
            workloads=self.workloads,
            noop_share=self.noop_share,
            workers=None if start is None else lambda count, url: (start(home, count), {}),
            environment={"BENCH_HOME": str(home), "NODE_PATH": str(home / "node_modules"), **self.environment},
        )

    def _program(self, home: Path) -> tuple[str, ...]:
        module = self.module or f"{self.name.replace('-', '_')}_peer"
        script = Path(__file__).with_name(f"{module}.js")
        if script.exists():
            return "node", str(script)
        return str(home / "bin" / "python"), "-m", f"bench.peers.{module}"


def several(count: int, *command: str) -> list[str]:
    """The command that starts `count` equal processes, for a peer whose worker is one process."""
    return [sys.executable, "-m", "bench.several", str(count), *command]


def _shown(package: str) -> str:
    """``name version`` of ``name[extra]==version`` or ``@scope/name@version``."""
    name, _, version = package.rpartition("==" if "==" in package else "@")
    return f"{name.partition('[')[0].rpartition('/')[2]} {version}"
