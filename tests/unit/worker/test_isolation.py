"""Who may be executed beside whom: a suspect alone, but neither for long nor before all others."""

from __future__ import annotations

from workflow_worker.model.ids import NO_COMMIT, RunRef
from workflow_worker.store.transitions import LeasedRun
from workflow_worker.worker.isolation import ALONE_S, NOT_BEFORE_MS, Isolation


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def leased(name: str, strikes: int = 0) -> LeasedRun:
    return LeasedRun(
        ref=RunRef(name), token=1, cid=NO_COMMIT, version=1, created_at=0, strikes=strikes, start=None, mail=()
    )


def isolation() -> tuple[Isolation, Clock]:
    clock = Clock()
    return Isolation(3, clock), clock


ORDINARY = leased("o", 2)
FIRST, SECOND, THIRD = (leased(name, 3) for name in "abc")


def alone_for(own: Isolation, clock: Clock, run: LeasedRun, seconds: float) -> None:
    """The suspect is executed for so long, and then has made a record."""
    own.begin()
    clock.now += seconds
    assert own.recorded(run.ref)


def test_runs_with_a_chance_left_are_executed_together() -> None:
    own, _ = isolation()
    assert own.admit((ORDINARY, leased("p"))).kept == (ORDINARY, leased("p"))
    assert own.suspect is None
    assert not own.wary


def test_with_a_suspect_comes_nobody_else_and_the_next_ones_come_one_by_one() -> None:
    own, _ = isolation()
    admission = own.admit((ORDINARY, FIRST, SECOND))
    assert admission.kept == (FIRST,)
    assert admission.back == ((ORDINARY, 0), (SECOND, 0))
    assert own.suspect == FIRST.ref
    assert own.wary
    assert own.admit((leased("late"),)).back == ((leased("late"), 0),), "an ingest that was under way"


def test_company_that_has_killed_nobody_for_a_while_is_no_reason_to_wait_longer() -> None:
    own, clock = isolation()
    own.admit((FIRST,))
    assert own.may_begin(in_company=False)
    assert not own.may_begin(in_company=True)
    clock.now += ALONE_S
    assert own.may_begin(in_company=True)


def test_a_record_or_a_second_ends_it() -> None:
    own, clock = isolation()
    own.admit((FIRST,))
    own.begin()
    assert not own.recorded(ORDINARY.ref), "somebody else's"
    assert own.recorded(FIRST.ref)
    own.admit((SECOND,))
    own.begin()
    clock.now += ALONE_S
    assert own.alone_long_enough(SECOND.ref)
    assert own.suspect is None
    assert not own.alone_long_enough(SECOND.ref), "the timer of an earlier turn"


def test_beside_a_suspect_that_has_still_made_no_record_no_other_begins() -> None:
    own, clock = isolation()
    own.admit((FIRST,))
    own.begin()
    clock.now += ALONE_S
    own.alone_long_enough(FIRST.ref)
    clock.now += 10
    admission = own.admit((SECOND, ORDINARY))
    assert admission.kept == (ORDINARY,)
    assert admission.back == ((SECOND, NOT_BEFORE_MS),)
    assert own.watches
    own.recorded(FIRST.ref)
    assert own.admit((SECOND, ORDINARY)).kept == (SECOND,)


def test_when_suspects_have_used_up_a_second_others_have_one() -> None:
    own, clock = isolation()
    for run in (FIRST, SECOND):
        assert own.admit((run, ORDINARY)).kept == (run,)
        alone_for(own, clock, run, ALONE_S / 2)
    assert not own.wary, "the turn of the others, and many of them"
    admission = own.admit((THIRD, ORDINARY))
    assert admission.kept == (ORDINARY,)
    ((_, delay_ms),) = admission.back
    assert 0 < delay_ms <= 1000 * ALONE_S
    clock.now += ALONE_S - 0.01
    assert own.admit((THIRD,)).kept == (), "others came, so the turn is a whole one"
    clock.now += 0.02
    assert own.admit((THIRD, ORDINARY)).kept == (THIRD,)


def test_suspects_do_not_wait_for_others_that_are_not_there() -> None:
    own, clock = isolation()
    own.admit((FIRST,))
    alone_for(own, clock, FIRST, ALONE_S)
    ((_, delay_ms),) = own.admit((SECOND,)).back
    assert delay_ms <= 250
    clock.now += delay_ms / 1000
    assert own.admit((SECOND,)).kept == (SECOND,)


def test_a_worker_is_wary_for_a_few_ingests() -> None:
    own, clock = isolation()
    own.admit((FIRST,))
    alone_for(own, clock, FIRST, 0.01)
    for _ in range(5):
        assert own.wary
        own.admit((ORDINARY,))
    assert not own.wary
