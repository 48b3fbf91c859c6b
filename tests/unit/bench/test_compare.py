"""`make bench-compare`: what counts as a regression."""

from __future__ import annotations

import json

import pytest
from bench.compare import BASELINE, COMPARED, WORSE_BY, better_of, judged, table, worse

THEN = {"noop": 1.0, "latency": 50.0, "worker": 2.0}


def test_a_lower_rate_and_a_higher_cost_are_both_worse() -> None:
    changes = judged({"noop": 0.5, "latency": 100.0, "worker": 1.0}, THEN)
    assert changes == {"noop": pytest.approx(1.0), "latency": pytest.approx(1.0), "worker": pytest.approx(-0.5)}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"noop": 0.99 / (1 + WORSE_BY)}, ["noop"]),
        ({"noop": 1.01 / (1 + WORSE_BY)}, []),
        ({"latency": 50.5 * (1 + WORSE_BY)}, ["latency"]),
        ({"latency": 49.5 * (1 + WORSE_BY)}, []),
        ({"noop": 9.0, "latency": 1.0}, []),
    ],
)
def test_only_what_is_worse_by_more_than_the_limit_fails(now: dict[str, float], expected: list[str]) -> None:
    assert worse(now, THEN) == expected


def test_a_figure_without_a_baseline_is_not_judged_but_shown_as_new() -> None:
    assert worse({"workflows": 0.0001}, THEN) == []
    assert table({"workflows": 0.5}, THEN).splitlines()[1].endswith("new")


def test_the_second_try_counts_where_it_is_better() -> None:
    first, second = {"noop": 1.0, "latency": 40.0}, {"noop": 0.8, "latency": 30.0, "worker": 1.0}
    assert better_of(first, second) == {"noop": 1.0, "latency": 30.0, "worker": 1.0}


def test_a_regression_is_named_in_the_table() -> None:
    [_, noop, latency] = table({"noop": 0.5, "latency": 45.0}, THEN).splitlines()
    assert "REGRESSION" in noop
    assert latency.endswith("10% better")


def test_the_committed_baseline_has_every_figure_and_nothing_else() -> None:
    baseline = json.loads(BASELINE.read_text())
    assert set(baseline) == set(COMPARED)
    assert all(value > 0 for value in baseline.values())
