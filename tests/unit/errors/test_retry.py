"""What follows from a verdict: at once, later, never; and that failures at once do not come back at once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_worker.errors.classifier import Rule
from workflow_worker.errors.retry import (
    RETRY_AFTER_CAP_MS,
    TRANSIENT_JITTER_MS,
    Decision,
    ParkRun,
    Raise,
    RetryIn,
    RetryPolicy,
    decide,
)
from workflow_worker.errors.verdict import Fail, Park, Verdict
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.recovery import Recovery

T, R, P = ErrorKind.TRANSIENT, ErrorKind.RECOVERABLE, ErrorKind.PERMANENT


class Fixed:
    """A source that always gives the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


MOST = Fixed(1 - 2**-53)


def after(kind: ErrorKind, attempt: int, policy: RetryPolicy | None = None, used: int = 0, **more: Any) -> Decision:
    return decide(policy or RetryPolicy(), Verdict(kind, "test", **more), attempt, used, MOST, 4)


STEADY = RetryPolicy(jitter="none", exhausted=Fail())
EIGHT = RetryPolicy(attempts=8, initial=timedelta(milliseconds=200), cap=30, jitter="none", exhausted=Park("payments"))

OUTCOMES: list[tuple[ErrorKind, int, int, RetryPolicy | None, Decision]] = [
    (P, 1, 0, None, ParkRun()),
    (P, 1, 0, STEADY, ParkRun()),
    (T, 1, 0, None, RetryIn(50)),
    (T, 2, 1, None, RetryIn(50)),
    (T, 3, 2, None, RetryIn(1_000)),
    (T, 4, 3, None, ParkRun()),
    (T, 4, 3, STEADY, Raise()),
    (R, 1, 0, None, RetryIn(1_000)),
    (R, 2, 0, None, RetryIn(4_000)),
    (R, 3, 0, None, RetryIn(16_000)),
    (R, 4, 0, None, ParkRun()),
    (R, 4, 0, STEADY, Raise()),
    (R, 3, 2, None, RetryIn(1_000)),
    (R, 1, 0, EIGHT, RetryIn(200)),
    (R, 7, 0, EIGHT, RetryIn(30_000)),
    (R, 8, 0, EIGHT, ParkRun("payments")),
    (R, 1, 0, RetryPolicy(attempts=1, exhausted=Fail()), Raise()),
]


@pytest.mark.parametrize(("kind", "attempt", "used", "policy", "outcome"), OUTCOMES)
def test_class_of_error_and_policy_give_the_outcome(
    kind: ErrorKind, attempt: int, used: int, policy: RetryPolicy | None, outcome: Decision
) -> None:
    assert after(kind, attempt, policy, used) == outcome


def test_a_permanent_error_does_what_its_rule_says() -> None:
    assert after(P, 1, outcome=Fail()) == Raise()
    assert after(P, 1, outcome=Park("who")) == ParkRun("who")


def test_retry_after_is_a_minimum_and_at_most_an_hour() -> None:
    assert after(R, 1, STEADY, retry_after_ms=9_000) == RetryIn(9_000)
    assert after(R, 3, STEADY, retry_after_ms=9_000) == RetryIn(16_000)
    assert after(R, 1, retry_after_ms=9_000) == RetryIn(10_000)
    assert after(R, 1, STEADY, retry_after_ms=10**12) == RetryIn(RETRY_AFTER_CAP_MS)
    assert after(T, 1, retry_after_ms=9_000) == RetryIn(9_050)


def test_decisions_have_the_words_that_facts_report() -> None:
    assert [RetryIn(1).word, Raise().word, ParkRun().word] == ["retry", "raise", "park"]


