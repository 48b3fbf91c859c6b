"""What one call and one list may grow to, and what the caller of an ingest is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.actor import LIMITS, Actor, Clock
from tests.contract.conftest import actor_and_raw
from tests.support.servers import RunningServer
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import (
    CROWDED_ERROR,
    LETTERS_TOLD,
    CommitOutcome,
    Emit,
    Fates,
    Ingest,
    Ingested,
    Letter,
    Mode,
    Publish,
    Renewed,
)

HEAVY = replace(LIMITS, mailbox_cap=1_000, early_cap=1_000, mailbox_cap_bytes=100_000, copies_cap=1_000)


async def ingest(actor: Actor, room: int = 200) -> Ingested:
    """All that the call told."""
    actor.number += 1
    outcome = await actor.store.ingest(Ingest(actor.session, actor.number, room, "m1"))
    assert isinstance(outcome, Ingested)
    return outcome


async def test_a_call_leaves_the_rest_after_so_many_copies(actor: Actor) -> None:
    runs = [await actor.started(subject) for subject in "abc"]
    for run in runs:
        await actor.commit(run, waits_added=(("order.paid", "z"),))
    for number in range(5):
        await actor.publish("order.paid", "z", event_id=f"m{number}")
    told = [await ingest(actor) for _ in range(4)]
    assert [outcome.read for outcome in told] == [2, 2, 1, 0]
    assert [outcome.fates.routed for outcome in told] == [2, 2, 1, 0]
    [loaded] = await actor.store.load(actor.session, [(runs[0].ref, runs[0].token)])
    assert loaded is not None
    assert [mail.event.id for mail in loaded.mail] == [f"m{number}" for number in range(5)]


async def test_a_bare_id_that_was_left_is_no_duplicate_of_itself(actor: Actor) -> None:
    runs = [await actor.started(subject) for subject in "abc"]
    for run in runs:
        await actor.commit(run, waits_added=(("order.paid", "z"),))
    for number in range(4):
        await actor.add_raw([b"id", b"b%d" % number, b"type", b"order.paid", b"subject", b"z"])
    assert [(await ingest(actor)).fates for _ in range(2)] == [Fates(routed=2), Fates(routed=2)]


async def test_a_wait_that_finds_no_room_suspends_its_run_until_there_is_some(actor: Actor) -> None:
    wait = ("order.paid", "z")
    runs = [await actor.started(subject) for subject in "abcd"]
    for run in runs[:3]:
        assert (await actor.commit(run, waits_added=(wait,))).word == "ok"
    assert (await actor.commit(runs[0], waits_added=(wait,))).word == "ok", "it waits already"
    late = actor.step(runs[3], Mode.RELEASE, waits_added=(("order.paid", "y"), wait), wake=actor.clock.now + 5)
    assert (await actor.store.commit([late]))[0] == CommitOutcome("fenced", now=actor.clock.now)
    assert (await actor.store.commit([late]))[0].word == "again"
    view = await actor.view(runs[3].ref)
    assert (view.status, view.error, view.owner, view.records) == ("suspended", CROWDED_ERROR, "", 1)
    assert (view.waits, view.wake) == ((), None), "none of them, and nothing wakes it"
    await actor.publish("order.paid", "z", event_id="first")
    await actor.ingest()
    assert (await actor.view(runs[3].ref)).mails == 0
    await actor.commit(runs[0], taken=(), waits_removed=(wait,))
    assert await actor.store.resume(runs[3].ref, b"resumed", "ops") == "ok"
    [again] = await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(again.ref, again.token)])
    assert loaded is not None
    told = await actor.commit(again, waits_added=(wait,), base=loaded.cid)
    assert (told.word, told.held) == ("ok", True)
    assert (await actor.view(again.ref)).waits == (wait,)


async def test_a_wait_that_finds_no_room_ends_an_execution_under_way(actor: Actor) -> None:
    wait = ("order.paid", "z")
    runs = [await actor.started(subject) for subject in "abcd"]
    for run in runs[:3]:
        await actor.commit(run, waits_added=(wait,))
    await actor.publish("order.paid", "d", event_id="mail")
    await actor.ingest()
    outcome = await actor.commit(runs[3], waits_added=(wait,), state=b"1")
    assert (outcome.word, outcome.held) == ("fenced", False)
    view = await actor.view(runs[3].ref)
    assert (view.status, view.mails, view.state) == ("suspended", 1, b"1"), "its mail waits with it"
    renewed = await actor.store.renew(actor.session, [(run.ref, run.token) for run in runs])
    assert isinstance(renewed, Renewed)
    assert renewed.lost == ((runs[3].ref, runs[3].token),)


async def test_what_runs_send_each_other_may_be_larger_than_events(actor: Actor) -> None:
    parent, child = await actor.started("1"), await actor.started("2")
    told = Event("", "ww.child", data=b"x" * (LIMITS.max_event_bytes + 1))
    await actor.commit(child, emits=(Emit(1, told, "fulfil", "order-1"),))
    await actor.commit(child, emits=(Emit(2, Event("", "order.paid", "9", told.data)),))
    await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(parent.ref, parent.token)])
    assert loaded is not None
    assert [mail.event.type for mail in loaded.mail] == ["ww.child"]
    assert await actor.reasons() == ["too big"], "what an author sends is an event like any other"
    await actor.add_raw([b"type", b"ww.child", b"data", told.data, b"workflow", b"fulfil", b"run", b"order-1"])
    await actor.ingest()
    assert await actor.reasons() == ["too big"] * 2, "a stranger's is no answer"


async def test_copies_that_find_no_room_count_too(actor: Actor) -> None:
    for subject in "abc":
        await actor.commit(await actor.started(subject), waits_added=(("order.paid", "z"),))
    for _ in range(LIMITS.mailbox_cap + 3):
        await actor.publish("order.paid", "z")
    assert [(await ingest(actor)).read for _ in range(5)] == [2, 2, 2, 2, 0]
    assert len(await actor.reasons()) == 9


async def test_fates_and_letters_are_told(actor: Actor) -> None:
    await actor.publish("order.placed", "1", event_id="a")
    await actor.publish("order.paid", "2", event_id="b")
    await actor.publish("what", "3", event_id="c")
    await actor.add_raw([b"type", b"\xff\xfe", b"subject", b"4"])
    for _ in range(2):
        await actor.add_raw([b"id", b"d", b"type", b"order.paid", b"subject", b"2"])
    outcome = await ingest(actor)
    assert outcome.fates == Fates(routed=1, early=2, duplicate=1, dead=2)
    ids = [letter.id for letter in await actor.store.dead_letters()]
    assert outcome.letters == (
        Letter(ids[0], "undeclared", "what"),
        Letter(ids[1], "not utf-8", "\\xff\\xfe"),
    )
    again = await actor.store.ingest(Ingest(actor.session, actor.number, 200, "m1"))
    assert isinstance(again, Ingested)
    assert (again.again, again.fates, again.letters) == (True, Fates(), ())


async def test_letters_of_copies_name_their_run_and_only_some_are_told(actor: Actor) -> None:
    run = await actor.started("1")
    for number in range(LIMITS.mailbox_cap + 1):
        await actor.publish("order.paid", "1", event_id=f"m{number}")
    outcome = await ingest(actor, LIMITS.mailbox_cap + 1)
    assert [(letter.reason, letter.type, letter.run) for letter in outcome.letters] == [
        ("too many: mail of the run", "order.paid", run.ref)
    ]
    for _ in range(LETTERS_TOLD + 5):
        await actor.publish("what", "1")
    outcome = await ingest(actor)
    assert (outcome.fates.dead, len(outcome.letters)) == (LETTERS_TOLD + 5, LETTERS_TOLD)


async def test_quarantine_tells_its_letter(actor: Actor) -> None:
    await actor.publish("order.placed", "1")
    request = Ingest(actor.session, 1, 5, "m1", quarantine=True, reason="why")
    outcome = await actor.store.ingest(request)
    assert isinstance(outcome, Ingested)
    assert (outcome.fates, [letter.reason for letter in outcome.letters]) == (Fates(dead=1), ["quarantined: why"])


@pytest.mark.parametrize(
    ("event", "workflow"),
    [
        (Event("é" * 251, "news.x"), None),
        (Event("a", "news." + "x" * 500), None),
        (Event("a", "news.x", "x" * 501), None),
        (Event("a", "news.x"), "w" * 501),
        (Event("a", "news.x", "\ud800"), None),
    ],
    ids=["id", "type", "subject", "workflow", "surrogate"],
)
async def test_publish_refuses_what_ingest_would_not_take(actor: Actor, event: Event, workflow: str | None) -> None:
    good = Publish(Event("good", "news.x"))
    with pytest.raises(EventRejected):
        await actor.store.publish([good, Publish(event, workflow=workflow, run=workflow and "r")])
    assert (await actor.store.depth()).events == 0


# ------------------------------------------------------------------------------------------------------------- bytes


async def _weigh(actor: Actor) -> None:
    """Two lists of bodies that are few, but too heavy together."""
    data = b'"' + b"x" * 10_000 + b'"'
    run = await actor.started("1")
    for _ in range(15):
        await actor.publish("order.paid", "1", data=data)
        await actor.publish("order.paid", "early", data=data)
    for _ in range(15):
        await ingest(actor, 2)
    assert (await actor.view(run.ref)).mails in (10, 11)
    early = 15 - (await actor.reasons()).count("too many: early events of the subject")
    assert early in (10, 11)
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    waits = (("order.paid", "early"),)
    step = actor.step(run, taken=loaded.mail[:3], waits_added=waits)
    [outcome] = await actor.store.commit([step])
    assert outcome.word == "ok"
    # Three went, so about three came of those that wait; the other copies are letters of the run.
    assert len(outcome.mail) in (9, 10, 11)
    assert (await actor.reasons()).count("too many: mail of the run") in range(11, 15)


async def test_lists_are_bounded_by_bytes_in_memory() -> None:
    clock = Clock()
    store = MemoryStore(HEAVY, clock)

    async def add_raw(fields: object) -> str:
        raise AssertionError(fields)

    await _weigh(await Actor(store, clock, add_raw).begin())


async def test_lists_are_bounded_by_bytes_on_a_server(server: RunningServer) -> None:
    async with actor_and_raw(server, HEAVY) as (actor, _):
        await _weigh(actor)


async def test_many_small_ones_are_not_weighed_wrong(server: RunningServer) -> None:
    async with actor_and_raw(server, HEAVY) as (actor, _):
        run = await actor.started("1")
        for _ in range(40):
            await actor.publish("order.paid", "1")
        await ingest(actor)
        assert (await actor.view(run.ref)).mails == 40
        assert await actor.reasons() == []


@pytest.mark.parametrize(
    ("size", "extra", "reasons"), [(20_000, 0, []), (20_001, 0, ["too big"]), (20_000, 16_384, ["too big"])]
)
async def test_data_is_bounded_and_names_besides_it(actor: Actor, size: int, extra: int, reasons: list[str]) -> None:
    fields = [b"type", b"news.x", b"subject", b"1", b"data", b"x" * size]
    await actor.add_raw([*fields, *([b"more", b"y" * extra] if extra else [])])
    await actor.ingest()
    assert await actor.reasons() == reasons
