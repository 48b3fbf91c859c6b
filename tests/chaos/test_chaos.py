"""Events keep their promises while everything around them dies, hangs and comes back; see docs/reliability.md.

The small run is part of the ordinary tests; the large ones are `make chaos`, and ``python -m tests.chaos`` makes any.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.arena import Scale
from tests.chaos.faults import MEASURED, SHARES, calms_of, deal
from tests.chaos.report import document, markdown, not_exercised, too_slow
from tests.chaos.run import Outcome, run
from tests.chaos.workload import plan


def demand(outcome: Outcome, folder: Path) -> None:
    """Nothing lost, doubled, reordered, torn or stuck, and enough of everything to say so."""
    (folder / "outcome.json").write_bytes(document(outcome))
    print("\n" + markdown(outcome))
    assert outcome.verdict.good, f"{outcome.verdict}; evidence in {folder}"
    assert not not_exercised(outcome), f"{not_exercised(outcome)}; see {folder}"


@pytest.mark.chaos
@pytest.mark.timeout(150)
async def test_nothing_is_lost_or_doubled_in_a_small_storm(tmp_path: Path) -> None:
    scale = Scale(events=2_500, faults=40, seed=11, seconds=12, lease_ms=1_000)
    demand(await run(scale, tmp_path), tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("server", ["valkey-9.1", "redis-8.2"])
async def test_nothing_is_lost_or_doubled_in_a_large_storm(server: str, tmp_path: Path) -> None:
    scale = Scale(server=server, events=100_000, faults=500, seed=2, seconds=330, slow=True)
    outcome = await run(scale, tmp_path)
    demand(outcome, tmp_path)
    assert outcome.faults_in_all >= 500
    assert not too_slow(outcome)


def test_the_plan_and_the_deck_follow_from_their_seed() -> None:
    assert list(plan(5, 300)) == list(plan(5, 300))
    assert list(plan(5, 300)) != list(plan(6, 300))
    assert deal(200, 5) == deal(200, 5) != deal(200, 6)


def test_a_large_deck_holds_every_kind_of_fault_and_a_small_one_no_kind_twice() -> None:
    assert set(deal(100, 1)) == set(SHARES)
    assert len(deal(100, 1)) == 100
    small = deal(10, 1)
    assert len(small) == len(set(small)) == 10


def test_a_twentieth_of_the_faults_comes_alone_in_calms() -> None:
    assert calms_of(None, 10) == []
    assert calms_of(None, 100) == [list(MEASURED[:5])]
    assert calms_of(None, 5_000) == [list(MEASURED)] * 4
    assert calms_of(3, 0, ("redis killed", "worker killed")) == [["redis killed", "worker killed"], ["redis killed"]]


def test_every_planned_event_promises_what_its_kind_can_keep() -> None:
    planned = list(plan(3, 4_000))
    ids = [each.promise.id for each in planned if each.promise.id]
    assert len(set(ids)) == len(ids)
    opened = {ref for each in planned if each.promise.fate == "starts" for ref in each.promise.runs}
    wanted = {ref for each in planned if each.promise.fate == "mail" for ref in each.promise.runs}
    assert wanted <= opened, "mail for a run that nothing starts"
    noted = {each.promise.runs[0]: 0 for each in planned if each.promise.kind == "opened"}
    for each in planned:
        if each.promise.kind == "noted":
            noted[each.promise.runs[0]] += 1
            assert each.promise.order == noted[each.promise.runs[0]], "notes of a ledger are numbered in order"
