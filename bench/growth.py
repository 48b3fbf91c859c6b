"""What one event costs as other work grows: beside a small and a large backlog, beside none and many waiting runs.

Costs are processor time of server and worker, not rates: they say what grows, whatever else the machine does.
"""

from __future__ import annotations

from bench.contestants import Contestant, Workload
from bench.figures import Measured
from bench.processes import Workers
from bench.stage import Bench, Progress

_ROUNDS = 10
_SMALL = 1_000
_FIRST = 2_000
"""Events that are not counted, after the start of the worker on a large backlog."""


def growth(bench: Bench, contestant: Contestant) -> Measured:
    """Four costs of an event.

    Raises:
        Broken: A program failed, or the work did not get done.
    """
    with bench.workers(contestant, 1) as workers:
        small = _small_backlog(bench, contestant, workers)
    bench.clear()
    large = _large_backlog(bench, contestant)
    bench.clear()
    bench.program(contestant, "publish-waiting", bench.sizes.crowd)
    with bench.workers(contestant, 1) as workers:
        Progress(bench, contestant, Workload.WAITING, workers).wait(bench.sizes.crowd)
        crowded = _small_backlog(bench, contestant, workers)
    return {
        "small_server_us": small[0],
        "small_worker_us": small[1],
        "large_server_us": large[0],
        "large_worker_us": large[1],
        "crowd_server_us": crowded[0],
        "crowd_worker_us": crowded[1],
    }


def _small_backlog(bench: Bench, contestant: Contestant, workers: Workers) -> tuple[float, float]:
    """µs of server and worker for an event while never more than `_SMALL` are queued.

    The worker stands still while each lot is published, so that what publishing costs the server is not counted.
    """
    server_us = worker_s = 0.0
    progress = Progress(bench, contestant, Workload.NOOP, workers)
    for number in range(_ROUNDS + 1):
        with workers.standing_still():
            bench.program(contestant, "publish", _SMALL)
            before, spent = bench.server.usage(), workers.cost().cpu_s
        progress.wait((number + 1) * _SMALL)
        if number:  # the first warms caches
            server_us += bench.server.usage().since(before).cpu_us
            worker_s += workers.cost().cpu_s - spent
    return server_us / (_ROUNDS * _SMALL), worker_s * 1e6 / (_ROUNDS * _SMALL)


def _large_backlog(bench: Bench, contestant: Contestant) -> tuple[float, float]:
    """The same for as many events at the head of a backlog of `Sizes.backlog`."""
    bench.program(contestant, "publish", bench.sizes.backlog)
    with bench.workers(contestant, 1) as workers:
        progress = Progress(bench, contestant, Workload.NOOP, workers)
        progress.wait(min(_FIRST, bench.sizes.backlog // 4))
        first = progress.samples[-1][1]
        before, spent = bench.server.usage(), workers.cost().cpu_s
        progress.wait(min(first + _ROUNDS * _SMALL, bench.sizes.backlog))
        n = progress.samples[-1][1] - first
        return bench.server.usage().since(before).cpu_us / n, (workers.cost().cpu_s - spent) * 1e6 / n
