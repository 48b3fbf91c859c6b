"""The judge must be shown to judge: a machine with a rule switched off is caught within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.world import simulate
from workflow_worker.store.memory.machine.rules import Rule

QUICK = [
    Rule.VIA_SKIPS_SEEN,
    Rule.SEEN,
    Rule.EARLY_TAKEN,
    Rule.EARLY_FOR_EVERY_RUN,
    Rule.KEEP_BESIDE_WAIT,
    Rule.SUBJECT_COPIES,
    Rule.RESTART,
    Rule.COPY_TO_ITS_RUN,
    Rule.ONE_READY_ENTRY,
    Rule.SESSION_CHECK,
    Rule.RENEW_NEVER_CREATES,
    Rule.RENEW_DIFFERENCE,
    Rule.NUMBERED_INGEST,
    Rule.COMMIT_ONCE,
    Rule.BASE_CHAIN,
    Rule.MAIL_RULE,
    Rule.WAIT_LOOKS_EARLY,
    Rule.WAIT_KEEPS_LEASE,
    Rule.EMIT_ONCE,
    Rule.EMIT_NAMES_START,
    Rule.RESTART_CLEARS,
    Rule.ANSWERS_DROPPED,
    Rule.TOKEN_RISES,
    Rule.TOKEN_CHECK,
    Rule.NAMED_MAIL,
    Rule.LEASE_ENDS_WAKE,
]
QUICK_SEEDS = 40

SLOW = [Rule.OWNER_CHECK, Rule.HIGHEST_TOKEN, Rule.CANCEL_WAKES]
SLOW_SEEDS = 400

ids = [rule.name.lower().replace("_", "-") for rule in QUICK]


def seeds_needed(off: frozenset[str], most: int) -> tuple[int, str]:
    """How many dense seeds it takes to catch a mutant, and by which broken promise; 0 when it survives them all."""
    for seed in range(most):
        outcome = simulate(seed, off, dense=True)
        if outcome.violation:
            return seed + 1, outcome.violation
    return 0, ""


@pytest.mark.parametrize("rule", QUICK, ids=ids)
def test_a_missing_rule_is_caught_soon(rule: Rule) -> None:
    needed, promise = seeds_needed(frozenset({rule}), QUICK_SEEDS)
    print(f"{rule.name}: {needed} seeds, {promise[:100]}")
    assert needed, f"{rule.name} ({rule}) survived {QUICK_SEEDS} seeds"


def test_no_fence_at_all_is_caught_soon() -> None:
    needed, _ = seeds_needed(frozenset({Rule.OWNER_CHECK, Rule.TOKEN_CHECK}), QUICK_SEEDS)
    assert needed


@pytest.mark.chaos
@pytest.mark.parametrize("rule", SLOW, ids=[rule.name.lower().replace("_", "-") for rule in SLOW])
def test_a_missing_rule_is_caught_in_the_end(rule: Rule) -> None:
    needed, promise = seeds_needed(frozenset({rule}), SLOW_SEEDS)
    print(f"{rule.name}: {needed} seeds, {promise[:100]}")
    assert needed, f"{rule.name} ({rule}) survived {SLOW_SEEDS} seeds"


def test_every_rule_has_its_mutant() -> None:
    assert set(QUICK) | set(SLOW) == set(Rule)
