"""How a worker process leaves when something in it does not end: a thread that hangs, a coroutine that refuses.

The interpreter waits for threads of a pool and asyncio for cancelled tasks, both for ever. A worker that has drained
owes nobody anything more: what still runs then is an attempt that was given up, whose results are refused anyway.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time

_TASKS_WITHIN_S = 0.3
_THREADS_WITHIN_S = 0.3


def leave(runner: asyncio.Runner, code: int) -> int:
    """Close the loop and return `code`; end the process with it at once if tasks or threads do not end.

    Then too the exit functions of the author's libraries run (a tracer that sends its last spans), and what was printed
    is flushed. Our own log lines were written when they were made.
    """
    if runner.run(_ended()) and _threads_end():
        runner.close()
        return code
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - os._exit leaves them out, and there is no other way
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader is gone, or it was closed
            stream.flush()
    os._exit(code)


def leave_within(seconds: float, code: int = 1) -> None:
    """End the process with `code` when it has not ended by itself by then."""

    def end() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=end, name="leave-within", daemon=True).start()


async def _ended() -> bool:
    """Whether all tasks end that are left, and the default executor's threads."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=_TASKS_WITHIN_S))[1]:
        return False
    shutting = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    return not (await asyncio.wait((shutting,), timeout=_THREADS_WITHIN_S))[1]


def _threads_end() -> bool:
    deadline = time.monotonic() + _THREADS_WITHIN_S
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
    return True
