"""`Verdict`: what an error is, and `Fail` or `Park`: what becomes of the run when nothing helps."""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.recovery import Recovery


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise the error at the ``await`` in the workflow, so that its ``except`` and its saga see it."""


@dataclass(frozen=True, slots=True)
class Park:
    """Suspend the run at this step until a person acts; `reason` is shown to them, for example who they should be."""

    reason: str = ""


Outcome = Fail | Park

PARK = Park()
"""What happens where nobody says anything else."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the catalogue knows of an error."""

    kind: ErrorKind
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of an error, which rule said so (for logs), what the error says about when to come back, and what is to
    be done before."""

    kind: ErrorKind
    rule: str
    retry_after_ms: int | None = None
    outcome: Outcome = PARK
    recovery: Recovery | None = None
