"""Made-up results of a run, for tests of what is written about it."""

from __future__ import annotations

from dataclasses import asdict

from bench.machine import Machine
from bench.results import Line, Results
from bench.stage import TINY

OURS = Line(
    "ours",
    "workflow-worker 1",
    "BATCH_SIZE=200",
    runs=[
        {"yardstick": 50_000.0, "noop_1": 30_000.0, "publish": 90_000.0, "latency_p50": 0.5, "workflows": 9_000.0},
        {"yardstick": 60_000.0, "noop_1": 33_000.0, "publish": 80_000.0, "latency_p50": 0.4, "workflows": 9_500.0},
        {"yardstick": 40_000.0, "noop_1": 10_000.0, "publish": 70_000.0, "latency_p50": 0.9, "workflows": 1_000.0},
    ],
)
QUEUE = Line(
    "a-queue",
    "queue 2.0",
    "threads <2> & more",
    ("no history", "no timers"),
    "Polls.",
    runs=[{"yardstick": 50_000.0, "noop_1": 6_000.0, "latency_p50": 1.0}],
)
ENGINE = Line(
    "an-engine", "engine 3.0", "defaults", ("a server to operate",), runs=[{"yardstick": 1.0, "workflows": 80.0}]
)
ABSENT = Line(
    "absent", "absent 4.0", "defaults", ("nothing",), trouble="not run: there is no program 'x' on this machine"
)


def results(*lines: Line) -> Results:
    """A run with these lines."""
    return Results(
        begun="2030-01-02 03:04:05",
        command="python -m bench",
        machine=Machine("A <fast> processor", 2, 8.0, "Linux 6 x86_64", "3.11.7"),
        server="Valkey 9.1.2",
        persistence="off",
        repetitions=3,
        sizes=asdict(TINY),
        lines=list(lines),
    )
