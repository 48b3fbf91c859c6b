"""`Ending`: how a run comes to its end once somebody interferes, or its function leaves tasks behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from workflow_worker.model.command import Cancelled, Complete, Fail, Restart, Suspend
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.outcome import outcome_of


class Ending:
    """Decides the outcome of one run, and when it has come.

    `cancel_requested` and `timed_out` say who may have cancelled the function, so that a cancellation of its own
    making can be told apart.
    """

    def __init__(self, loop: Loop, encode: Callable[[Any], bytes]) -> None:
        self.cancel_requested = False
        self.timed_out = False
        self._loop = loop
        self._encode = encode
        self._sheltered: list[asyncio.Task[None]] = []
        self._outcome: Complete | Fail | Cancelled | Restart | None = None

    def shelter(self, work: asyncio.Task[None]) -> None:
        """The run does not end before this is done, and nothing at its end cancels it."""
        self._sheltered.append(work)

    def decide(self, main: asyncio.Task[Any]) -> Complete | Fail | Cancelled | Restart | Suspend | None:
        """The outcome, behind the end of the function; None while something sheltered goes on.

        What the function left behind is cancelled, as `asyncio.run` does; some of it may have a saga to undo.
        """
        if self._outcome is None:
            outcome = outcome_of(main, self._encode, self.cancel_requested, self.timed_out)
            if isinstance(outcome, Suspend):
                return outcome  # a person decides how this goes on; clean-up code must not run before they have
            self._outcome = outcome
            self._cancel_the_rest()
        for work in self._sheltered:
            if not work.done():
                return None
            error = None if work.cancelled() else work.exception()
            if error is not None:
                return Suspend(describe(error, ErrorKind.PERMANENT))
        return self._outcome

    def _cancel_the_rest(self) -> None:
        rest = self._loop.live_tasks()
        if rest:
            self._sheltered = [work for work in self._sheltered if not work.done()]
            for task in rest:
                if task not in self._sheltered:
                    task.cancel()
            self._loop.drain()
        else:
            self._sheltered.clear()
