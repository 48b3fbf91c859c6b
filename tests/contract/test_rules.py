"""One story for each rule that is easily broken without anything else looking wrong: what the mutants taught."""

from __future__ import annotations

import msgspec

from tests.contract.actor import LIMITS, ROUTES, Actor
from workflow_worker.model.event import Event
from workflow_worker.model.ids import NO_COMMIT, RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import (
    REJECT_START,
    Emit,
    Ingest,
    Ingested,
    LeasedRun,
    Mode,
    Registration,
    Renewed,
    Route,
    SessionLost,
    StartRoute,
)

WAIT_2 = (("order.paid", "2"),)


def ids(run: LeasedRun) -> list[str]:
    return [mail.event.id for mail in run.mail]


# -------------------------------------------------------------------------------------------------------------- commits


async def test_an_old_token_is_refused_though_the_session_holds_the_run_again(actor: Actor) -> None:
    run = await actor.started()
    assert await actor.store.hand_back(actor.session, run.ref, run.token)
    [again] = await actor.ingest()
    assert again.token > run.token
    assert (await actor.commit(run)).word == "fenced"
    assert (await actor.commit(again)).word == "ok"


async def test_a_commit_of_long_ago_is_a_conflict(actor: Actor) -> None:
    run = await actor.started()
    first = actor.step(run)
    assert (await actor.store.commit([first]))[0].word == "ok"
    actor.cids[run.ref] = first.cid
    assert (await actor.commit(run)).word == "ok"
    assert (await actor.store.commit([first]))[0].word == "conflict"
    assert (await actor.view(run.ref)).records == 2


async def test_nobody_is_no_session(actor: Actor) -> None:
    run = await actor.started()
    for owner, mode in (("ready", None), ("parked", 1_000)):
        held = actor.session, run.ref, run.token
        assert await actor.store.hand_back(*held, mode or 0)
        present = await actor.view(run.ref)
        assert present.owner == owner
        step = msgspec.structs.replace(actor.step(run), session=SessionId(owner), token=present.token)
        assert (await actor.store.commit([step]))[0].word == "fenced"
        assert await actor.store.load(SessionId(owner), [(run.ref, present.token)]) == [None]
        assert not await actor.store.hand_back(SessionId(owner), run.ref, present.token)
        actor.clock.now += 1_000
        await actor.store.tick()
        [run] = await actor.ingest()


async def test_a_refused_start_is_an_end_and_waits_for_the_mail(actor: Actor) -> None:
    run = await actor.started()
    await actor.publish("order.paid", event_id="p")
    await actor.ingest()
    refused = await actor.commit(run, Mode.KEEP, rejects=((REJECT_START, "no"),))
    assert (refused.word, [mail.event.id for mail in refused.mail]) == ("mail", ["p"])
    assert await actor.reasons() == []


async def test_a_record_ends_the_strikes(actor: Actor) -> None:
    run = await actor.started()
    for number in range(LIMITS.max_takeovers + 2):
        await actor.let_die()
        other = await actor.other(f"d{number}")
        [taken] = await other.ingest()
        [loaded] = await other.store.load(other.session, [(taken.ref, taken.token)])
        assert loaded is not None
        assert (await other.commit(taken, base=loaded.cid)).word == "ok"
    view = await actor.view(run.ref)
    assert (view.status, view.takeovers) == (RunStatus.RUNNING, LIMITS.max_takeovers + 2)


async def test_attempts_add_up(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, attempts=2)
    await actor.commit(run, attempts=3)
    await actor.commit(run)
    assert (await actor.view(run.ref)).attempts == 5
    await actor.commit(run, attempts=4, emits=(Emit(1, Event("", "news.a", "1")),))
    assert (await actor.view(run.ref)).attempts == 9, "beside other changes too"
    await actor.commit(run, attempts=1, state=b"1")
    assert (await actor.view(run.ref)).attempts == 10


async def test_an_emit_repeated_by_a_later_commit_is_skipped_and_a_new_one_is_not(actor: Actor) -> None:
    await actor.publish("order.placed", event_id="e1")
    [run] = await actor.ingest()
    one, two = Emit(1, Event("", "news.x", "n")), Emit(2, Event("", "news.x", "n"))
    await actor.commit(run, emits=(one,))
    await actor.commit(run, emits=(one, two))
    await actor.commit(run, emits=(one, two))
    assert (await actor.store.depth()).events == 2


