"""Timers: how long until all of many that are due in the same second have fired, and how late a lone one is."""

from __future__ import annotations

import statistics
import time

from bench.contestants import Contestant, Workload
from bench.figures import Measured
from bench.load import SPAN_VARIABLE
from bench.processes import Broken
from bench.stage import Bench, Progress
from bench.ticks import delays_ms, tally

_WITHIN_S = 120.0
_TRIAL = 1_000
_START_S = 4.0
"""For the program that publishes, and the worker, to start."""


def timers(bench: Bench, contestant: Contestant) -> Measured:
    """Let many runs sleep until the same instant, held by no worker; then one at a time.

    Raises:
        Broken: The machine became too slow to bring them all to rest before they are due, or not all woke.
    """
    n = bench.sizes.timers
    span_s = _START_S + 2 * n / _rested_per_s(bench, contestant)
    bench.clear()
    due: float = bench.program(contestant, "publish-naps", n, {SPAN_VARIABLE: str(span_s)})["due"]
    with bench.workers(contestant, 1) as workers:
        Progress(bench, contestant, Workload.WAITING, workers).wait(n)
        early = due - time.time()
        if early <= 0:
            raise Broken(f"{n:,} runs came to rest {-early:.1f} s after they were due to wake")
        time.sleep(early)
        Progress(bench, contestant, Workload.TIMERS, workers).wait(n)
        fired_within = time.time() - due
    bench.clear()
    with bench.workers(contestant, 1) as workers:
        bench.program(contestant, "first", 1)
        workers.wait_for(lambda: tally(bench.ticks).count > 0, _WITHIN_S)  # it is up
        bench.program(contestant, "lone-naps", bench.sizes.lone_timers)
        workers.wait_for(lambda: tally(bench.ticks).count > bench.sizes.lone_timers, _WITHIN_S)
    return {"timers_s": fired_within, "timer_late": statistics.median(delays_ms(bench.ticks))}


def _rested_per_s(bench: Bench, contestant: Contestant) -> float:
    """How many sleeping runs a second come to rest, here and now."""
    bench.program(contestant, "publish-naps", _TRIAL, {SPAN_VARIABLE: "3600"})
    with bench.workers(contestant, 1) as workers:
        progress = Progress(bench, contestant, Workload.WAITING, workers)
        progress.wait(_TRIAL)
        return progress.rate()
