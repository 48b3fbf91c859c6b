"""The workloads: each takes a contestant and the server, and returns figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection

import psutil

from bench.contestants import Contestant, Workload
from bench.figures import Measured, percentile
from bench.growth import growth
from bench.processes import Broken
from bench.stage import Bench, Progress
from bench.ticks import delays_ms, tally
from bench.timers import timers

_WITHIN_S = 60.0


def measure(
    bench: Bench, contestant: Contestant, leave_out: Collection[Workload] = ()
) -> tuple[Measured, dict[Workload, str]]:
    """All figures of one contestant, once, and why which workloads have none."""
    found: Measured = {}
    broken: dict[Workload, str] = {}
    for workload, scenario in _SCENARIOS.items():
        if workload in contestant.workloads and workload not in leave_out:
            begun = time.monotonic()
            bench.clear()
            try:
                found |= scenario(bench, contestant)
            except (Broken, LookupError, OSError, ValueError, psutil.Error) as error:
                # A contestant that dies mid-way also shows as an unreadable report or a process that is gone.
                broken[workload] = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
                bench.say(f"    {workload.name.lower()}: {broken[workload]}")
            bench.say(f"    {workload.name.lower():<12}{time.monotonic() - begun:5.1f} s")
    return found, broken


def drain(bench: Bench, contestant: Contestant, workload: Workload, command: str, n: int, processes: int) -> Measured:
    """Queue `n`, start workers, wait until all are done.

    Raises:
        Broken: See `measure`.
    """
    empty = bench.server.usage()
    published = bench.program(contestant, command, n)
    queued = bench.server.usage()
    with bench.workers(contestant, processes) as workers:
        progress = Progress(bench, contestant, workload, workers)
        progress.wait(n)
        used = bench.server.usage().since(queued)
        cost, worker_us = workers.cost(), progress.worker_us()
    rate = progress.rate()
    return {
        "rate": rate,
        "publish": n / published["seconds"],
        "queued_bytes": queued.since(empty).memory_bytes / n,
        "server_us": used.cpu_us / n,
        "commands": (used.commands - progress.polls) / n,
        "reads": (used.reads - progress.polls) / n,
        "worker_us": worker_us,
        "cores": (used.cpu_us / n + worker_us) * rate / 1e6,
        "rss": cost.rss_mib,
        "rss_worker": cost.worker_rss_mib,
    }


def _noop(bench: Bench, contestant: Contestant) -> Measured:
    n = round(bench.sizes.noop * contestant.noop_share)
    one = drain(bench, contestant, Workload.NOOP, "publish", n, 1)
    bench.clear()
    two = drain(bench, contestant, Workload.NOOP, "publish", n, 2)
    return {**one, "noop_1": one["rate"], "noop_2": two["rate"], "cores_1": one["cores"], "cores_2": two["cores"]}


def _callers(bench: Bench, contestant: Contestant) -> Measured:
    n = bench.sizes.callers
    return {"callers": n / bench.program(contestant, "callers", n)["seconds"]}


def _latency(bench: Bench, contestant: Contestant) -> Measured:
    with bench.workers(contestant, 1):
        bench.program(contestant, "latency", bench.sizes.latency)
    delays = delays_ms(bench.ticks)
    return {"latency_p50": percentile(delays, 0.5), "latency_p99": percentile(delays, 0.99)}


def _start_up(bench: Bench, contestant: Contestant) -> Measured:
    took: list[float] = []
    for _ in range(bench.sizes.starts):
        bench.clear()
        bench.program(contestant, "first", 1)
        begun = time.monotonic_ns()
        with bench.workers(contestant, 1) as workers:
            workers.wait_for(lambda: tally(bench.ticks).count > 0, _WITHIN_S)
        took.append((tally(bench.ticks).first - begun) / 1e6)
    return {"start_up": statistics.median(took)}


def _three_steps(bench: Bench, contestant: Contestant) -> Measured:
    drained = drain(bench, contestant, Workload.THREE_STEPS, "publish-workflows", bench.sizes.workflows, 1)
    bench.clear()
    with bench.workers(contestant, 1):
        idle = bench.program(contestant, "finish", bench.sizes.finish)
    return {
        "workflows": drained["rate"],
        "workflow_server_us": drained["server_us"],
        "workflow_commands": drained["commands"],
        "workflow_worker_us": drained["worker_us"],
        "finish_p50": percentile(idle["idle_ms"], 0.5),
    }


def _engine(bench: Bench, contestant: Contestant) -> Measured:
    told = bench.program(contestant, "workflows", bench.sizes.engine)
    return {
        "workflows": told["workflows_per_s"],
        "finish_p50": percentile(told["idle_ms"], 0.5),
        "rss": told["rss_mib"],
    }


def _waiting(bench: Bench, contestant: Contestant) -> Measured:
    empty = bench.server.usage()
    n = bench.sizes.waiting
    bench.program(contestant, "publish-waiting", n)
    with bench.workers(contestant, 1) as workers:
        Progress(bench, contestant, Workload.WAITING, workers).wait(n)
    found = {"waiting_bytes": bench.server.usage().since(empty).memory_bytes / n}
    if contestant.id_bytes is not None:
        found["id_bytes"] = contestant.id_bytes(bench.server)
    return found


_SCENARIOS: dict[Workload, Callable[[Bench, Contestant], Measured]] = {
    Workload.NOOP: _noop,
    Workload.CALLERS: _callers,
    Workload.LATENCY: _latency,
    Workload.START_UP: _start_up,
    Workload.THREE_STEPS: _three_steps,
    Workload.ENGINE: _engine,
    Workload.WAITING: _waiting,
    Workload.TIMERS: timers,
    Workload.GROWTH: growth,
}
