"""A run that begins again in place, and what runs send to each other: addressed, delayed, internal."""

from __future__ import annotations

from hashlib import sha1

import pytest
from msgspec.structs import replace

from tests.contract.actor import LIMITS, Actor
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import RunRef, emit_id
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import (
    Commit,
    Emit,
    Ingest,
    Ingested,
    LeasedRun,
    Mode,
    Registration,
    Route,
    StartRoute,
)

NOTE = Event("", "ww.note", data=b'"hello"')


def begin_again(step: Commit, event_id: str = "n-2", began_at: int | None = None) -> Commit:
    """The step that makes its run begin again."""
    start = Mail(event_id, Event(event_id, "order.placed", "42", b'{"round":2}'))
    return replace(step, restart=start, began_at=began_at)


async def word_of(actor: Actor, step: Commit) -> str:
    """Of one commit; the actor goes on from it."""
    [outcome] = await actor.store.commit([step])
    if outcome.word == "ok":
        actor.cids[step.ref] = step.cid
    return outcome.word


# ------------------------------------------------------------------------------------------------------ begin again


async def test_a_run_begins_again_with_nothing_behind_it(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, attempts=3, state=b"s", waits_added=(("order.paid", "9"),), records=(b"old",) * 3)
    await actor.publish("order.paid", event_id="mail")
    await actor.ingest()
    step = begin_again(actor.step(run, taken=(), records=(b"carried",)), began_at=actor.clock.now - 5)
    [outcome] = await actor.store.commit([step])
    assert (outcome.word, outcome.held, [mail.event.id for mail in outcome.mail]) == ("ok", True, ["mail"])
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    assert (loaded.cid, loaded.records, loaded.created_at) == (step.cid, (b"carried",), actor.clock.now - 5)
    assert (loaded.start, loaded.waits) == (step.restart, (("order.paid", "9"),))
    assert [mail.event.id for mail in loaded.mail] == ["mail"]
    view = await actor.view(run.ref)
    assert (view.attempts, view.state, view.token, view.records) == (0, b"s", run.token, 1)
    assert view.started_at == run.created_at
    assert await actor.store.start_event(run.ref) == (
        *("id", "n-2", "type", "order.placed", "subject", "42", "data", '{"round":2}'),
    )


async def test_beginning_again_is_done_once_and_by_the_holder_alone(actor: Actor) -> None:
    run = await actor.started()
    step = begin_again(actor.step(run, records=()))
    assert [await word_of(actor, step) for _ in range(2)] == ["ok", "again"]
    assert (await actor.view(run.ref)).records == 0
    assert (await actor.commit(run)).word == "ok"
    assert await word_of(actor, replace(begin_again(actor.step(run), "n-3"), token=run.token - 1)) == "fenced"
    assert await word_of(actor, replace(begin_again(actor.step(run), "n-3"), base=step.cid)) == "conflict"
    assert (await actor.view(run.ref)).records == 1


async def test_the_stores_time_begins_it_when_none_is_given(actor: Actor) -> None:
    run = await actor.started()
    actor.clock.now += 700
    await word_of(actor, begin_again(actor.step(run)))
    await actor.store.close(actor.session)
    other = await actor.other("s2")
    [again] = await other.ingest()
    assert (again.created_at, again.start) == (actor.clock.now, None)


async def test_strikes_end_with_the_old_history(actor: Actor) -> None:
    run, other = await actor.started(), actor
    for number in range(LIMITS.max_takeovers):
        await actor.let_die()
        other = await actor.other(f"d{number}")
        [run] = await other.ingest()
    assert run.strikes == LIMITS.max_takeovers
    assert await word_of(other, begin_again(other.step(run, records=()))) == "ok"
    await actor.let_die()
    assert (await actor.view(run.ref)).status is not RunStatus.SUSPENDED


