"""Figures: percentiles, medians over repetitions, and how they are written."""

from __future__ import annotations

import pytest
from bench.figures import FIGURES, median_of, percentile, spread_of


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_a_percentile_is_one_of_the_values_by_nearest_rank(share: float, expected: float) -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, share) == expected


def test_a_median_is_taken_over_the_repetitions_that_have_the_figure() -> None:
    runs = [{"noop_1": 10.0}, {"noop_1": 30.0, "timers_s": 2.0}, {"noop_1": 20.0}]
    assert median_of(runs) == {"noop_1": 20.0, "timers_s": 2.0}
    assert spread_of(runs, "noop_1") == (10.0, 30.0)


def test_figures_keep_the_order_of_the_table_and_their_digits() -> None:
    assert list(median_of([{"latency_p50": 1.0, "publish": 2.0}])) == ["publish", "latency_p50"]
    assert FIGURES["latency_p50"].written(0.1234) == "0.12"
    assert FIGURES["publish"].written(74503.6) == "74,504"
