"""`Recovery`: what must be done before the next attempt of a step, as histories keep it."""

from __future__ import annotations

import msgspec

from workflow_worker.model.failure import Failure


class Recovery(msgspec.Struct, frozen=True, array_like=True):
    """Names the recovery that ``Rule(…).recoverable(Recover(…))`` asks for.

    `raises` and `reason` say what becomes of the run when the recovery fails for good: raise at the ``await``, or park
    the run for this reason. `attempts` of the recovery have failed so far. `error` is what it is to put right; None in
    the record of that error itself.
    """

    action: str
    raises: bool = False
    reason: str = ""
    attempts: int = 0
    error: Failure | None = None

    def about(self, error: Failure) -> Recovery:
        """The same with its error, of which the record that holds both has only one."""
        return self if self.error is not None else msgspec.structs.replace(self, error=error)
