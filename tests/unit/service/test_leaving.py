"""A process leaves in time whatever does not end in it; one in which everything ends, ends like any other."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

_PROGRAM = """
import asyncio, atexit, sys, threading
from concurrent.futures import ThreadPoolExecutor
from workflow_worker.service.leaving import leave

how = sys.argv[1]
atexit.register(print, "exit function ran")
pool = ThreadPoolExecutor(1)

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def work():
    forever = threading.Event()
    match how:
        case "pool":
            pool.submit(forever.wait)
        case "default pool":
            asyncio.get_running_loop().run_in_executor(None, forever.wait)
        case "thread":
            threading.Thread(target=forever.wait).start()
        case "daemon":
            threading.Thread(target=forever.wait, daemon=True).start()
        case "task":
            work.task = asyncio.create_task(stubborn())
            await asyncio.sleep(0)
        case _:
            await asyncio.to_thread(print, "in a thread")
            work.task = asyncio.create_task(asyncio.sleep(60))
    print("worked", end=" ")

runner = asyncio.Runner()
runner.run(work())
pool.shutdown(wait=False)
code = leave(runner, 3)
print("came back")
sys.exit(code)
"""


@pytest.mark.parametrize("how", ["pool", "default pool", "thread", "daemon", "task", "well"])
def test_a_process_leaves(how: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - began < 10
    assert "worked" in done.stdout
    assert done.stdout.endswith("exit function ran\n")
    assert ("came back" in done.stdout) is (how in ("well", "daemon"))


def test_what_holds_up_an_end_is_ended() -> None:
    program = "import time; from workflow_worker.service.leaving import leave_within; leave_within(0.2); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 1