async def test_a_suspended_run_has_no_wake(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE, status=RunStatus.SUSPENDED, wake=actor.clock.now + 1)
    assert (await actor.store.tick()).next_due is None


async def test_a_rejected_start_event_that_is_redriven_starts_the_run_again(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.END, rejects=((REJECT_START, "no"),))
    [letter] = await actor.store.dead_letters()
    assert await actor.store.redrive(letter.id, "ann") == "ok"
    [again] = await actor.ingest()
    assert (again.ref, again.cid, again.token > run.token) == (run.ref, NO_COMMIT, True)
    assert (await actor.view(run.ref)).records == 0


async def test_an_ended_run_hears_no_more_of_its_subject(actor: Actor) -> None:
    await actor.publish("order.both", "1")
    left, right = await actor.ingest()
    await actor.commit(left, Mode.END)
    await actor.publish("order.paid", "1", event_id="p")
    await actor.ingest()
    assert [(await actor.view(run.ref)).mails for run in (left, right)] == [0, 1]
    await actor.publish("many", "1")
    [third] = await actor.ingest()
    [fourth] = [await actor.commit(third, Mode.END)]
    assert fourth.word == "ok"


# ---------------------------------------------------------------------------------------------------------------- waits


async def test_a_wait_made_again_gets_no_second_copy(actor: Actor) -> None:
    await actor.publish("order.paid", "2", event_id="p")
    run = await actor.started("1")
    first = await actor.commit(run, Mode.KEEP, waits_added=WAIT_2)
    assert [mail.event.id for mail in first.mail] == ["p"]
    second = await actor.commit(run, taken=first.mail, waits_removed=WAIT_2)
    third = await actor.commit(run, waits_added=WAIT_2)
    assert (second.mail, third.mail) == ((), ())
    assert (await actor.commit(run, waits_added=WAIT_2)).mail == ()
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    assert loaded.waits == WAIT_2


async def test_a_run_of_the_subject_that_had_an_event_by_its_wait_does_not_get_it_again(actor: Actor) -> None:
    await actor.publish("order.paid", "2", event_id="p")
    await actor.publish("order.placed", "1", workflow="fulfil", run="x")
    [run] = await actor.ingest()
    had = await actor.commit(run, waits_added=WAIT_2)
    await actor.commit(run, Mode.END, taken=had.mail)
    await actor.publish("order.again", "2")
    [other] = await actor.ingest()
    assert ids(other) == ["p"]
    await actor.commit(other, Mode.END)
    await actor.publish("order.paid", "1", event_id="q")
    await actor.ingest()
    await actor.publish("order.again", "2", event_id="again")
    [third] = await actor.ingest()
    waited = await actor.commit(third, base=third.cid, waits_added=(("order.paid", "1"),))
    assert [mail.event.id for mail in waited.mail] == ["q"]
    await actor.commit(third, Mode.END, taken=waited.mail)
    await actor.publish("order.again", "1", workflow="loop", run="2")
    [fourth] = await actor.ingest()
    assert (fourth.ref, ids(fourth)) == (third.ref, [])


async def test_a_wait_is_for_its_type_alone_and_knows_the_cap(actor: Actor) -> None:
    for number in range(2):
        await actor.publish("news.x", "2", event_id=f"n{number}")
        await actor.publish("order.paid", "2", event_id=f"p{number}")
    run = await actor.started("1")
    for number in range(LIMITS.mailbox_cap - 1):
        await actor.publish("order.paid", "1", event_id=f"own{number}")
    await actor.ingest()
    outcome = await actor.commit(run, waits_added=WAIT_2)
    assert [mail.event.id for mail in outcome.mail][-1] == "p0"
    assert len(outcome.mail) == LIMITS.mailbox_cap
    [letter] = await actor.store.dead_letters()
    assert (letter.reason, letter.run, letter.field("id")) == ("too many: mail of the run", run.ref, "p1")


async def test_an_ended_run_waits_no_more(actor: Actor) -> None:
    run = await actor.started("1")
    await actor.commit(run, waits_added=WAIT_2)
    await actor.commit(run, Mode.END)
    await actor.publish("order.paid", "2")
    await actor.ingest()
    assert (await actor.view(run.ref)).mails == 0
    assert (await actor.store.audit()).early == 1


