"""Starting programs, hearing what they report, and what a tree of processes costs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

ROOT = Path(__file__).parents[1]


class Broken(Exception):
    """A contestant's program failed or did not get done; the message says which, and the end of what it printed."""


@dataclass(frozen=True)
class Cost:
    """What a tree of processes has used."""

    rss_mib: float
    worker_rss_mib: float
    cpu_s: float


def run_program(arguments: Sequence[str], environment: Mapping[str, str], within_s: float) -> dict[str, Any]:
    """Run a program to its end; returns the JSON object of its last line.

    Raises:
        Broken: It failed, took too long, or printed no object.
    """
    what = " ".join(arguments[-3:])
    process = subprocess.Popen(
        arguments,
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{what} took longer than {within_s:.0f} s") from error
    finally:
        # With the servers that an engine's program started: they must not burden the next contestant.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
    lines = output.strip().splitlines()
    if process.returncode or not lines:
        raise Broken(f"{what} ended with {process.returncode}: {(errors or output)[-2000:]}")
    return cast("dict[str, Any]", json.loads(lines[-1]))


@dataclass(frozen=True)
class Workers:
    """A running worker program with its children."""

    process: subprocess.Popen[bytes]
    log: Path

    def cost(self) -> Cost:
        """Memory now, and processor time since the start, of the program and its children, all together.

        A worker process is one that has no children; of several the biggest counts.
        """
        tree = [psutil.Process(self.process.pid)]
        tree += tree[0].children(recursive=True)
        rss, cpu, leaves = 0, 0.0, [0]
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                here = process.memory_info().rss
                rss, cpu = rss + here, cpu + times.user + times.system
                if not process.children():
                    leaves.append(here)
        return Cost(rss / 2**20, max(leaves) / 2**20, cpu)

    @contextlib.contextmanager
    def standing_still(self) -> Generator[None]:
        """Stop all of its processes, and let them go on in the end."""
        tree = [psutil.Process(self.process.pid)]
        tree += tree[0].children(recursive=True)
        for process in tree:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(tree):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def wait_for(self, done: Callable[[], bool], within_s: float, pause_s: float = 0.01) -> None:
        """Wait for a fact.

        Raises:
            Broken: The workers ended, or it took too long.
        """
        deadline = time.monotonic() + within_s
        while not done():
            if self.process.poll() is not None:
                raise Broken(f"the workers ended with {self.process.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise Broken(f"not done within {within_s:.0f} s: {self._tail()}")
            time.sleep(pause_s)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def running_workers(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Generator[Workers]:
    """Start a worker program; in the end it is asked to stop, and killed with its children when it does not."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **environment},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Workers(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        # Its own process group: whatever of it is left must not steal time from the next measurement.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
