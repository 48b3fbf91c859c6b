"""`Watchdog`: finds workflow code that does not yield, and gets it out of the worker's loop.

Workflow code shares one thread with everything else of the worker: an endless loop or a blocking call in it stands in
everybody's way. A thread looks a few times a second whether the same record has been worked on for too long; then a
signal interrupts the code, whose run is suspended with the stack that it was caught in. A signal, because it also ends
``time.sleep``, ``recv`` and ``lock.acquire``, and because its handler runs in the worker's own thread: between the look
and the interrupt the code cannot have yielded unnoticed. What cannot be interrupted (a C call that keeps the
interpreter's lock, code that swallows every error) is left to the supervisor and STALL_LIMIT_MS.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from workflow_worker.runtime import nesting
from workflow_worker.runtime.execution import Execution, current_execution

_LOOKS = 20
"""Looks within one limit."""
_LATE = 3
"""A look that comes so many times later than it should is late. What cannot be explained is charged by this part."""
_MOST_LINES = 12


class WorkflowStuck(BaseException):
    """Workflow code did not yield. Not an `Exception`, so that ``except Exception`` in it does not keep it there."""


@dataclass(slots=True)
class _Seen:
    """One record of one run, and for how many seconds it has been worked on, as far as that can be held against it."""

    execution: Execution
    records: int
    charged: float = 0.0


class Watchdog:
    """Watches the thread that makes it, which must be the main thread: only that one gets signals.

    Args:
        limit_s: How long the code may take for one record.
        tell: Called in the watching thread with the run's full name and the stack, before the interrupt.
    """

    def __init__(self, limit_s: float, tell: Callable[[str, str], None]) -> None:
        self._limit_s = limit_s
        self._tell = tell
        self._main = threading.get_ident()
        self._native = threading.get_native_id()
        self._working: Execution | None = None
        self._stack = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._before = signal.signal(signal.SIGUSR2, self._interrupt)
        self._clock = time.pthread_getcpuclockid(self._main)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; the signal gets its former meaning."""
        self._ended.set()
        self._thread.join(1)
        signal.signal(signal.SIGUSR2, self._before)

    def _watch(self) -> None:
        pause = self._limit_s / _LOOKS
        seen: _Seen | None = None
        looked_at, cpu = time.monotonic(), self._cpu_s()
        while not self._ended.wait(pause):
            now, used = time.monotonic(), self._cpu_s()
            execution: Execution | None = getattr(nesting.inside, "owner", None)
            if execution is None:
                seen = None
            elif seen is None or seen.execution is not execution or seen.records != execution.records:
                seen = _Seen(execution, execution.records)
            else:
                seen.charged += self._charge(now - looked_at, used - cpu, pause)
                if seen.charged > self._limit_s:
                    if not _imports(self._frame()):  # a first import takes its time, once
                        self._shoot(execution)
                    seen = None
            looked_at, cpu = now, used

    def _charge(self, passed: float, used: float, pause: float) -> float:
        """What of the time between two looks was the code's own. A look that came much too late says that the machine
        or this process stood still; code that wants to run but may not is charged for what it did run."""
        if passed > _LATE * pause or self._wants_to_run():
            return max(used, min(passed, pause) / _LATE)
        return passed

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._main)  # pyright: ignore[reportPrivateUsage] - documented

    def _shoot(self, execution: Execution) -> None:
        frame = self._frame()
        lines = traceback.format_stack(frame, _MOST_LINES) if frame is not None else []
        self._stack = "".join(lines)
        self._working = execution
        self._tell(execution.ref, self._stack)
        signal.pthread_kill(self._main, signal.SIGUSR2)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """In the worker's thread: if that code still runs, it ends here."""
        del number, frame
        working, self._working = self._working, None
        if working is not None and current_execution() is working:
            tasks = " | ".join(working.stack())
            raise WorkflowStuck(
                f"workflow code did not yield for {self._limit_s:g} s; its tasks: {tasks}; it was at\n{self._stack}"
            )

    def _cpu_s(self) -> float:
        return time.clock_gettime(self._clock)

    def _wants_to_run(self) -> bool:
        """Whether the thread runs or waits for a processor; False where the kernel does not say, see proc(5)."""
        try:
            text = Path(f"/proc/self/task/{self._native}/stat").read_text()
        except OSError:
            return False
        return text.rpartition(")")[2].split()[0] == "R"


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in ("importlib._bootstrap", "importlib._bootstrap_external"):
            return True
        frame = frame.f_back
    return False