async def test_what_the_old_history_emits_is_its_own_and_the_new_one_counts_from_one(actor: Actor) -> None:
    await actor.publish("order.placed", event_id="first")
    [run] = await actor.ingest()
    paid = Event("", "order.paid", "7")
    await actor.commit(run, emits=(Emit(1, paid),))
    await word_of(actor, begin_again(actor.step(run, emits=(Emit(1, paid), Emit(2, paid)))))
    await actor.commit(run, emits=(Emit(1, paid),))
    listener = await actor.other("s2")
    await listener.publish("order.placed", "7")
    [found] = await listener.ingest()
    names = [mail.event.id for mail in found.mail]
    assert names == [f"{run.ref}:{name}" for name in ("first:1", "first:2", "n-2:1")]


async def test_a_restart_keeps_the_lease(actor: Actor) -> None:
    run = await actor.started()
    with pytest.raises(ValueError, match="a restart keeps the lease"):
        await actor.store.commit([begin_again(actor.step(run, Mode.RELEASE))])
    with pytest.raises(ValueError, match="names workflow and run"):
        await actor.store.commit([actor.step(run, emits=(Emit(1, NOTE, workflow="fulfil"),))])


async def test_a_run_of_many_records_begins_again(actor: Actor) -> None:
    run = await actor.started()
    for _ in range(3):
        await actor.commit(run, records=(b"r",) * 2_500)
    assert await word_of(actor, begin_again(actor.step(run, records=(b"n",) * 1_500))) == "ok"
    assert await actor.store.history(run.ref) == [b"n"] * 1_500


# ------------------------------------------------------------------------------------------------------------- emits


async def test_an_addressed_emit_reaches_its_run_alone(actor: Actor) -> None:
    one, two = await actor.started("1"), await actor.started("2")
    await actor.commit(one, emits=(Emit(1, NOTE, "fulfil", "order-2"),))
    assert await actor.ingest() == []
    [found] = await actor.store.load(actor.session, [(two.ref, two.token)])
    assert found is not None
    assert [(mail.event.id, mail.event.type, mail.event.data) for mail in found.mail] == [
        (f"{one.ref}:{_start_of(one)}:1", "ww.note", b'"hello"')
    ]


async def test_what_a_run_sends_to_another_is_not_copied_to_the_runs_of_its_subject(actor: Actor) -> None:
    sender, waiting = await actor.started("42"), await actor.started("7")
    child = Event("", "ww.child.born", "42", b"1")
    actor_routes = Registration("m2", {child.type: Route(False, (StartRoute("kid", 1),))}, ("kid@1",))
    await actor.store.register(actor_routes)
    await actor.commit(waiting, waits_added=((child.type, "42"),))
    await actor.commit(sender, emits=tuple(Emit(n, child, "kid", f"k{n}") for n in (1, 2)))
    actor.number += 1
    outcome = await actor.store.ingest(Ingest(actor.session, actor.number, 10, actor_routes.mark, "0"))
    assert isinstance(outcome, Ingested)
    assert [(run.ref, run.mail) for run in outcome.runs] == [("kid:k1", ()), ("kid:k2", ())]
    assert [(await actor.view(run.ref)).mails for run in (sender, waiting)] == [0, 0]
    assert (outcome.fates.routed, (await actor.store.audit()).deliveries) == (2, 0)


def _start_of(run: LeasedRun) -> str:
    assert run.start is not None
    return run.start.event.id


@pytest.mark.parametrize(("length", "whole"), [(482, True), (483, False)])
async def test_an_id_that_would_be_too_long_is_named_by_its_digest(actor: Actor, length: int, whole: bool) -> None:
    await actor.publish("order.placed", event_id="e" * length)
    [run] = await actor.ingest()
    two = await actor.started("2")
    await actor.commit(run, emits=(Emit(1, NOTE, "fulfil", "order-2"),))
    await actor.ingest()
    [found] = await actor.store.load(actor.session, [(two.ref, two.token)])
    assert found is not None
    name = f"{run.ref}:{'e' * length}:1"
    digest = f"sha1:{sha1(name.encode(), usedforsecurity=False).hexdigest()}:1"
    assert (run.ref, [mail.event.id for mail in found.mail]) == ("fulfil:order-42", [name if whole else digest])
    assert emit_id(run.ref, "e" * length, 1) == found.mail[0].event.id


async def test_an_addressed_emit_starts_the_run_that_it_names(actor: Actor) -> None:
    run = await actor.started("1")
    await actor.commit(run, emits=(Emit(1, Event("", "order.placed", "x"), "fulfil", "child"),))
    [child] = await actor.ingest()
    assert child.ref == "fulfil:child"


