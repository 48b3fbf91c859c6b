"""``python -m bench.profiling [noop|steps]``: where the time of one worker process goes.

Queues events, starts the service with one worker process under cProfile, waits until all are done, prints the functions
by own time. cProfile charges each call, so small functions look dearer than they are; compare shares, not seconds, and
believe `python -m bench` for rates.
"""

from __future__ import annotations

import argparse
import pstats
import signal
import sys
import tempfile
from pathlib import Path

from bench.contestants import Workload
from bench.ours.contestants import OURS, ours
from bench.ours.service import PROFILE_VARIABLE
from bench.processes import running_workers
from bench.server import running_server
from bench.stage import Bench, Progress

_WORKLOADS = {
    "noop": (Workload.NOOP, "publish", 10_000),
    "steps": (Workload.THREE_STEPS, "publish-workflows", 3_000),
}


def main() -> None:
    """Profile one workload."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwind, leave nothing running
    parser = argparse.ArgumentParser(prog="python -m bench.profiling", description=__doc__)
    parser.add_argument("workload", choices=sorted(_WORKLOADS), nargs="?", default="noop")
    parser.add_argument("-n", type=int, default=0, help="events")
    parser.add_argument("--top", type=int, default=45, help="functions to print")
    parser.add_argument("--sort", default="tottime", help="a key of pstats: tottime, cumtime, ncalls")
    parser.add_argument("--defaults", action="store_true", help="with the settings that the product is shipped with")
    parser.add_argument("--out", type=Path, help="keep the profile here")
    options = parser.parse_args()
    workload, command, n = _WORKLOADS[options.workload]
    n = options.n or n
    contestant = next(each for each in ours() if each.name == (OURS[1] if options.defaults else OURS[0]))
    with running_server(aof=False) as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(server, Path(folder))
        out: Path = options.out or bench.folder / "profile"
        bench.clear()
        bench.program(contestant, command, n)
        assert contestant.workers is not None
        arguments, variables = contestant.workers(1, server.url)
        variables |= bench.environment(contestant) | {PROFILE_VARIABLE: str(out.resolve())}
        before = server.usage()
        with running_workers(arguments, variables, bench.folder / "workers.log") as workers:
            progress = Progress(bench, contestant, workload, workers)
            progress.wait(n)
            used = server.usage().since(before)
        pstats.Stats(str(out), stream=sys.stdout).strip_dirs().sort_stats(options.sort).print_stats(options.top)
    print(f"{n} events under the profiler: {progress.rate():,.0f}/s; server {used.cpu_us / n:.1f} µs/event")


if __name__ == "__main__":
    main()
