"""The benchmark harness measures this project from end to end, at a size that says nothing about its speed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench.contestants import Workload
from bench.ours.contestants import ours
from bench.scenarios import measure
from bench.server import Server, running_server
from bench.stage import TINY, Bench

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(aof=False) as started:
        yield started


@pytest.fixture
def bench(server: Server, tmp_path: Path) -> Bench:
    return Bench(server, tmp_path, replace(TINY, latency=5, finish=3, timers=50, backlog=2_000, crowd=50))


@pytest.mark.parametrize(
    ("workload", "figures"),
    [
        (Workload.NOOP, {"noop_1", "noop_2", "publish", "server_us", "queued_bytes", "cores_2", "rss"}),
        (Workload.CALLERS, {"callers"}),
        (Workload.LATENCY, {"latency_p50", "latency_p99"}),
        (Workload.START_UP, {"start_up"}),
        (Workload.THREE_STEPS, {"workflows", "finish_p50", "workflow_server_us"}),
        (Workload.WAITING, {"waiting_bytes", "id_bytes"}),
    ],
    ids=lambda value: value.name if isinstance(value, Workload) else "",
)
def test_each_workload_brings_its_figures(bench: Bench, workload: Workload, figures: set[str]) -> None:
    contestant = replace(ours()[0], workloads=frozenset({workload}))
    found, broken = measure(bench, contestant)
    assert not broken
    assert figures <= set(found)
    assert all(found[name] > 0 for name in figures)


def test_a_contestant_whose_program_fails_is_broken_and_says_why(bench: Bench) -> None:
    contestant = replace(ours()[0], program=("/bin/sh", "-c", "echo no such luck >&2; exit 3"))
    found, broken = measure(bench, replace(contestant, workloads=frozenset({Workload.CALLERS})))
    assert not found
    assert "no such luck" in broken[Workload.CALLERS]


def test_a_contestant_whose_workers_end_is_broken_and_says_why(bench: Bench) -> None:
    def workers(count: int, url: str) -> tuple[list[str], dict[str, str]]:
        return ["/bin/sh", "-c", f"echo {count} workers of {url} gave up; exit 1"], {}

    contestant = replace(ours()[0], workers=workers, workloads=frozenset({Workload.START_UP}))
    _, broken = measure(bench, contestant)
    assert re.search(r"1 workers of redis://127\.0\.0\.1:[0-9]+/0 gave up", broken[Workload.START_UP])
