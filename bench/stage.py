"""`Bench`: where a contestant is measured; `Progress`: counting what it has done while it works."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.contestants import Contestant, Workload
from bench.load import URL_VARIABLE
from bench.processes import Broken, Workers, run_program, running_workers
from bench.server import Server
from bench.ticks import VARIABLE, tally

_WITHIN_S = 120.0


@dataclass(frozen=True)
class Sizes:
    """How much of each workload."""

    noop: int = 60_000
    callers: int = 10_000
    latency: int = 500
    starts: int = 3
    workflows: int = 10_000
    finish: int = 200
    engine: int = 500
    waiting: int = 2_000
    timers: int = 100_000
    lone_timers: int = 20
    backlog: int = 1_000_000
    crowd: int = 100_000
    """Runs that wait while others are measured."""


QUICK = Sizes(
    noop=5_000,
    callers=2_000,
    latency=100,
    starts=1,
    workflows=1_000,
    finish=100,
    engine=200,
    waiting=1_000,
    timers=5_000,
    lone_timers=5,
    backlog=50_000,
    crowd=5_000,
)
TINY = Sizes(
    noop=200,
    callers=200,
    latency=20,
    starts=1,
    workflows=100,
    finish=10,
    engine=20,
    waiting=100,
    timers=500,
    lone_timers=2,
    backlog=10_000,
    crowd=500,
)


@dataclass(frozen=True)
class Bench:
    """Where to measure: the server, a scratch folder, the sizes."""

    server: Server
    folder: Path
    sizes: Sizes = field(default_factory=Sizes)
    say: Callable[[str], None] = print

    @property
    def ticks(self) -> Path:
        """Folder of the tick sheets."""
        return self.folder / "ticks"

    def clear(self) -> None:
        """Nothing of an earlier workload is left on the server or in the tick sheets."""
        self.server.clear()
        shutil.rmtree(self.ticks, ignore_errors=True)
        self.ticks.mkdir()

    def environment(self, contestant: Contestant) -> dict[str, str]:
        """Variables for the contestant's processes."""
        return {URL_VARIABLE: self.server.url, VARIABLE: str(self.ticks), **contestant.environment}

    def program(
        self, contestant: Contestant, command: str, n: int, variables: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run one command of the contestant's program; returns what it reports.

        Raises:
            Broken: It failed or took too long.
        """
        environment = self.environment(contestant) | dict(variables or {})
        return run_program([*contestant.program, command, str(n)], environment, _WITHIN_S)

    def workers(self, contestant: Contestant, processes: int) -> AbstractContextManager[Workers]:
        """Start the contestant's worker processes."""
        assert contestant.workers is not None, f"{contestant.name} has no worker processes"
        arguments, variables = contestant.workers(processes, self.server.url)
        return running_workers(arguments, self.environment(contestant) | variables, self.folder / "workers.log")


@dataclass
class Progress:
    """Counts completions while workers run: by the server where a contestant has commits, else by ticks.

    The rate goes from the first completion seen to the last. Ticks carry exact instants; the server is asked every
    20 ms, and what this watching costs it is taken off the bill.
    """

    bench: Bench
    contestant: Contestant
    workload: Workload
    workers: Workers
    begun: float = field(default_factory=time.perf_counter)
    samples: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    cpu_s_at_first: float = 0.0
    polls: int = 0

    def seen(self) -> int:
        """How many are done now."""
        if self.contestant.completed is None:
            count = tally(self.bench.ticks).count
        else:
            count = self.contestant.completed(self.bench.server, self.workload)
            self.polls += 1
        if count:
            if not self.samples:
                self.cpu_s_at_first = self.workers.cost().cpu_s
            self.samples.append((time.perf_counter(), count))
        return count

    def wait(self, n: int, within_s: float = _WITHIN_S) -> None:
        """Until `n` are done.

        Raises:
            Broken: The workers ended, or it took too long.
        """
        try:
            self.workers.wait_for(lambda: self.seen() >= n, within_s, pause_s=0.02)
        except Broken as error:
            raise Broken(f"{self.samples[-1][1] if self.samples else 0:,} of {n:,} done, then: {error}") from error

    def rate(self) -> float:
        """Completions a second."""
        if self.contestant.completed is None:
            total = tally(self.bench.ticks)
            return (total.count - 1) / ((total.last - total.first) / 1e9)
        (begun, first), (ended, last) = self.samples[0], self.samples[-1]
        if first == last:  # all done before the second look: too few events for a rate, but none for nothing
            begun, first = self.begun, 0
        return (last - first) / max(ended - begun, 1e-3)

    def worker_us(self) -> float:
        """Processor time of the workers for each completion after the first seen, in µs."""
        counted = self.samples[-1][1] - self.samples[0][1]
        return (self.workers.cost().cpu_s - self.cpu_s_at_first) * 1e6 / max(counted, 1)
