"""`Reserve`: one spare process that has imported everything but the author's code, so that a save costs only that.

For development: most of a worker's start is the interpreter and our own imports, a third of a second of processor
time. The spare does that beforehand, reads from a pipe, and becomes a worker when a row of the board is named there.
Until then it is no worker: it has no row, no session, no connection, and its own title in ``ps``. It ends when the pipe
does, so it cannot outlive the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass

from workflow_worker.service.process import Child, Launcher


@dataclass(frozen=True, slots=True)
class Spare:
    """A process that waits for `go`, the writing end of its pipe."""

    process: asyncio.subprocess.Process
    go: int

    def call(self, row: int) -> bool:
        """Let it become the worker of this row; False if it has died."""
        try:
            os.write(self.go, b"%d\n" % row)
        except BrokenPipeError:
            return False
        finally:
            os.close(self.go)
        return self.process.returncode is None

    async def dismiss(self) -> None:
        """End it: it has nothing to hand back."""
        os.close(self.go)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Reserve:
    """Starts workers as `Launcher` does, from the spare where there is one."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._spare: Spare | None = None
        self._taken = asyncio.Event()

    async def start(self, slot: int) -> Child:
        """See `Launcher.start`."""
        spare, self._spare = self._spare, None
        self._taken.set()
        if spare is not None:
            row = self._launcher.board.take_row()
            if spare.call(row):
                return self._launcher.child(spare.process, slot, row)
            self._launcher.board.bury(row)
            await spare.process.wait()
        return await self._launcher.start(slot)

    async def keep(self) -> None:
        """Have a spare ready, a new one after each that was taken, until cancelled; then the last one is ended."""
        try:
            while True:
                self._taken.clear()
                if self._spare is None:
                    # Without one, workers start cold; the next of them is the occasion to try again.
                    with contextlib.suppress(OSError):
                        self._spare = await self._start()
                await self._taken.wait()
        finally:
            if self._spare is not None:
                await self._spare.dismiss()

    async def _start(self) -> Spare:
        waiting, go = os.pipe()
        try:
            return Spare(await self._launcher.start_spare(waiting), go)
        except BaseException:
            os.close(go)
            raise
        finally:
            os.close(waiting)
