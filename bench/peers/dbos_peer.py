"""DBOS on SQLite, its default, or PostgreSQL: workflows of three checkpointed no-op steps, called in one process."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from dbos import DBOS

from bench.load import command
from bench.peers.engine import IDLE, running_postgres, tell

THREADS = int(os.environ.get("BENCH_THREADS", "8"))


@DBOS.step()
def step(number: int) -> int:
    """One checkpointed no-op."""
    return number


@DBOS.workflow()
def three_steps(number: int) -> int:
    """Three steps in a row, each fed with the result before."""
    return step(step(step(number)))


@contextmanager
def database() -> Generator[str]:
    """The address of the database asked for."""
    if os.environ.get("BENCH_DATABASE") == "postgres":
        with running_postgres() as address:
            yield address.removesuffix("/postgres") + "/bench"
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/dbos.sqlite"


def main() -> None:
    """``workflows N``: N workflows from `THREADS` callers, then some one at a time."""
    _, n = command()
    with database() as address:
        DBOS(config={"name": "bench", "system_database_url": address, "log_level": "ERROR"})
        DBOS.launch()
        with ThreadPoolExecutor(THREADS) as callers:
            list(callers.map(three_steps, range(20)))
            begun = time.perf_counter()
            list(callers.map(three_steps, range(n)))
            rate = n / (time.perf_counter() - begun)
        idle: list[float] = []
        for number in range(min(IDLE, n)):
            begun = time.perf_counter()
            three_steps(number)
            idle.append((time.perf_counter() - begun) * 1e3)
        tell(rate, idle)
        DBOS.destroy()
    os._exit(0)  # its pools are threads that do not end by themselves


if __name__ == "__main__":
    main()
