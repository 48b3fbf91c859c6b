"""How events come in: published once, routed to everyone who should have them, early, duplicate or dead."""

from __future__ import annotations

import pytest

from tests.contract.actor import LIMITS, ROUTES, Actor
from workflow_worker.model.event import Event
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.transitions import (
    Ingest,
    Ingested,
    Mode,
    Publish,
    Registration,
    Route,
    SessionLost,
    Stale,
    StartRoute,
    Unregistered,
)


async def test_an_event_starts_its_run_once(actor: Actor) -> None:
    await actor.publish("order.placed", event_id="e1", data=b'{"a":1}')
    [run] = await actor.ingest()
    assert (run.ref, run.cid, run.mail, run.version) == ("fulfil:order-42", "", (), 1)
    assert run.start is not None
    assert (run.start.event.id, run.start.event.data) == ("e1", b'{"a":1}')
    assert await actor.ingest() == []


async def test_publish_answers_duplicate_for_a_known_id(actor: Actor) -> None:
    items = [Publish(Event("a", "news.x", "s")), Publish(Event("a", "news.x", "s")), Publish(Event("b", "news.x", "s"))]
    assert [done.duplicate for done in await actor.store.publish(items)] == [False, True, False]
    assert [done.duplicate for done in await actor.store.publish(items)] == [True, True, True]
    assert (await actor.store.depth()).events == 2


async def test_a_bare_id_counts_once(actor: Actor) -> None:
    for _ in range(2):
        await actor.add_raw([b"id", b"x", b"type", b"order.placed", b"subject", b"1"])
    assert len(await actor.ingest()) == 1
    assert (await actor.store.audit()).duplicate == 1


async def test_order_of_the_stream_is_the_order_of_the_mailbox(actor: Actor) -> None:
    run = await actor.started()
    for event_id in ("a", "b", "c"):
        await actor.publish("order.paid", event_id=event_id)
    await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    assert [mail.event.id for mail in loaded.mail] == ["a", "b", "c"]


async def test_early_events_wait_for_every_run_that_one_entry_creates(actor: Actor) -> None:
    await actor.publish("order.paid", event_id="early")
    await actor.publish("order.both")
    runs = await actor.ingest()
    assert [(run.ref, [mail.event.id for mail in run.mail]) for run in runs] == [
        ("left:42", ["early"]),
        ("right:42", ["early"]),
    ]


async def test_early_events_of_an_earlier_call_are_found(actor: Actor) -> None:
    await actor.publish("order.paid", event_id="early")
    assert await actor.ingest() == []
    [run] = [await actor.started()]
    assert [mail.event.id for mail in run.mail] == ["early"]


async def test_every_live_run_of_the_subject_gets_its_copy(actor: Actor) -> None:
    await actor.publish("order.both")
    await actor.ingest()
    await actor.publish("order.paid", event_id="p")
    await actor.ingest()
    renewed = await actor.store.renew(actor.session, [])
    assert not isinstance(renewed, SessionLost)
    assert set(renewed.mail) == {"left:42", "right:42"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([b"id", b"1"], "no type"),
        ([b"type", b""], "no type"),
        ([b"type", b"what"], "undeclared"),
        ([b"type", b"order.paid"], "subject missing"),
        ([b"type", b"news.x"], "nobody can receive it"),
        ([b"type", b"news.x", b"data", b"\xff"], "not utf-8"),
        ([b"type", b"news.x", b"data", b"\xed\xa0\x80"], "not utf-8"),
        ([b"type", b"news.x", b"a\xc3", b"\xa4b"], "not utf-8"),
        ([b"type", b"news.x", b"data", b"x" * 30_000], "too big"),
        ([b"type", b"wf.cancel"], "malformed: type begins with wf."),
        ([b"type", b"news.x", b"run", b"1"], "malformed: addressed without workflow"),
        ([b"type", b"news.x", b"run", b"1", b"workflow", b"a:b"], "malformed: workflow name with a colon"),
        ([b"type", b"news.x", b"run", b"1", b"workflow", b"fulfil"], "no such run"),
    ],
)
async def test_dead_letters_keep_the_raw_entry(actor: Actor, fields: list[bytes], reason: str) -> None:
    await actor.add_raw(fields)
    assert await actor.ingest() == []
    [letter] = await actor.store.dead_letters()
    assert (letter.reason, letter.raw, letter.run) == (reason, tuple(fields), "")


