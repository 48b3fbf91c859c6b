"""Tick sheets: counted over all processes that wrote one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.ticks import VARIABLE, delays_ms, tally


def test_nobody_has_ticked_yet(tmp_path: Path) -> None:
    assert tally(tmp_path).count == 0
    assert delays_ms(tmp_path) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_ticks_of_all_processes_add_up(tmp_path: Path, processes: int) -> None:
    began = time.monotonic_ns()
    program = f"from bench.ticks import tick; tick(); tick({began}); tick()"
    running = [
        subprocess.Popen([sys.executable, "-c", program], env={VARIABLE: str(tmp_path)}) for _ in range(processes)
    ]
    assert [process.wait(20) for process in running] == [0] * processes
    total = tally(tmp_path)
    assert total.count == 3 * processes
    assert began < total.first < total.last < time.monotonic_ns()
    delays = delays_ms(tmp_path)
    assert len(delays) == processes  # only stamped ticks have one
    assert all(0 < delay < (time.monotonic_ns() - began) / 1e6 for delay in delays)
