"""`Recover`: something to do about an error before the action is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from workflow_worker.errors.verdict import PARK, Fail, Outcome, Park
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.recovery import Recovery


@dataclass(frozen=True, slots=True)
class Recover:
    """Do `step` before the next attempt: ``Rule(TokenExpired).recoverable(Recover(refresh_token))``.

    After the first attempt it is done at once, after later ones when the policy's wait is over; the action follows
    right behind it. It has attempts of its own, by its own policy where it is an action, and they use up none of the
    action's; its failures are recorded, its success is not: it is done *at least once* before the next attempt (a
    worker may die between the two). A recovery is not recovered from.

    Args:
        step: An action, or a function, sync or async. It is called with those arguments of the failed call that it has
            parameters for, by name; what it returns is not looked at. A plain function has a time limit of ten minutes
            and the app's policy; give it ``@app.action`` for others, and to fake it in tests.
        otherwise: What becomes of the run when the recovery fails for good: its error parks the run or, with
            ``Fail()``, is raised at the ``await``. The error that it was to put right is the ``__cause__`` of that.

    Raises:
        UsageError: What is given is no function, or no outcome.
    """

    step: Callable[..., Any]
    otherwise: Outcome = PARK

    def __post_init__(self) -> None:
        given = cast("object", self.step)
        if not callable(given) or isinstance(given, type):
            raise UsageError(f"Recover takes an action or a function, not {given!r}")
        if getattr(given, "__name__", "<lambda>") == "<lambda>":
            raise UsageError(f"Recover takes a function that has a name, which histories keep, not {given!r}")
        if not isinstance(cast("object", self.otherwise), Fail | Park):
            raise UsageError(f"otherwise={self.otherwise!r} is not usable: Fail() or Park('reason')")

    @property
    def name(self) -> str:
        """The action's name, or where a plain function is: ``shop.payments.refresh_token``."""
        name = getattr(self.step, "name", None)
        if isinstance(name, str):
            return name
        return f"{self.step.__module__}.{self.step.__qualname__}"

    @property
    def recovery(self) -> Recovery:
        """The same for histories."""
        if isinstance(self.otherwise, Fail):
            return Recovery(self.name, raises=True)
        return Recovery(self.name, reason=self.otherwise.reason)