async def test_a_delayed_emit_waits(actor: Actor) -> None:
    run = await actor.started("1")
    emits = (Emit(1, Event("", "order.placed", "2"), delay_ms=1_000), Emit(2, NOTE, "fulfil", "order-1", 500))
    await actor.commit(run, emits=emits)
    await actor.commit(run, emits=emits)
    assert await actor.ingest() == []
    depth = await actor.store.depth()
    assert (depth.delayed, depth.events) == (2, 0)
    assert (await actor.store.tick()).next_due == actor.clock.now + 500
    actor.clock.now += 1_000
    assert (await actor.store.tick()).moved == 2
    [child] = await actor.ingest()
    assert (child.ref, _start_of(child)) == ("fulfil:order-2", f"{run.ref}:{_start_of(run)}:1")
    [held] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert held is not None
    assert [mail.event.id for mail in held.mail] == [f"{run.ref}:{_start_of(run)}:2"]


@pytest.mark.parametrize("gone", ["ended", "never"])
async def test_what_one_run_sends_to_one_that_is_gone_is_dropped(actor: Actor, gone: str) -> None:
    one, two = await actor.started("1"), await actor.started("2")
    await actor.commit(two, Mode.END)
    target = "order-2" if gone == "ended" else "nobody"
    before = await actor.store.audit()
    await actor.commit(one, emits=(Emit(1, NOTE, "fulfil", target),))
    outcome = await actor.store.ingest(Ingest(actor.session, actor.number + 1, 5, "m1"))
    assert isinstance(outcome, Ingested)
    assert (outcome.read, outcome.fates.early, outcome.letters) == (1, 1, ())
    assert await actor.reasons() == []
    after = await actor.store.audit()
    assert (after.early - before.early, after.unclaimed - before.unclaimed) == (1, 1)


async def test_other_types_to_a_run_that_is_gone_are_dead(actor: Actor) -> None:
    run = await actor.started("1")
    await actor.commit(run, emits=(Emit(1, Event("", "order.paid", "1"), "fulfil", "nobody"),))
    await actor.ingest()
    assert await actor.reasons() == ["no such run"]


async def test_internal_types_are_ours(actor: Actor) -> None:
    run = await actor.started("1")
    address = [b"workflow", b"fulfil", b"run", b"order-1"]
    await actor.add_raw([b"type", b"ww.note", *address])
    await actor.commit(run, emits=(Emit(1, NOTE),))
    await actor.ingest()
    assert await actor.reasons() == ["malformed: type begins with ww.", "undeclared"]


async def test_a_full_mailbox_has_room_for_answers(actor: Actor) -> None:
    one, two = await actor.started("1"), await actor.started("2")
    for _ in range(LIMITS.mailbox_cap):
        await actor.publish("order.paid", "2")
    await actor.ingest()
    await actor.commit(one, emits=(Emit(1, NOTE, "fulfil", "order-2"), Emit(2, Event("", "order.paid", "2"))))
    await actor.ingest()
    assert (await actor.view(two.ref)).mails == LIMITS.mailbox_cap + 1
    assert await actor.reasons() == ["too many: mail of the run"]


async def test_the_run_of_a_restarted_start_event_is_found_by_its_name(actor: Actor) -> None:
    run = await actor.started()
    await word_of(actor, begin_again(actor.step(run)))
    await actor.publish("order.placed", "42", event_id="n-2")
    assert await actor.ingest() == []
    assert (await actor.view(RunRef(run.ref))).mails == 1


async def test_a_strangers_internal_mail_stays_out_when_it_is_sent_again(actor: Actor) -> None:
    await actor.started("1")
    await actor.add_raw([b"type", b"ww.note", b"workflow", b"fulfil", b"run", b"order-1"])
    await actor.ingest()
    [letter] = await actor.store.dead_letters()
    assert await actor.store.redrive(letter.id, "ann") == "ok"
    await actor.ingest()
    assert await actor.reasons() == ["malformed: type begins with ww."]
    assert (await actor.view("fulfil:order-1")).mails == 0
