"""`GuardedCall`: a call whose end somebody must know even after the code gave it up.

An action that is cancelled may be half done. Its compensation may start only when it has ended, and an author may want
to wait likewise (``using(cancel="wait")``). So a cancel leaves the step pending and asks the worker to end the attempt;
the record of that end settles it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, TypeVar, cast

from workflow_worker.model.command import CancelAction, StartAction
from workflow_worker.model.failure import ErrorKind, Failure
from workflow_worker.runtime.futures import Awaited, Call

R = TypeVar("R")
Guard = Literal["note", "wait"]

_UNKNOWN_WHATEVER_THE_POLICY_SAYS = frozenset(
    {"workflow_worker.model.exceptions.ActionTimeout", "builtins.TimeoutError", "asyncio.exceptions.CancelledError"}
)


class GuardedCall(Call[R]):
    """A call that is tracked by a saga, or that was made ``using(cancel="wait")``."""

    __slots__ = ("failure", "patient", "raw", "stopping", "watcher")

    failure: Failure | None
    patient: bool
    """Whether the awaiting code is kept until the end is known."""
    raw: bytes | None
    stopping: bool
    """Whether the call was given up and its end is not known yet."""
    watcher: asyncio.Future[None] | None

    def start(self) -> StartAction | CancelAction:
        """Of a call given up in the meantime: the wish to know its end."""
        return self._wish() if self.stopping else super().start()

    def complete(self, result: bytes) -> None:
        """Deliver a recorded result, or note it for the one who waits for the end."""
        self.raw = result
        if self._over():
            super().complete(result)

    def fail(self, failure: Failure) -> None:
        """Deliver a recorded error, or note it for the one who waits for the end."""
        self.failure = failure
        if self._over():
            super().fail(failure)

    def park(self, failure: Failure, attempts: int) -> None:
        """The action failed for good: its outcome is known if it is given up now."""
        self.failure = failure
        super().park(failure, attempts)

    def resume(self) -> None:
        """It is tried again."""
        self.failure = None
        super().resume()

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up. Unless nothing of it can be under way, it stays pending until its end is recorded."""
        if self.done():
            return False
        dead = cast("Any", self.get_loop()).dead
        if dead or self.failure is not None or not self.ledger.was_asked(self):
            return super().cancel(msg)
        if not self.stopping:
            self.stopping = True
            self.ledger.hold(self, self._wish())
        # The task that awaits a patient call is told only when it is over; asyncio asks no more than this True.
        return True if self.patient else super(Awaited, self).cancel(msg)

    @property
    def outcome(self) -> Literal["pending", "done", "not done", "unknown"]:
        """What is known of the action: whether it happened. A permanent error means that it did not."""
        if self.raw is not None:
            return "done"
        if self.failure is not None:
            permanent = self.failure.kind is ErrorKind.PERMANENT
            return "not done" if permanent and self.failure.type not in _UNKNOWN_WHATEVER_THE_POLICY_SAYS else "unknown"
        if self.stopping or not self.done():
            return "pending"
        return "not done"  # given up before anybody had been asked

    async def ended(self) -> None:
        """Wait until the end is known."""
        while self.outcome == "pending":
            self.watcher = self.get_loop().create_future()
            await self.watcher

    def _wish(self) -> CancelAction:
        return CancelAction(self.number, True, self.name, self.checksum)

    def _over(self) -> bool:
        """The step is settled; True if the code still waits for the value itself."""
        if self.watcher is not None and not self.watcher.done():
            self.watcher.set_result(None)
        if not self.stopping:
            return True
        self.stopping = False
        super(Awaited, self).cancel()  # the awaiting code of a patient call gets the cancel that it was asked for
        return False


def guarded_call(loop: asyncio.AbstractEventLoop, patient: bool) -> GuardedCall[Any]:
    """A call as `Call` makes it, with nothing known of its end."""
    call: GuardedCall[Any] = GuardedCall(loop=loop)
    call.failure = call.raw = call.watcher = None
    call.patient, call.stopping = patient, False
    return call
