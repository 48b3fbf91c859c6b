"""Hundreds of worlds: no event is lost, doubled or reordered, and everything comes to its end."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.world import Outcome, simulate

CHUNK = 50
SEEDS = 300
"""Of each kind, plain and dense, in the normal suite."""

CHAOS_SEEDS = 10_000
CHAOS_CHUNK = 500

LEAST = {
    "events": 1_500,
    "failovers": 20,
    "fault kill": 15,
    "fault pause": 15,
    "fault loop pause": 15,
    "fault outage": 15,
    "fault clock": 15,
    "fault drain": 15,
    "hangs": 3,
    "requests lost": 100,
    "replies lost": 15,
    "requests late": 15,
    "commit ok": 2_000,
    "commit fenced": 10,
    "commit mail": 50,
    "commit again": 5,
    "commit conflict": 1,
    "ingests again": 5,
    "takeovers": 100,
    "sessions lost": 30,
    "early": 50,
    "claimed": 20,
    "kept": 1,
    "unclaimed": 20,
    "duplicate": 50,
    "dead": 100,
    "cancel": 5,
    "resume": 20,
    "redrive": 10,
    "drop": 1,
    "suspended by poison": 1,
    "runs purged": 100,
    "runs cancelled": 1,
    "cache hits": 100,
    "rounds": 50,
    "quarantines": 3,
    "fault memory": 15,
    "publishes full": 10,
}
"""What 50 seeds must have exercised: what did not happen was not tested."""


def replay(outcome: Outcome, *, dense: bool) -> str:
    """How to see a broken seed again."""
    command = f"python -m tests.simulation --seed {outcome.seed} -v{' --dense' * dense}"
    return f"{outcome.violation}\n{outcome.story}\nreplay: {command}"


def run_seeds(first: int, count: int, *, dense: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in range(first, first + count):
        outcome = simulate(seed, dense=dense)
        assert not outcome.violation, replay(outcome, dense=dense)
        counts.update(outcome.counts)
    return counts


@pytest.mark.timeout(180)
@pytest.mark.parametrize("dense", [False, True], ids=["plain", "dense"])
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_event_has_one_fate_and_every_run_its_end(first: int, dense: bool) -> None:
    counts = run_seeds(first, CHUNK, dense=dense)
    scarce = {name: counts[name] for name, least in LEAST.items() if counts[name] < least}
    assert not scarce, f"not exercised enough: {scarce}"
    assert not dense or counts["failovers aimed"] >= 20


@pytest.mark.parametrize("dense", [False, True], ids=["plain", "dense"])
def test_the_same_seed_gives_the_same_trace(dense: bool) -> None:
    once, again = simulate(7, dense=dense), simulate(7, dense=dense)
    assert (once.trace, once.counts) == (again.trace, again.counts)
    assert once.trace != simulate(8, dense=dense).trace


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dense", [False, True], ids=["plain", "dense"])
@pytest.mark.parametrize("first", range(100_000, 100_000 + CHAOS_SEEDS, CHAOS_CHUNK))
def test_twenty_thousand_worlds(first: int, dense: bool) -> None:
    run_seeds(first, CHAOS_CHUNK, dense=dense)