async def test_what_only_a_wait_had_is_not_unclaimed(actor: Actor) -> None:
    run = await actor.started("1")
    await actor.commit(run, waits_added=WAIT_2)
    await actor.publish("order.paid", "2", event_id="p")
    await actor.ingest()
    actor.clock.now += LIMITS.early_event_ttl_ms - 1
    assert (await actor.store.tick()).moved <= 2
    assert (await actor.store.audit()).unclaimed == 0
    actor.clock.now += 1
    await actor.store.tick()
    assert ((await actor.store.audit()).unclaimed, await actor.reasons()) == (1, [])


# --------------------------------------------------------------------------------------------------------------- ingest


async def test_an_id_of_an_earlier_call_and_of_the_window_before_is_a_duplicate(actor: Actor) -> None:
    await actor.store.tick()
    for expected in (0, 1, 2):
        await actor.add_raw([b"id", b"x", b"type", b"news.x", b"subject", b"1"])
        await actor.ingest()
        assert (await actor.store.audit()).duplicate == expected
        if expected == 1:
            actor.clock.now += LIMITS.dedup_window_ms
            await actor.store.tick()


async def test_a_type_that_nobody_can_declare_is_malformed_and_harms_nobody(actor: Actor) -> None:
    types = [b"#m1", b"#m2", b"a*", b"news.*", b"a b", b"news.\n", b"news.\x00", b"news.\x7f", b"news.\t"]
    await actor.publish("order.placed", "1")
    for kind in types:
        await actor.add_raw([b"type", kind, b"subject", b"1"])
    await actor.publish("order.placed", "2")
    assert [run.ref for run in await actor.ingest(20)] == ["fulfil:order-1", "fulfil:order-2"]
    assert await actor.reasons() == ["malformed: type that nobody can declare"] * len(types)


async def test_names_are_bounded(actor: Actor) -> None:
    for name in (b"id", b"type", b"subject", b"workflow", b"run"):
        for place, value in enumerate((b"x" * 500, "é".encode() * 250, b"x" * 501, "é".encode() * 250 + b"x")):
            fields = {b"id": b"%d" % place + name, b"type": b"news.x", b"subject": b"1"}
            if name in (b"workflow", b"run"):
                fields |= {b"workflow": b"w", b"run": b"r"}
            await actor.add_raw([part for pair in (fields | {name: value}).items() for part in pair])
    await actor.ingest(20)
    refused = [reason for reason in await actor.reasons() if reason not in ("no such run", "undeclared")]
    expected = [f"malformed: {name} is longer than 500 bytes" for name in ("id", "run", "subject", "type", "workflow")]
    assert sorted(refused) == sorted(expected * 2)


async def test_a_ready_run_with_more_mail_is_ready_once(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE)
    for event_id in ("a", "b"):
        await actor.publish("order.paid", event_id=event_id)
    narrow = Registration("narrow", ROUTES.routes, ())
    await actor.store.register(narrow)
    actor.number += 1
    outcome = await actor.store.ingest(Ingest(actor.session, actor.number, 5, narrow.mark))
    assert isinstance(outcome, Ingested)
    assert (await actor.store.depth()).ready == 1
    assert (await actor.store.audit()).balanced
    [woken] = await actor.ingest()
    assert ids(woken) == ["a", "b"]
    assert (await actor.store.depth()).ready == 0


async def test_early_events_come_in_their_order(actor: Actor) -> None:
    for event_id in ("a", "b", "c"):
        await actor.publish("order.paid", event_id=event_id)
    assert await actor.ingest() == []
    assert ids(await actor.started()) == ["a", "b", "c"]


async def test_a_lease_ends_the_wake_and_a_stale_entry_leases_nobody(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE, wake=actor.clock.now + 500)
    await actor.publish("order.paid")
    [woken] = await actor.ingest()
    assert (await actor.store.tick()).next_due is None
    await actor.store.hand_back(actor.session, woken.ref, woken.token)
    await actor.store.cancel(woken.ref, "ann", "")
    [only] = await actor.ingest()
    assert only.ref == run.ref
    assert await actor.ingest() == []
    assert (await actor.view(run.ref)).token == only.token


async def test_a_stale_entry_gives_nobody_a_better_place(actor: Actor) -> None:
    for number in range(2):
        await actor.publish("order.placed", str(number))
    await actor.ingest()
    await actor.store.close(actor.session)
    await actor.store.cancel(RunRef("fulfil:order-0"), "ann", "")
    other = await actor.other("s2")
    assert [run.ref for run in await other.ingest()] == ["fulfil:order-1", "fulfil:order-0"]


