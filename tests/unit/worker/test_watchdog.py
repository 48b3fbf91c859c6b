"""Workflow code that does not yield is interrupted, and only that."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workflow_worker import App
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv
from workflow_worker.worker.watchdog import Watchdog

LIMIT_S = 0.2
app = App("stuck")
# The guards would refuse the socket first: what is stuck here got hold of it before.
near, far = socket.socketpair()
atexit.register(near.close)
atexit.register(far.close)
lock = threading.Lock()
lock.acquire()


def spin() -> None:
    while True:
        pass


STUCK: dict[str, Callable[[], Any]] = {
    "spin": spin,
    # Not `time.sleep`: from Python 3.13 on it is an audited event, which the guards refuse.
    "sleep": lambda: select.select([], [], [], 60),
    "recv": lambda: near.recv(1),
    "lock": lambda: lock.acquire(),
}


@app.event("go", subject="how")
@dataclass(frozen=True)
class Go:
    how: str


@app.workflow(on=Go, id="{how}")
async def stuck(go: Go) -> str:
    if go.how == "sleep(0)":
        while True:  # noqa: ASYNC110 - what must be stopped
            await asyncio.sleep(0)
    if go.how == "import":
        import slow_to_import  # pyright: ignore[reportMissingImports] - the test makes it

        return str(slow_to_import.__name__)
    await asyncio.sleep(1)
    with contextlib.suppress(Exception):
        STUCK[go.how]()
    return "came out"


@app.event("fine", subject="n")
@dataclass(frozen=True)
class Fine:
    n: int


@app.workflow(on=Fine, id="fine-{n}")
async def fine(start: Fine) -> int:
    for _ in range(start.n):
        await asyncio.sleep(1)
    return start.n


@pytest.fixture
def told() -> Iterator[list[str]]:
    found: list[str] = []
    watchdog = Watchdog(LIMIT_S, lambda run, stack: found.append(f"{run}\n{stack}"))
    watchdog.start()
    yield found
    watchdog.stop()


@pytest.mark.parametrize("how", [*STUCK, "sleep(0)"])
async def test_code_that_does_not_yield_is_suspended_with_its_stack(how: str, told: list[str]) -> None:
    async with TestEnv(app) as env:
        other = await env.publish(Fine(3))
        # Code that waits is charged by the clock, code that computes by its processor: other processes compute too.
        clock = time.thread_time if how.startswith(("spin", "sleep(0)")) else time.perf_counter
        began = clock()
        run = await env.publish(Go(how))
        await env.advance(5)
        assert clock() - began < LIMIT_S + 0.5
        assert run.status is RunStatus.SUSPENDED
        assert "did not yield for 0.2 s" in str(run.failure)
        assert "test_watchdog.py" in str(run.failure)
        assert await other.result() == 3
    assert [text.partition("\n")[0] for text in told] == [f"stuck:{how}"]


async def test_a_first_import_is_no_stall(told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(f"import time\ntime.sleep({3 * LIMIT_S})\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    async with TestEnv(app) as env:
        run = await env.publish(Go("import"))
        assert await run.result() == "slow_to_import"
    assert told == []


async def test_a_long_replay_is_no_stall(told: list[str], tmp_path: Path) -> None:
    async with TestEnv(app) as env:
        run = await env.publish(Fine(6_000))
        for _ in range(6):
            await env.advance(1_000)
        assert await run.result() == 6_000
        (tmp_path / "long.jsonl").write_text(env.export(run))
        await env.replay("*.jsonl", folder=tmp_path)
    assert told == []


def test_a_stopped_process_is_no_stall(tmp_path: Path) -> None:
    program = tmp_path / "stopped.py"
    program.write_text(
        "import time\n"
        "from workflow_worker.runtime import nesting\n"
        "from workflow_worker.worker.watchdog import Watchdog\n"
        "class Loop:\n"
        "    class owner:\n"
        "        ref, records = 'w:r', 0\n"
        "watchdog = Watchdog(0.5, lambda run, stack: print('stall', flush=True))\n"
        "nesting.inside = Loop\n"
        "watchdog.start()\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 1.2\n"
        "time.sleep(0.1)\n"
        "while time.monotonic() < end:\n"
        "    Loop.owner.records += 1\n"
        "    time.sleep(0.3)\n"
        "nesting.inside = None\n"
        "watchdog.stop()\n"
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)  # longer than the limit: a stopped process must not be taken for a stuck one
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == ""
    assert process.returncode == 0
