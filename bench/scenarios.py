"""The workloads: each takes a contestant and the server, and returns figures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from bench.contestants import Contestant, Workload
from bench.figures import Measured, percentile
from bench.load import URL_VARIABLE
from bench.processes import Broken, Workers, run_program, running_workers
from bench.server import Server
from bench.ticks import VARIABLE, delays_ms, tally

_WITHIN_S = 90.0


@dataclass(frozen=True)
class Sizes:
    """How much of each workload."""

    noop: int = 20_000
    latency: int = 500
    workflows: int = 2_000
    finish: int = 200
    embedded: int = 500
    waiting: int = 2_000


QUICK = Sizes(noop=5_000, latency=100, workflows=1_000, finish=100, embedded=200, waiting=1_000)


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

    def program(self, contestant: Contestant, command: str, n: int) -> dict[str, object]:
        """Run one command of the contestant's program; returns what it reports."""
        arguments = [str(contestant.python), "-m", contestant.program, command, str(n)]
        return run_program(arguments, self.environment(contestant), _WITHIN_S)


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

    def wait(self, n: int) -> None:
        """Until `n` are done."""
        try:
            self.workers.wait_for(lambda: self.seen() >= n, _WITHIN_S, pause_s=0.02)
        except Broken as error:
            raise Broken(f"{self.samples[-1][1] if self.samples else 0:,} of {n:,} done, then: {error}") from error

    def rate(self) -> float:
        """Completions a second."""
        if self.contestant.completed is None:
            total = tally(self.bench.ticks)
            return (total.count - 1) / ((total.last - total.first) / 1e9)
        (begun, first), (ended, last) = self.samples[0], self.samples[-1]
        return (last - first) / max(ended - begun, 1e-3)

    def worker_us(self) -> float:
        """Processor time of the workers for each completion after the first seen, in µs."""
        counted = self.samples[-1][1] - self.samples[0][1]
        return (self.workers.cost().cpu_s - self.cpu_s_at_first) * 1e6 / max(counted, 1)


def measure(bench: Bench, contestant: Contestant) -> Measured:
    """All figures of one contestant, once."""
    found: Measured = {}
    for workload, scenario in _SCENARIOS.items():
        if workload in contestant.workloads:
            begun = time.monotonic()
            bench.clear()
            found |= scenario(bench, contestant)
            bench.say(f"    {workload.name.lower():<12}{time.monotonic() - begun:5.1f} s")
    return found


def _noop(bench: Bench, contestant: Contestant) -> Measured:
    one = _drain(bench, contestant, Workload.NOOP, "publish", bench.sizes.noop, 1)
    bench.clear()
    two = _drain(bench, contestant, Workload.NOOP, "publish", bench.sizes.noop, 2)
    return {**one, "noop_1": one["rate"], "noop_2": two["rate"]}


def _three_steps(bench: Bench, contestant: Contestant) -> Measured:
    drained = _drain(bench, contestant, Workload.THREE_STEPS, "publish-workflows", bench.sizes.workflows, 1)
    bench.clear()
    with _workers(bench, contestant, 1):
        idle = bench.program(contestant, "finish", bench.sizes.finish)
    return {
        "workflows": drained["rate"],
        "workflow_server_us": drained["server_us"],
        "workflow_commands": drained["commands"],
        "workflow_worker_us": drained["worker_us"],
        "finish_p50": percentile(cast("list[float]", idle["idle_ms"]), 0.5),
    }


def _drain(bench: Bench, contestant: Contestant, workload: Workload, command: str, n: int, processes: int) -> Measured:
    empty = bench.server.usage()
    published = bench.program(contestant, command, n)
    queued = bench.server.usage()
    with _workers(bench, contestant, processes) as workers:
        progress = Progress(bench, contestant, workload, workers)
        progress.wait(n)
        used = bench.server.usage().since(queued)
        cost, worker_us = workers.cost(), progress.worker_us()
    return {
        "rate": progress.rate(),
        "publish": n / cast("float", published["seconds"]),
        "queued_bytes": queued.since(empty).memory_bytes / n,
        "server_us": used.cpu_us / n,
        "commands": (used.commands - progress.polls) / n,
        "reads": (used.reads - progress.polls) / n,
        "worker_us": worker_us,
        "rss": cost.rss_mib,
        "rss_worker": cost.worker_rss_mib,
    }


def _latency(bench: Bench, contestant: Contestant) -> Measured:
    with _workers(bench, contestant, 1):
        bench.program(contestant, "latency", bench.sizes.latency)
    delays = delays_ms(bench.ticks)
    return {"latency_p50": percentile(delays, 0.5), "latency_p99": percentile(delays, 0.99)}


def _embedded(bench: Bench, contestant: Contestant) -> Measured:
    told = bench.program(contestant, "workflows", bench.sizes.embedded)
    return {
        "workflows": cast("float", told["workflows_per_s"]),
        "finish_p50": percentile(cast("list[float]", told["idle_ms"]), 0.5),
        "rss": cast("float", told["rss_mib"]),
    }


def _waiting(bench: Bench, contestant: Contestant) -> Measured:
    empty = bench.server.usage()
    n = bench.sizes.waiting
    bench.program(contestant, "publish-waiting", n)
    with _workers(bench, contestant, 1) as workers:
        Progress(bench, contestant, Workload.WAITING, workers).wait(n)
    return {"waiting_bytes": bench.server.usage().since(empty).memory_bytes / n}


def _workers(bench: Bench, contestant: Contestant, processes: int) -> AbstractContextManager[Workers]:
    assert contestant.workers is not None, f"{contestant.name} has no worker processes"
    arguments, variables = contestant.workers(processes, bench.server.url)
    return running_workers(arguments, bench.environment(contestant) | variables, bench.folder / "workers.log")


_SCENARIOS: dict[Workload, Callable[[Bench, Contestant], Measured]] = {
    Workload.NOOP: _noop,
    Workload.LATENCY: _latency,
    Workload.THREE_STEPS: _three_steps,
    Workload.EMBEDDED: _embedded,
    Workload.WAITING: _waiting,
}
