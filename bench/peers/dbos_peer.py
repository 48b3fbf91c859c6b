"""DBOS on SQLite, its default: workflows of three no-op steps, each step checkpointed, in one process."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import os
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS

from bench.load import command, report

THREADS = 8
IDLE = 200


@DBOS.step()
def step(number: int) -> int:
    """One checkpointed no-op."""
    return number


@DBOS.workflow()
def three_steps(number: int) -> int:
    """Three steps in a row, each fed with the result before."""
    return step(step(step(number)))


def main() -> None:
    """``workflows N``: N workflows from `THREADS` callers, then some one at a time."""
    _, n = command()
    with tempfile.TemporaryDirectory() as folder:
        DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "log_level": "ERROR"})
        DBOS.launch()
        with ThreadPoolExecutor(THREADS) as callers:
            list(callers.map(three_steps, range(20)))
            begun = time.perf_counter()
            list(callers.map(three_steps, range(n)))
            rate = n / (time.perf_counter() - begun)
        idle: list[float] = []
        for number in range(IDLE):
            begun = time.perf_counter()
            three_steps(number)
            idle.append((time.perf_counter() - begun) * 1e3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report(workflows_per_s=rate, idle_ms=idle, rss_mib=peak)
        DBOS.destroy()
    os._exit(0)  # its pools are threads that do not end by themselves


if __name__ == "__main__":
    main()
