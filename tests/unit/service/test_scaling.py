"""Which workers start and stop, and when the dead come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_worker.model.exceptions import UsageError
from workflow_worker.service.scaling import Plan, SlotView, check_count, next_delay, plan

UP = [SlotView(number, alive=True) for number in range(4)]


@pytest.mark.parametrize(
    ("slots", "wanted", "expected"),
    [
        ([], 2, Plan((0, 1), (), None)),
        (UP[:1], 4, Plan((1, 2, 3), (), None)),
        (UP, 2, Plan((), (3, 2), None)),
        (UP, 0, Plan((), (3, 2, 1, 0), None)),
        (UP, 4, Plan((), (), None)),
        ([SlotView(0, alive=False, restart_at=100)], 1, Plan((0,), (), None)),
        ([SlotView(0, alive=False, restart_at=101)], 1, Plan((), (), 101)),
        ([SlotView(0, alive=False, restart_at=None)], 1, Plan((), (), None)),
        ([SlotView(0, alive=False, restart_at=101), SlotView(1, alive=False, restart_at=7)], 2, Plan((1,), (), 101)),
        ([SlotView(0, alive=False, restart_at=999)], 0, Plan((), (0,), None)),
    ],
)
def test_plan(slots: list[SlotView], wanted: int, expected: Plan) -> None:
    assert plan(slots, wanted, now=100) == expected


@given(st.sets(st.integers(0, 20)), st.integers(0, 20))
def test_a_plan_ends_with_what_is_wanted(alive: set[int], wanted: int) -> None:
    made = plan([SlotView(number, alive=True) for number in alive], wanted, now=0)
    assert (alive | set(made.start)) - set(made.stop) == set(range(wanted))


def test_delays_double_to_five_seconds_and_begin_anew_after_ten_of_life() -> None:
    delays = [next_delay(0, 50)]
    while len(delays) < 8:
        delays.append(next_delay(delays[-1], 50))
    assert delays == [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
    assert next_delay(5_000, 9_999) == 5_000
    assert next_delay(5_000, 10_000) == 100


def test_a_worker_that_somebody_kills_is_replaced_at_once_if_it_had_worked() -> None:
    assert next_delay(1_600, 1_000, killed=True) == 100
    assert next_delay(1_600, 999, killed=True) == 3_200


@pytest.mark.parametrize("count", [0, -1, 257])
def test_counts_that_cannot_be(count: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 256"):
        check_count(count)
    assert check_count(1) == 1
    assert check_count(256) == 256