async def test_unusual_but_lawful_text_is_routed(actor: Actor) -> None:
    subject = "ä€😀 %d+(.-)[%a] \x00:history\n"
    await actor.add_raw(
        [b"type", b"order.placed", b"subject", subject.encode(), b"data", b'"\\u0000"', b"x\x00", b"\x00"]
    )
    [run] = await actor.ingest()
    assert run.ref == f"fulfil:order-{subject}"
    await actor.publish("order.paid", subject)
    await actor.ingest()
    view = await actor.view(run.ref)
    assert (view.subject, view.mails) == (subject, 1)


async def test_a_run_id_cannot_reach_into_another_runs_keys(actor: Actor) -> None:
    first = await actor.started("1")
    await actor.publish("order.placed", "1:history")
    [second] = await actor.ingest()
    await actor.commit(first)
    await actor.commit(second)
    assert await actor.store.history(first.ref) == await actor.store.history(second.ref) == [b"record"]


async def test_ten_megabytes_and_a_thousand_fields_are_survived(actor: Actor) -> None:
    await actor.add_raw([b"type", b"news.x", b"data", b"x" * 10_000_000])
    await actor.add_raw([b"type", b"order.placed", b"subject", b"7", *[b"f%d" % (i // 2) for i in range(2_000)]])
    [run] = await actor.ingest()
    assert run.ref == "fulfil:order-7"
    assert await actor.reasons() == ["too big"]


async def test_a_full_mailbox_sends_the_copy_to_dead(actor: Actor) -> None:
    await actor.started()
    for number in range(LIMITS.mailbox_cap + 1):
        await actor.publish("order.paid", event_id=f"p{number}")
    await actor.ingest()
    [letter] = await actor.store.dead_letters()
    assert letter.reason == "too many: mail of the run"
    assert (letter.run, letter.field("id")) == ("fulfil:order-42", f"p{LIMITS.mailbox_cap}")


async def test_a_full_early_list_sends_the_event_to_dead(actor: Actor) -> None:
    for _ in range(LIMITS.early_cap + 1):
        await actor.publish("order.paid")
    await actor.ingest()
    assert await actor.reasons() == ["too many: early events of the subject"]


async def test_a_subject_with_too_many_runs(actor: Actor) -> None:
    for _ in range(LIMITS.subject_cap + 1):
        await actor.publish("many")
    assert len(await actor.ingest()) == LIMITS.subject_cap
    assert await actor.reasons() == ["too many: live runs of the subject"]


async def test_events_for_an_ended_run_are_duplicates_or_start_anew(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.END)
    await actor.publish("order.placed")
    assert await actor.ingest() == []
    assert (await actor.store.audit()).duplicate == 1
    await actor.publish("order.again")
    [loop] = await actor.ingest()
    await actor.commit(loop, Mode.END, state=b"old")
    await actor.publish("order.again")
    [again] = await actor.ingest()
    assert (again.ref, again.cid) == (loop.ref, "")
    assert again.token > loop.token
    view = await actor.view(loop.ref)
    assert (view.records, view.state, view.status) == (0, None, "pending")


async def test_addressed_events(actor: Actor) -> None:
    await actor.publish("order.placed", "42", workflow="fulfil", run="special")
    [run] = await actor.ingest()
    assert run.ref == "fulfil:special"
    await actor.publish("order.paid", None, workflow="fulfil", run="special", event_id="x")
    await actor.publish("order.paid", "43", workflow="fulfil", run="special", event_id="y")
    await actor.ingest()
    assert await actor.reasons() == ["subject missing"]
    await actor.commit(run, Mode.END, taken=(await _mail(actor, run.ref, run.token)))
    await actor.publish("order.paid", "43", workflow="fulfil", run="special")
    await actor.ingest()
    assert (await actor.reasons())[1:] == ["run ended"]


async def _mail(actor: Actor, ref: str, token: int) -> tuple[object, ...]:
    [loaded] = await actor.store.load(actor.session, [(RunRef(ref), token)])
    assert loaded is not None
    return loaded.mail


async def test_room_leaves_the_rest_in_the_stream(actor: Actor) -> None:
    for number in range(5):
        await actor.publish("order.placed", str(number))
    assert len(await actor.ingest(2)) == 2
    assert (await actor.store.depth()).events == 3


async def test_repeated_ingest_answers_again_and_an_old_number_is_stale(actor: Actor) -> None:
    await actor.publish("order.placed")
    request = Ingest(actor.session, 1, 5, ROUTES.mark)
    first = await actor.store.ingest(request)
    second = await actor.store.ingest(request)
    assert isinstance(first, Ingested)
    assert isinstance(second, Ingested)
    assert (first.runs, first.again, second.again) == (second.runs, False, True)
    actor.number = 1
    await actor.ingest()
    assert isinstance(await actor.store.ingest(request), Stale)


async def test_refusals_take_nothing(actor: Actor) -> None:
    await actor.publish("order.placed")
    assert isinstance(await actor.store.ingest(Ingest(SessionId("no"), 1, 5, ROUTES.mark)), SessionLost)
    assert isinstance(await actor.store.ingest(Ingest(actor.session, 1, 5, "other")), Unregistered)
    assert (await actor.store.depth()).events == 1


async def test_quarantine_buries_the_head_and_nothing_else(actor: Actor) -> None:
    await actor.publish("order.placed", "1")
    await actor.publish("order.placed", "2")
    outcome = await actor.store.ingest(Ingest(actor.session, 1, 5, ROUTES.mark, quarantine=True, reason="boom"))
    assert isinstance(outcome, Ingested)
    assert (outcome.runs, outcome.read) == ((), 1)
    assert await actor.reasons() == ["quarantined: boom"]
    actor.number = 1
    assert [run.ref for run in await actor.ingest()] == ["fulfil:order-2"]


async def test_a_worker_leaves_what_it_does_not_know(actor: Actor) -> None:
    narrow = Registration("narrow", ROUTES.routes, ("left@1",))
    await actor.store.register(narrow)
    await actor.publish("order.placed")
    outcome = await actor.store.ingest(Ingest(actor.session, 1, 5, "narrow"))
    assert isinstance(outcome, Ingested)
    assert outcome.runs == ()
    assert (await actor.store.depth()).ready == 1
    actor.number = 1
    assert [run.ref for run in await actor.ingest()] == ["fulfil:order-42"]
    assert (await actor.store.depth()).ready == 0


async def test_registration_raises_and_redrives_what_was_undeclared(actor: Actor) -> None:
    await actor.publish("later.known", event_id="x")
    await actor.ingest()
    assert await actor.reasons() == ["undeclared"]
    routes = {
        "later.*": Route(False, (StartRoute("late", 1),)),
        "order.placed": Route(True, (StartRoute("fulfil", 0, ("=no-", "id")), StartRoute("second", 1))),
    }
    await actor.store.register(Registration("m2", routes, ("late@1",)))
    assert await actor.reasons() == []
    await actor.publish("order.placed", "9", event_id="e9")
    await actor.ingest()
    runs = await actor.store.find_runs("x")
    assert runs == ["late:x"]
    assert [await actor.store.find_runs(name) for name in ("order-9", "e9")] == [["fulfil:order-9"], ["second:e9"]]