@given(
    kind=st.sampled_from(ErrorKind),
    attempts=st.none() | st.integers(1, 50),
    attempt=st.integers(1, 60),
    used=st.integers(0, 5),
    initial=st.integers(0, 100_000),
    factor=st.floats(1, 100),
    extra=st.integers(0, 10_000_000),
    jitter=st.sampled_from(["full", "none"]),
    number=st.floats(0, 1, exclude_max=True),
    wanted=st.none() | st.integers(0, 10**15),
)
def test_waits_are_in_bounds_and_attempts_never_exceeded(
    kind: ErrorKind,
    attempts: int | None,
    attempt: int,
    used: int,
    initial: int,
    factor: float,
    extra: int,
    jitter: Literal["full", "none"],
    number: float,
    wanted: int | None,
) -> None:
    policy = RetryPolicy(
        attempts=attempts,
        initial=timedelta(milliseconds=initial),
        factor=factor,
        cap=timedelta(milliseconds=initial + extra),
        jitter=jitter,
    )
    decision = decide(policy, Verdict(kind, "test", wanted), attempt, used, Fixed(number), 4)
    if kind is P or attempt >= (attempts or 4):
        assert decision == ParkRun()
        return
    assert isinstance(decision, RetryIn)
    least = min(wanted or 0, RETRY_AFTER_CAP_MS)
    assert least <= decision.delay_ms <= least + max(policy.cap_ms, TRANSIENT_JITTER_MS)


@given(st.integers(0, 10_000), st.floats(1, 1e300))
def test_backoff_grows_to_its_cap_and_never_overflows(retries: int, factor: float) -> None:
    policy = RetryPolicy(factor=factor)
    assert policy.backoff_ms(retries) <= policy.backoff_ms(retries + 1) <= policy.cap_ms


@pytest.mark.parametrize("retry_after_ms", [None, 60_000])
@pytest.mark.parametrize("attempt", [2, 3])
def test_two_thousand_failures_at_once_come_back_spread(attempt: int, retry_after_ms: int | None) -> None:
    """Assumes waits of at least 4 s (the second retry on): 40 buckets of 100 ms, 50 expected in each. Shorter waits
    hold fewer buckets and cannot spread 2,000 thinner; a bucket three times the mean is then over ten sigma away."""
    random = Random(7)
    verdict = Verdict(R, "test", retry_after_ms)
    policy = RetryPolicy()
    waits: list[int] = []
    for _ in range(2_000):
        decision = decide(policy, verdict, attempt, 0, random, 4)
        assert isinstance(decision, RetryIn)
        waits.append(decision.delay_ms)
    buckets = Counter(wait // 100 for wait in waits)
    mean = len(waits) / (policy.backoff_ms(attempt - 1) / 100)
    assert max(buckets.values()) <= 3 * mean
    assert min(waits) >= (retry_after_ms or 0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attempts": 0}, "attempts=0"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"initial": 10, "cap": 5}, "is less than initial"),
        ({"jitter": "some"}, "jitter='some'"),
        ({"exhausted": "park"}, "exhausted='park'"),
        ({"initial": -1}, "not usable as a duration"),
    ],
)
def test_unusable_policies_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        RetryPolicy(Rule(ValueError).transient(), **options)


def test_what_is_not_a_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="takes rules"):
        RetryPolicy(ValueError)  # pyright: ignore[reportArgumentType] - what is tested


@pytest.mark.parametrize(
    ("attempt", "wait", "delay"),
    [(1, None, 0), (1, 7_000, 7_000), (2, None, 1_000), (3, None, 4_000), (3, 7_000, 7_000)],
)
def test_a_first_recovery_waits_for_nothing_and_later_ones_like_retries(
    attempt: int, wait: int | None, delay: int
) -> None:
    recovery = Recovery("renew")
    policy = RetryPolicy(jitter="none", initial=0.25)
    found = after(R, attempt, policy, recovery=recovery, retry_after_ms=wait)
    assert found == RetryIn(delay, recovery)


def test_behind_the_last_attempt_there_is_no_recovery() -> None:
    assert after(R, 4, RetryPolicy(exhausted=Park("late")), recovery=Recovery("renew")) == ParkRun("late")