async def test_a_redriven_copy_starts_nothing(actor: Actor) -> None:
    run = await actor.started()
    await actor.publish("order.placed", event_id="second")
    await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    rejects = ((loaded.mail[0].entry, "no"), (REJECT_START, "no"))
    assert (await actor.commit(run, Mode.END, taken=loaded.mail, rejects=rejects)).word == "ok"
    copy = (await actor.store.dead_letters())[0]
    assert await actor.store.redrive(copy.id, "ann") == "ok"
    assert await actor.ingest() == []
    assert (await actor.reasons())[-1] == "run ended"


async def test_one_event_leases_no_more_than_there_is_room(actor: Actor) -> None:
    await actor.publish("order.both")
    assert len(await actor.ingest(1)) == 1
    assert (await actor.store.depth()).ready == 1
    assert len(await actor.ingest(1)) == 1


async def test_again_answers_only_what_that_call_leased(actor: Actor) -> None:
    await actor.publish("order.placed", "1")
    [first] = await actor.ingest()
    await actor.publish("order.placed", "2")
    [second] = await actor.ingest()
    request = Ingest(actor.session, actor.number, 5, ROUTES.mark)
    again = await actor.store.ingest(request)
    assert isinstance(again, Ingested)
    assert [run.ref for run in again.runs] == [second.ref] != [first.ref]


async def test_the_cursor_passes_what_the_worker_does_not_know(actor: Actor) -> None:
    for number in range(6):
        await actor.publish("order.placed" if number == 5 else "many", str(number))
    narrow = Registration("narrow", ROUTES.routes, ("fulfil@1",))
    await actor.store.register(narrow)
    await actor.ingest(6)
    await actor.store.close(actor.session)
    other = await actor.other("s2")
    cursor, found = "0", list[str]()
    for number in range(1, 4):
        outcome = await other.store.ingest(Ingest(other.session, number, 1, narrow.mark, cursor))
        assert isinstance(outcome, Ingested)
        cursor = outcome.cursor
        found += [run.ref for run in outcome.runs]
    assert found == ["fulfil:order-5"]
    assert (await actor.store.depth()).ready == 5


async def test_where_room_ends_the_next_look_goes_on(actor: Actor) -> None:
    for number in range(3):
        await actor.publish("order.placed", str(number))
    await actor.ingest(3)
    await actor.store.close(actor.session)
    other = await actor.other("s2")
    assert [run.ref for _ in range(3) for run in await other.ingest(1)] == [f"fulfil:order-{n}" for n in range(3)]


async def test_a_redriven_copy_is_for_its_run_alone(actor: Actor) -> None:
    await actor.publish("order.both", "1")
    left, right = await actor.ingest()
    await actor.publish("order.paid", "1", event_id="p")
    await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(left.ref, left.token)])
    assert loaded is not None
    await actor.commit(left, taken=loaded.mail, rejects=((loaded.mail[0].entry, "no"),))
    for redriven in (1, 2):
        [letter] = await actor.store.dead_letters()
        assert (letter.run, await actor.store.redrive(letter.id, "ann")) == (left.ref, "ok")
        await actor.ingest()
        assert [(await actor.view(run.ref)).mails for run in (left, right)] == [1, 1]
        [loaded] = await actor.store.load(actor.session, [(left.ref, left.token)])
        assert loaded is not None
        rejects = ((loaded.mail[0].entry, "no"),)
        await actor.commit(left, (Mode.KEEP, Mode.END)[redriven - 1], taken=loaded.mail, rejects=rejects)
    [letter] = await actor.store.dead_letters()
    await actor.store.redrive(letter.id, "ann")
    assert await actor.ingest() == []
    assert await actor.reasons() == ["run ended"]


async def test_an_event_for_an_ended_run_is_not_kept_beside_a_wait(actor: Actor) -> None:
    run = await actor.started("2")
    await actor.commit(run, Mode.END)
    other = await actor.started("1")
    await actor.commit(other, waits_added=(("order.placed", "2"),))
    await actor.publish("order.placed", "2")
    await actor.ingest()
    audit = await actor.store.audit()
    assert (audit.routed, audit.early) == (3, 0)
    actor.clock.now += LIMITS.early_event_ttl_ms
    await actor.store.renew(actor.session, [])
    await actor.store.tick()
    assert (await actor.store.audit()).unclaimed == 0


# --------------------------------------------------------------------------------------------------- sessions, the lock


