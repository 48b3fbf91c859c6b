"""A broken seed tells its story, and is broken with fewer faults too."""

from __future__ import annotations

import functools

from tests.simulation.__main__ import read_arguments, shrink
from tests.simulation.world import Outcome, simulate
from workflow_worker.store.memory.machine.rules import Rule

OFF = frozenset({Rule.OWNER_CHECK, Rule.TOKEN_CHECK})


@functools.cache
def broken_seed() -> int:
    """The first seed that misses these rules."""
    return next(seed for seed in range(60) if simulate(seed, OFF, dense=True).violation)


def test_a_story_names_options_faults_and_the_last_calls() -> None:
    outcome = simulate(broken_seed(), OFF, dense=True)
    assert "options: loss " in outcome.story
    assert "faults until " in outcome.story
    assert "the last 30 calls:" in outcome.story
    assert len(outcome.story.splitlines()) >= 33


def test_faults_that_are_not_needed_are_left_out() -> None:
    seed = broken_seed()

    def replay(spared: frozenset[int]) -> Outcome:
        return simulate(seed, OFF, dense=True, spared=spared)

    whole = replay(frozenset())
    smaller, spared = shrink(whole, replay, whole.faults)
    assert smaller.violation
    assert spared
    assert replay(spared).violation == smaller.violation


def test_the_command_line() -> None:
    given = read_arguments(["--level", "2", "--seed", "7", "--dense", "--off", "SEEN"])
    assert (given.first, given.count, given.level, given.dense, given.off) == (7, 1, 2, True, {Rule.SEEN})
