"""What is measured: each figure with its unit, which way is better, and how to write it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One column of the tables."""

    title: str
    digits: int = 0
    rate: bool = False  # compares with the yardstick
    more_is_better: bool = False

    def written(self, value: float) -> str:
        """The value for people."""
        return f"{value:,.{self.digits}f}"


FIGURES: dict[str, Figure] = {
    "yardstick": Figure("yardstick, entries/s", more_is_better=True),
    "publish": Figure("publish in bulk, events/s", rate=True, more_is_better=True),
    "callers": Figure("publish one by one, 100 callers, events/s", rate=True, more_is_better=True),
    "noop_1": Figure("no-op, 1 process, events/s", rate=True, more_is_better=True),
    "noop_2": Figure("no-op, 2 processes, events/s", rate=True, more_is_better=True),
    "cores_1": Figure("cores busy with 1 process (workers and server)", 2),
    "cores_2": Figure("cores busy with 2 processes (workers and server)", 2),
    "workflows": Figure("three-step workflows/s, 1 process", rate=True, more_is_better=True),
    "latency_p50": Figure("idle publish → start p50, ms", 2),
    "latency_p99": Figure("idle publish → start p99, ms", 2),
    "finish_p50": Figure("idle workflow start → finish p50, ms", 2),
    "start_up": Figure("worker started → its first event starts, ms"),
    "server_us": Figure("server CPU µs/event", 1),
    "commands": Figure("commands/event", 2),
    "reads": Figure("round trips/event", 2),
    "worker_us": Figure("worker CPU µs/event", 1),
    "workflow_server_us": Figure("server CPU µs/workflow", 1),
    "workflow_commands": Figure("commands/workflow", 2),
    "workflow_worker_us": Figure("worker CPU µs/workflow", 1),
    "queued_bytes": Figure("server bytes/queued event"),
    "id_bytes": Figure("server bytes/remembered event id"),
    "waiting_bytes": Figure("server bytes/waiting run"),
    "rss_worker": Figure("one worker process, RSS MiB"),
    "rss": Figure("all its processes, RSS MiB"),
    "timers_s": Figure("timers due in the same second, all fired within, s", 2),
    "timer_late": Figure("a lone timer is late by, median, ms", 1),
    "small_server_us": Figure("backlog of 1,000: server CPU µs/event", 1),
    "large_server_us": Figure("large backlog: server CPU µs/event", 1),
    "crowd_server_us": Figure("many waiting runs: server CPU µs/event", 1),
    "small_worker_us": Figure("backlog of 1,000: worker CPU µs/event", 1),
    "large_worker_us": Figure("large backlog: worker CPU µs/event", 1),
    "crowd_worker_us": Figure("many waiting runs: worker CPU µs/event", 1),
}

Measured = dict[str, float]


def median_of(runs: Sequence[Measured]) -> Measured:
    """The median of each figure over repetitions."""
    names = [name for name in FIGURES if any(name in run for run in runs)]
    return {name: statistics.median([run[name] for run in runs if name in run]) for name in names}


def spread_of(runs: Sequence[Measured], name: str) -> tuple[float, float]:
    """Least and greatest value of one figure."""
    values = [run[name] for run in runs if name in run]
    return min(values), max(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` of 0.99 is the 99th."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