async def test_every_way_out_of_a_holders_hands_raises_the_token(actor: Actor) -> None:
    run = await actor.started()
    token = run.token
    for delay in (0, 1_000):
        assert await actor.store.hand_back(actor.session, run.ref, token, delay)
        raised = (await actor.view(run.ref)).token
        assert raised > token
        actor.clock.now += 1_000
        await actor.store.tick()
        [run] = await actor.ingest()
        assert run.token > raised
        token = run.token
    await actor.let_die()
    assert (await actor.view(run.ref)).token > token


async def test_no_two_runs_have_one_token(actor: Actor) -> None:
    for number in range(3):
        await actor.publish("order.placed", str(number))
    runs = await actor.ingest(2) + await actor.ingest(2)
    assert len({run.token for run in runs}) == 3
    actor.clock.now -= 60_000
    await actor.publish("order.placed", "9")
    [late] = await actor.ingest()
    assert late.token > max(run.token for run in runs)


async def test_a_renewal_wipes_the_mark(actor: Actor) -> None:
    await actor.started()
    actor.clock.now += LIMITS.lease_ttl_ms
    await actor.store.tick()
    assert isinstance(await actor.store.renew(actor.session, []), Renewed)
    actor.clock.now += LIMITS.lease_ttl_ms
    await actor.store.tick()
    await actor.store.tick()
    assert isinstance(await actor.store.renew(actor.session, []), Renewed)


async def test_a_renewal_compares_tokens(actor: Actor) -> None:
    run = await actor.started()
    renewed = await actor.store.renew(actor.session, [(run.ref, run.token - 1)])
    assert isinstance(renewed, Renewed)
    assert (renewed.lost, renewed.unknown) == (((run.ref, run.token - 1),), ((run.ref, run.token),))


async def test_a_session_that_is_being_reaped_cannot_be_opened_again(actor: Actor) -> None:
    for number in range(205):
        await actor.publish("order.placed", str(number))
    for _ in range(3):
        await actor.ingest(100)
    actor.clock.now += LIMITS.lease_ttl_ms
    await actor.store.tick()
    actor.clock.now += LIMITS.lease_ttl_ms
    assert (await actor.store.tick()).full
    await actor.store.open(actor.session)
    assert isinstance(await actor.store.renew(actor.session, []), SessionLost)
    assert (await actor.store.depth()).ready == 200
    await actor.store.tick()
    assert (await actor.store.depth()).ready == 205


# --------------------------------------------------------------------------------------------------------- time, people


async def test_a_wake_of_a_run_that_is_held_or_ready_does_nothing(actor: Actor) -> None:
    run = await actor.started()
    assert await actor.store.hand_back(actor.session, run.ref, run.token, 500)
    await actor.store.cancel(run.ref, "ann", "")
    actor.clock.now += 500
    assert (await actor.store.tick()).moved == 0
    assert (await actor.store.depth()).ready == 1


async def test_a_delayed_event_is_sent_once(actor: Actor) -> None:
    await actor.publish("order.placed", delay_ms=1_000)
    actor.clock.now += 1_000
    assert [(await actor.store.tick()).moved for _ in range(2)] == [1, 0]
    depth = await actor.store.depth()
    assert (depth.events, depth.delayed) == (1, 0)


async def test_a_letter_that_was_redriven_is_done_with(actor: Actor) -> None:
    await actor.publish("what", "1")
    await actor.ingest()
    [letter] = await actor.store.dead_letters()
    assert [await actor.store.redrive(letter.id, "ann") for _ in range(2)] == ["ok", "already"]
    assert await actor.store.dead_letters() == []
    assert (await actor.store.depth()).dead == 0
    actor.clock.now += LIMITS.retention_ms
    await actor.store.tick()
    assert await actor.store.dead_letter(letter.id) is None


async def test_an_older_declaration_lowers_nothing(actor: Actor) -> None:
    await actor.store.register(Registration("old", {"order.both": Route(True, (StartRoute("right", 1),))}, ()))
    await actor.publish("order.both", "1")
    assert sorted((run.ref, run.version) for run in await actor.ingest()) == [("left:1", 1), ("right:1", 2)]


async def test_a_cancel_is_one_mail_however_often_it_is_asked_for(actor: Actor) -> None:
    run = await actor.started()
    assert [await actor.store.cancel(RunRef(run.ref), "ann", "") for _ in range(3)] == ["ok", "already", "already"]
    assert (await actor.view(run.ref)).mails == 1
    assert (await actor.store.audit()).deliveries == 1
