"""One worker process, seen from the service: started, told to drain, waited for.

It has a process group of its own. A terminal's Ctrl-C goes to the foreground group, so it reaches the service alone,
which then drains its workers in order; and a worker that must be killed takes the processes of its actions with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import VitalSigns, WorkerPhase
from workflow_worker.service.board import Board, Row

TITLE = "workflow-worker worker"
"""First argument of a worker process: what one looks for in the output of ``ps``."""

SPARE_TITLE = "workflow-worker spare "
"""The same of a process that may become a worker; as long as `TITLE`, which then takes its place."""

EXIT_REFUSED = 2
"""Exit code of a worker that cannot start before somebody changes a setting or the app; it left its last words."""

CHILD_MODULE = "workflow_worker.service.child"

_OURS = frozenset(Settings().to_mapping()) | {"REDIS_URL", "WORKFLOW_APP", "API_TOKEN"}


def monotonic_ms() -> int:
    """The machine's monotonic clock, which the workers' vital signs use too."""
    return time.monotonic_ns() // 1_000_000


def worker_name(pid: int) -> str:
    """Unique among living workers, and readable: host and process."""
    return f"{socket.gethostname().partition('.')[0]}-{pid}"


def environment_of_workers(inherited: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Variables of a worker process: what the service inherited, and the settings as the service understood them.

    Not API_TOKEN: only the web server needs it, and it is in the service.
    """
    variables = {name: text for name, text in inherited.items() if name not in _OURS}
    variables |= {name: text for name, text in settings.to_mapping().items() if name != "API_TOKEN"}
    # print() of an author reaches the log when it is called, also through a pipe.
    variables.setdefault("PYTHONUNBUFFERED", "1")
    return variables


@dataclass(frozen=True, slots=True)
class Launcher:
    """Everything that is the same for all workers of a service. `parent` is the pipe whose other end only we hold."""

    app: str
    folder: Path | None
    environment: Mapping[str, str]
    board: Board
    parent: int
    module: str = CHILD_MODULE

    async def start(self, slot: int) -> Child:
        """Start a worker process in a free row of the board.

        Raises:
            OSError: The system cannot start another process.
        """
        row = self.board.take_row()
        try:
            process = await self._spawn(TITLE, f"--slot={slot}", f"--row={row}")
        except BaseException:
            self.board.bury(row)
            raise
        return self.child(process, slot, row)

    async def start_spare(self, waiting: int) -> asyncio.subprocess.Process:
        """Start a process that imports what a worker needs, then reads from the pipe `waiting` which row is its own.

        Raises:
            OSError: The system cannot start another process.
        """
        return await self._spawn(SPARE_TITLE, f"--waiting={waiting}", inherit=(waiting,))

    def child(self, process: asyncio.subprocess.Process, slot: int, row: int) -> Child:
        """The worker that this process is from now on."""
        return Child(process, slot, row, self.board.row(row))

    async def _spawn(self, title: str, *place: str, inherit: tuple[int, ...] = ()) -> asyncio.subprocess.Process:
        arguments = [
            f"--app={self.app}",
            f"--folder={self.folder or ''}",
            *place,
            f"--board={self.board.descriptor}",
            f"--parent={self.parent}",
        ]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self.module, title, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            env=self.environment,
            pass_fds=(self.board.descriptor, self.parent, *inherit),
            process_group=0,
        )


class Child:
    """A worker process that runs, or has just ended."""

    def __init__(self, process: asyncio.subprocess.Process, slot: int, row_number: int, row: Row) -> None:
        self._process = process
        self.slot = slot
        self.row_number = row_number
        self.row = row
        self.pid = process.pid
        self.name = worker_name(process.pid)
        self.started_at = monotonic_ms()
        self.retiring = False
        """Told to drain: its end is planned."""
        self.on_trial = False
        """Started with new code beside another one, which goes on until this one takes work."""
        self.ended = asyncio.Event()
        self.stalled_at: int | None = None
        self.last_words = ""

    @property
    def signs(self) -> VitalSigns:
        """Its vital signs as they are now."""
        return self.row.read_signs()

    async def wait(self) -> int:
        """Its exit code; negative for the signal that ended it."""
        code = await self._process.wait()
        self.ended.set()
        return code

    async def ends_within(self, seconds: float) -> bool:
        """Wait at most so long for its end; whether it came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        return self.ended.is_set()

    async def works(self) -> bool:
        """Wait until it takes work (True), or has ended without (False)."""
        while not self.ended.is_set():
            if self.signs.phase >= WorkerPhase.RUNNING:
                return True
            # The board tells nobody that it has changed; a look costs 2 µs.
            await self.ends_within(0.01)
        return False

    def drain(self) -> None:
        """SIGTERM: take no new work; a second one makes it hurry."""
        self.retiring = True
        self._signal(signal.SIGTERM)

    async def dump_and_kill(self) -> None:
        """Have it write the stacks of its threads (the handler needs no interpreter), then kill it."""
        self._signal(signal.SIGQUIT)
        await self.ends_within(0.3)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for it and for the processes that its actions have started."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
