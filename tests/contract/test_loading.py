"""Histories of many runs in one call: in order, each only for its holder, and no call without end."""

from __future__ import annotations

import pytest

from tests.contract.actor import Actor
from workflow_worker.model.ids import RunRef
from workflow_worker.store.bounds import LOADED_AT_ONCE, MOST_PER_CALL
from workflow_worker.store.transitions import LeasedRun, Mode


async def _three(actor: Actor) -> list[LeasedRun]:
    """Three runs, the first with one record, the second with two."""
    for subject in "123":
        await actor.publish("order.placed", subject, event_id=f"start {subject}")
    runs = await actor.ingest()
    await actor.commit(runs[0], records=(b"a",))
    await actor.commit(runs[1], records=(b"b", b"c"))
    return runs


async def test_each_run_is_answered_in_its_place(actor: Actor) -> None:
    one, two, three = await _three(actor)
    await actor.publish("order.paid", "1", event_id="paid")
    await actor.ingest()
    await actor.commit(two, Mode.RELEASE)
    asked = [(run.ref, run.token) for run in (two, one, three)]
    gone, first, third, nobody = await actor.store.load(actor.session, [*asked, (RunRef("fulfil:none"), 1)])
    assert gone is None
    assert nobody is None
    assert first is not None
    assert third is not None
    assert (first.records, [mail.event.id for mail in first.mail]) == ((b"a",), ["paid"])
    assert (third.records, third.mail, third.start.event.id) == ((), (), "start 3")
    assert first.cid != third.cid
    other = await actor.other("s2")
    assert await other.store.load(other.session, asked) == [None, None, None]


async def test_what_is_long_leaves_the_others_to_the_next_call(actor: Actor) -> None:
    one, two, three = await _three(actor)
    await actor.commit(one, records=(b"r",) * (LOADED_AT_ONCE - 2))
    asked = [(run.ref, run.token) for run in (one, two, three)]
    assert [len(loaded.records) for loaded in await actor.store.load(actor.session, asked) if loaded] == [
        LOADED_AT_ONCE - 1,
        2,
    ]
    await actor.publish("order.paid", "1")
    await actor.ingest()
    assert [len(loaded.mail) for loaded in await actor.store.load(actor.session, asked) if loaded] == [1]
    assert len(await actor.store.load(actor.session, asked[1:])) == 2


async def test_no_call_asks_for_more_than_it_may(actor: Actor) -> None:
    pair = RunRef("fulfil:none"), 1
    assert await actor.store.load(actor.session, [pair] * MOST_PER_CALL) == [None] * MOST_PER_CALL
    with pytest.raises(ValueError, match="at most 200"):
        await actor.store.load(actor.session, [pair] * (MOST_PER_CALL + 1))
