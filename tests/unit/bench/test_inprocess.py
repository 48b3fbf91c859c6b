"""The worker measured without a server: every run is executed and ends."""

from __future__ import annotations

import pytest
from bench.inprocess import KINDS, SETTINGS, EndlessStore, cost_of

from workflow_worker.model.ids import SessionId
from workflow_worker.store.transitions import Ingest


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_costs_something(kind: str, settings: str) -> None:
    assert await cost_of(kind, SETTINGS[settings], 30) > 0


async def test_the_store_leases_what_there_is_room_for_until_all_are_made() -> None:
    store = EndlessStore("noop", 5)
    leased = [len((await store.ingest(Ingest(SessionId("s"), number, 3, "mark"))).runs) for number in (1, 2, 3)]
    assert leased == [3, 2, 0]
