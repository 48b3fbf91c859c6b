"""``make bench-compare``: a fixed small subset, beside the committed ``bench/baseline.json``; fails on a regression.

Machines differ, so nothing absolute is compared. Each figure is a ratio to the yardstick of its own minute: a rate to
its rate, a latency to the time in which it moves one entry, processor time for an event to its processor time for an
entry, of the client or of the server. Medians of five rounds tame the noise of a shared machine; where something seems
to have become worse, all is measured once more before anybody is told so, and the better of the two counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.contestants import Contestant, Workload
from bench.figures import Measured, percentile
from bench.inprocess import SETTINGS, cost_of
from bench.machine import this_machine
from bench.ours.contestants import OURS, ours
from bench.processes import Broken
from bench.scenarios import drain
from bench.server import running_server
from bench.stage import Bench
from bench.ticks import delays_ms
from bench.yardstick import yardstick

BASELINE = Path(__file__).with_name("baseline.json")
ROUNDS = 5
WORSE_BY = 0.15
_YARDSTICK = 10_000
_EVENTS = 10_000
_CALLERS = 5_000
_WORKFLOWS = 2_000
_LATENCY = 60
_RUNS = 2_000


@dataclass(frozen=True)
class Compared:
    """One figure of the subset: what it is, and whether more of it is better."""

    title: str
    more_is_better: bool


COMPARED: dict[str, Compared] = {
    "publish": Compared("publish in bulk", True),
    "callers": Compared("publish one by one, 100 callers", True),
    "noop": Compared("no-op, 1 process", True),
    "noop_defaults": Compared("no-op, 1 process, defaults", True),
    "workflows": Compared("three-step workflows, 1 process", True),
    "latency": Compared("idle publish → start p50", False),
    "server": Compared("server CPU for a no-op event", False),
    "server_workflow": Compared("server CPU for a three-step workflow", False),
    "worker": Compared("worker CPU for a no-op run, in process", False),
    "worker_workflow": Compared("worker CPU for a three-step run, in process", False),
}


def judged(now: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, float]:
    """By how much each figure became worse: 0.2 is 20 % worse, negative is better; those without a baseline are not
    judged."""
    found: dict[str, float] = {}
    for name, compared in COMPARED.items():
        if baseline.get(name) and now.get(name):
            ratio = now[name] / baseline[name]
            found[name] = (1 / ratio if compared.more_is_better else ratio) - 1
    return found


def worse(now: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """The figures that became worse by more than `WORSE_BY`."""
    return [name for name, by in judged(now, baseline).items() if by > WORSE_BY]


def better_of(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """For each figure the better of two measurements: noise only ever makes them worse."""
    found: dict[str, float] = {}
    for name, compared in COMPARED.items():
        values = [each[name] for each in (first, second) if name in each]
        if values:
            found[name] = (max if compared.more_is_better else min)(values)
    return found


@dataclass(frozen=True)
class Bare:
    """The yardstick now: entries a second, and processor time for one, of its client and of the server, in µs."""

    rate: float
    client_us: float
    server_us: float


def measured_once(bench: Bench, tuned: Contestant, defaults: Contestant) -> Measured:
    """One round of the subset, as ratios to the yardstick of this minute.

    Raises:
        Broken: Something did not get done.
    """
    before = _bare(bench)
    noop = _drained(bench, tuned, Workload.NOOP, "publish", _EVENTS)
    steps = _drained(bench, tuned, Workload.THREE_STEPS, "publish-workflows", _WORKFLOWS)
    plain = _drained(bench, defaults, Workload.NOOP, "publish", _EVENTS // 2)
    bench.clear()
    callers = _CALLERS / bench.program(tuned, "callers", _CALLERS)["seconds"]
    bench.clear()
    with bench.workers(defaults, 1):
        bench.program(defaults, "latency", _LATENCY)
    latency_us = percentile(delays_ms(bench.ticks), 0.5) * 1e3
    after = _bare(bench)
    rate = (before.rate + after.rate) / 2
    client_us, server_us = min(before.client_us, after.client_us), min(before.server_us, after.server_us)
    return {
        "publish": noop["publish"] / rate,
        "callers": callers / rate,
        "noop": noop["rate"] / rate,
        "noop_defaults": plain["rate"] / rate,
        "workflows": steps["rate"] / rate,
        "latency": latency_us * rate / 1e6,
        "server": noop["server_us"] / server_us,
        "server_workflow": steps["server_us"] / server_us,
        "worker": _in_process("noop", _RUNS) / client_us,
        "worker_workflow": _in_process("three_steps", _RUNS // 2) / client_us,
    }


def medians(rounds: int, say: Callable[[str], None] = print) -> Measured:
    """The median of each figure over some rounds.

    Raises:
        Broken: Something did not get done.
    """
    tuned, defaults = (next(each for each in ours() if each.name == name) for name in OURS)
    with running_server(aof=False) as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(server, Path(folder), say=say)
        found: list[Measured] = []
        for number in range(rounds):
            begun = time.monotonic()
            found.append(measured_once(bench, tuned, defaults))
            say(f"round {number + 1}/{rounds}: {time.monotonic() - begun:.0f} s")
    return {name: statistics.median(each[name] for each in found) for name in COMPARED}


def main() -> int:
    """Compare, or write the baseline; 1 when something became worse."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, leave nothing running
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"make this run the baseline: write {BASELINE.name}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    load, cores = os.getloadavg()[0], this_machine().cores
    if load > cores:
        _say(f"the load average is {load:.1f} on {cores} cores: others are at work, and no verdict is worth much")
    try:
        now = medians(options.rounds, _say)
        if options.write:
            BASELINE.write_text(json.dumps({name: round(value, 4) for name, value in now.items()}, indent=1) + "\n")
            print(table(now, now))
            return 0
        baseline: dict[str, float] = json.loads(BASELINE.read_text())
        if worse(now, baseline):
            _say(f"worse: {', '.join(worse(now, baseline))}; once more")
            now = better_of(now, medians(options.rounds, _say))
    except (Broken, OSError, json.JSONDecodeError) as error:
        _say(str(error))
        return 2
    print(table(now, baseline))
    return int(bool(worse(now, baseline)))


