"""`RetryPolicy`: rules and spans in one object, and `decide`: what follows from a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal, cast

from workflow_worker.errors.classifier import Rule, classify
from workflow_worker.errors.verdict import PARK, Fail, Outcome, Park, Verdict
from workflow_worker.model.environment import RandomSource
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.instants import to_ms
from workflow_worker.model.recovery import Recovery

TRANSIENT_RETRIES = 2
"""So often a transient error is tried again at once; after that it waits like a recoverable one."""
TRANSIENT_JITTER_MS = 50
RETRY_AFTER_CAP_MS = 3_600_000
"""A server's wish to be left alone for longer than an hour is taken for an hour: a wrong header must not park a run."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again after this many milliseconds, and not before the recovery is done."""

    delay_ms: int
    recovery: Recovery | None = None
    word: ClassVar[str] = "retry"


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise the error at the ``await``."""

    word: ClassVar[str] = "raise"


@dataclass(frozen=True, slots=True)
class ParkRun:
    """Suspend the run at this step."""

    reason: str = ""
    word: ClassVar[str] = "park"


Decision = RetryIn | Raise | ParkRun


@dataclass(frozen=True, slots=True, init=False)
class RetryPolicy:
    """How an action's errors are judged and when it is tried again.

    Args:
        rules: Looked at in order; the first that matches decides. What none matches is left to the app's rules, then
            to the built-in catalogue; what nobody knows is recoverable.
        attempts: How often at most, the first included; None: MAX_RETRIES + 1.
        initial: The first wait after a recoverable error.
        factor: How many times longer each next wait is.
        cap: The longest wait. A ``Retry-After`` is honoured beyond it, up to an hour.
        jitter: "full" draws each wait evenly from zero to its length, so that failures at once do not come back at
            once (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/); "none" waits exactly.
        exhausted: What becomes of the run after the last attempt.

    Raises:
        UsageError: A value is out of range, or a rule does not say what it means.
    """

    rules: tuple[Rule, ...]
    attempts: int | None
    initial_ms: int
    factor: float
    cap_ms: int
    jitter: Literal["full", "none"]
    exhausted: Outcome

    def __init__(
        self,
        *rules: Rule,
        attempts: int | None = None,
        initial: float | timedelta = 1.0,
        factor: float = 4.0,
        cap: float | timedelta = 300.0,
        jitter: Literal["full", "none"] = "full",
        exhausted: Outcome = PARK,
    ) -> None:
        values = {
            "rules": rules,
            "attempts": attempts,
            "initial_ms": to_ms(initial),
            "factor": factor,
            "cap_ms": to_ms(cap),
            "jitter": jitter,
            "exhausted": exhausted,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        for rule in cast("tuple[object, ...]", self.rules):
            if not isinstance(rule, Rule):
                raise UsageError(f"RetryPolicy takes rules, not {rule!r}: write Rule({rule!r}).transient()")
            if rule.kind is None:
                raise UsageError(f"{rule} does not say what it means: add .transient(), .recoverable() or .permanent()")
        if self.attempts is not None and self.attempts < 1:
            raise UsageError(f"attempts={self.attempts} is not usable: at least 1, the first attempt")
        if not 1 <= self.factor < float("inf"):
            raise UsageError(f"factor={self.factor} is not usable: at least 1")
        if self.cap_ms < self.initial_ms:
            raise UsageError(f"cap ({self.cap_ms} ms) is less than initial ({self.initial_ms} ms)")
        if self.jitter not in ("full", "none"):
            raise UsageError(f"jitter={self.jitter!r} is not usable: 'full' or 'none'")
        if not isinstance(cast("object", self.exhausted), Fail | Park):
            raise UsageError(f"exhausted={self.exhausted!r} is not usable: Fail() or Park('reason')")

    def classify(self, error: BaseException, *, now_ms: int = 0) -> Verdict:
        """What this policy thinks of an error; for tests. `now_ms` is needed only for a Retry-After that is a date."""
        return classify(error, self.rules, now_ms=now_ms)

    def backoff_ms(self, retries: int) -> int:
        """The wait after `retries` earlier waits, before jitter."""
        delay = float(self.initial_ms)
        if self.factor > 1 and delay > 0:
            for _ in range(retries):
                delay *= self.factor
                if delay >= self.cap_ms:
                    break
        return min(round(delay), self.cap_ms)


def decide(
    policy: RetryPolicy,
    verdict: Verdict,
    attempt: int,
    transient_used: int,
    random: RandomSource,
    default_attempts: int,
) -> Decision:
    """What follows after `attempt` (1 is the first) failed.

    Args:
        policy: The action's.
        verdict: What the error is.
        attempt: The attempt that failed.
        transient_used: How many earlier attempts of this step failed with a transient error.
        random: Where jitter comes from.
        default_attempts: How many attempts, where the policy does not say.
    """
    if verdict.kind is ErrorKind.PERMANENT:
        return _give_up(verdict.outcome)
    limit = default_attempts if policy.attempts is None else policy.attempts
    if attempt >= limit:
        return _give_up(policy.exhausted)
    at_once = min(transient_used, TRANSIENT_RETRIES)
    wanted = min(verdict.retry_after_ms or 0, RETRY_AFTER_CAP_MS)
    if verdict.kind is ErrorKind.TRANSIENT and transient_used < TRANSIENT_RETRIES:
        return RetryIn(wanted + _drawn(TRANSIENT_JITTER_MS, random))
    if verdict.recovery is not None and attempt == 1:
        return RetryIn(wanted, verdict.recovery)  # what it puts right is not put right by waiting
    delay = policy.backoff_ms(max(0, attempt - 1 - at_once))
    if policy.jitter == "none":
        return RetryIn(max(delay, wanted), verdict.recovery)
    # On top of what the server asked for, not instead: all its clients were told the same number.
    return RetryIn(wanted + _drawn(delay, random), verdict.recovery)


def _drawn(most: int, random: RandomSource) -> int:
    return int(random.random() * (most + 1))


def _give_up(outcome: Outcome) -> Raise | ParkRun:
    return Raise() if isinstance(outcome, Fail) else ParkRun(outcome.reason)