def table(now: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    """For each figure the ratio to the yardstick now and then, and by how much it became better or worse."""
    changes = judged(now, baseline)
    lines = [f"{'ratio to the yardstick':<46}{'baseline':>10}{'now':>10}  change"]
    for name, compared in COMPARED.items():
        if name not in now:
            continue
        then = f"{baseline[name]:.3f}" if name in baseline else "-"
        change = "new" if name not in changes else _in_words(changes[name])
        lines.append(f"{compared.title:<46}{then:>10}{now[name]:>10.3f}  {change}")
    return "\n".join(lines)


def _in_words(by: float) -> str:
    if by > WORSE_BY:
        return f"{by:.0%} worse: REGRESSION"
    return f"{by:.0%} worse" if by > 0 else f"{-by:.0%} better"


def _bare(bench: Bench) -> Bare:
    bench.clear()
    before, begun = bench.server.usage(), time.process_time()
    rate = yardstick(bench.server.url, _YARDSTICK)
    client_s, used = time.process_time() - begun, bench.server.usage().since(before)
    return Bare(rate, client_s * 1e6 / _YARDSTICK, used.cpu_us / _YARDSTICK)


def _drained(bench: Bench, contestant: Contestant, workload: Workload, command: str, n: int) -> Measured:
    bench.clear()
    return drain(bench, contestant, workload, command, n, 1)


def _in_process(kind: str, runs: int) -> float:
    # The least of three: other processes only ever make it dearer, by what they leave of the caches.
    return min(uvloop.run(cost_of(kind, SETTINGS["tuned"], runs)) for _ in range(3))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
