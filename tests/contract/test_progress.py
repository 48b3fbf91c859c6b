"""How runs go on: commits and their refusals, waits, rejects, emits, sessions and the lock."""

from __future__ import annotations

import asyncio

import msgspec

from tests.contract.actor import LIMITS, Actor
from workflow_worker.model.event import Event
from workflow_worker.model.ids import CommitId, RunRef
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import REJECT_START, Emit, Mode, Renewed, SessionLost


async def test_a_commit_repeated_changes_nothing(actor: Actor) -> None:
    run = await actor.started()
    step = actor.step(run, Mode.END, result=b"1", attempts=2)
    first, again, third = [(await actor.store.commit([step]))[0] for _ in range(3)]
    assert (first.word, again.word, third.word) == ("ok", "again", "again")
    view = await actor.view(run.ref)
    assert (view.status, view.result, view.records, view.attempts, view.owner) == ("completed", b"1", 1, 2, "")


async def test_commits_of_one_call_succeed_or_fail_one_by_one(actor: Actor) -> None:
    await actor.publish("order.placed", "1")
    await actor.publish("order.placed", "2")
    one, two = await actor.ingest()
    steps = [
        actor.step(one),
        actor.step(two, base=CommitId("wrong/1")),
        actor.step(two, Mode.END),
    ]
    assert [outcome.word for outcome in await actor.store.commit(steps)] == ["ok", "conflict", "ok"]


async def test_refusals(actor: Actor) -> None:
    run = await actor.started()
    thief = await actor.other("s2")
    assert (await thief.commit(run)).word == "fenced"
    [gone] = await actor.store.commit([msgspec.structs.replace(actor.step(run), ref=RunRef("fulfil:other"))])
    assert gone.word == "gone"
    assert (await actor.commit(run, base=CommitId("x/1"))).word == "conflict"
    assert (await actor.commit(run, taken=(), last_taken="0-1")).word == "ok"
    assert await actor.store.hand_back(actor.session, run.ref, run.token)
    assert not await actor.store.hand_back(actor.session, run.ref, run.token)
    assert (await actor.commit(run)).word == "fenced"
    assert await actor.store.load(actor.session, [(run.ref, run.token)]) == [None]


async def test_no_release_while_mail_is_not_taken(actor: Actor) -> None:
    run = await actor.started()
    await actor.publish("order.paid", event_id="p")
    await actor.ingest()
    refused = await actor.commit(run, Mode.RELEASE)
    assert (refused.word, refused.held, [mail.event.id for mail in refused.mail]) == ("mail", True, ["p"])
    assert (await actor.commit(run, taken=refused.mail, last_taken="0-1")).word == "conflict"
    assert (await actor.commit(run, Mode.RELEASE, taken=refused.mail)).word == "ok"
    view = await actor.view(run.ref)
    assert (view.status, view.owner, view.mails) == ("waiting", "", 0)


async def test_a_released_run_wakes_by_mail_and_by_time(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE, wake=actor.clock.now + 500)
    assert (await actor.store.tick()).next_due == actor.clock.now + 500
    actor.clock.now += 500
    assert (await actor.store.tick()).moved == 1
    [woken] = await actor.ingest()
    assert (woken.ref, woken.start, woken.mail) == (run.ref, None, ())
    assert woken.token > run.token
    await actor.commit(woken, Mode.RELEASE)
    await actor.publish("order.paid", event_id="p")
    [mailed] = await actor.ingest()
    assert [mail.event.id for mail in mailed.mail] == ["p"]


async def test_waits_for_another_subject(actor: Actor) -> None:
    await actor.publish("order.paid", "other", event_id="before")
    run = await actor.started()
    outcome = await actor.commit(run, Mode.RELEASE, waits_added=(("order.paid", "other"),))
    assert (outcome.word, outcome.held, [mail.event.id for mail in outcome.mail]) == ("ok", True, ["before"])
    assert (await actor.commit(run, Mode.RELEASE, taken=outcome.mail)).held is False
    await actor.publish("order.paid", "other", event_id="after")
    [woken] = await actor.ingest()
    assert [mail.event.id for mail in woken.mail] == ["after"]
    [loaded] = await actor.store.load(actor.session, [(woken.ref, woken.token)])
    assert loaded is not None
    assert loaded.waits == (("order.paid", "other"),)
    own = await actor.started("other")
    assert [mail.event.id for mail in own.mail] == ["before", "after"]
    await actor.commit(woken, waits_removed=(("order.paid", "other"),))
    await actor.publish("order.paid", "other", event_id="last")
    await actor.ingest()
    assert (await actor.view(run.ref)).mails == 0


async def test_rejected_mail_and_rejected_start(actor: Actor) -> None:
    run = await actor.started()
    await actor.publish("order.paid", event_id="p")
    await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    await actor.commit(run, taken=loaded.mail, rejects=((loaded.mail[0].entry, "bad"),))
    [letter] = await actor.store.dead_letters()
    assert (letter.reason, letter.run, letter.field("via")) == ("rejected: bad", run.ref, None)
    assert await actor.store.redrive(letter.id, "ann") == "ok"
    assert await actor.store.redrive(letter.id, "ann") == "already"
    await actor.ingest()
    assert (await actor.view(run.ref)).mails == 1
    other = await actor.started("7")
    await actor.commit(other, rejects=((REJECT_START, "no good"),))
    assert (await actor.view(other.ref)).status is RunStatus.FAILED
    await actor.publish("order.placed", "7")
    [again] = await actor.ingest()
    assert (again.ref, again.cid) == (other.ref, "")


async def test_emits_happen_once_and_name_the_start(actor: Actor) -> None:
    await actor.publish("order.placed", event_id="e1")
    [run] = await actor.ingest()
    emits = (Emit(1, Event("", "order.placed", "n1")), Emit(2, Event("", "order.placed", "n2")))
    await actor.commit(run, emits=emits)
    await actor.commit(run, emits=emits)
    started = await actor.ingest()
    ids = [one.start.event.id for one in started if one.start is not None]
    assert ids == ["fulfil:order-42:e1:1", "fulfil:order-42:e1:2"]


async def test_a_dead_session_is_reaped_and_its_runs_go_on_elsewhere(actor: Actor) -> None:
    run = await actor.started()
    await actor.let_die()
    assert isinstance(await actor.store.renew(actor.session, []), SessionLost)
    other = await actor.other("s2")
    [taken] = await other.ingest()
    assert (taken.ref, taken.strikes) == (run.ref, 1)
    assert (await actor.commit(run)).word == "fenced"
    assert (await other.commit(taken)).word == "ok"


async def test_a_late_renewal_saves_the_session(actor: Actor) -> None:
    await actor.started()
    actor.clock.now += LIMITS.lease_ttl_ms
    await actor.store.tick()
    assert isinstance(await actor.store.renew(actor.session, []), Renewed)
    actor.clock.now += LIMITS.lease_ttl_ms // 3
    await actor.store.tick()
    assert isinstance(await actor.store.renew(actor.session, []), Renewed)


async def test_renew_tells_the_difference(actor: Actor) -> None:
    run = await actor.started()
    renewed = await actor.store.renew(actor.session, [(RunRef("a:b"), 7)])
    assert isinstance(renewed, Renewed)
    assert (renewed.lost, renewed.unknown) == (((RunRef("a:b"), 7),), ((run.ref, run.token),))


async def test_close_hands_back(actor: Actor) -> None:
    run = await actor.started()
    assert await actor.store.close(actor.session)
    assert await actor.store.close(actor.session)
    other = await actor.other("s2")
    [taken] = await other.ingest()
    assert (taken.ref, taken.strikes) == (run.ref, 0)


async def test_closing_after_a_death_counts_as_a_takeover_and_ends_a_crash_loop(actor: Actor) -> None:
    run = await actor.started()
    holder = actor
    for deaths in range(1, LIMITS.max_takeovers + 1):
        assert await actor.store.close(holder.session, died=True)
        assert await actor.store.close(holder.session, died=True)
        holder = await actor.other(f"d{deaths}")
        [taken] = await holder.ingest()
        assert (taken.ref, taken.strikes) == (run.ref, deaths)
    assert await actor.store.close(holder.session, died=True)
    view = await actor.view(run.ref)
    assert (view.status, view.takeovers) == (RunStatus.SUSPENDED, LIMITS.max_takeovers + 1)
    assert view.error is not None
    assert await (await actor.other("last")).ingest() == []
    assert (await actor.store.audit()).takeovers == LIMITS.max_takeovers + 1


async def test_close_in_pieces_and_reaping_in_pieces(actor: Actor) -> None:
    for number in range(205):
        await actor.publish("order.placed", str(number))
    for _ in range(3):
        await actor.ingest(100)
    assert not await actor.store.close(actor.session)
    assert await actor.store.close(actor.session)
    assert (await actor.store.depth()).ready == 205


async def test_a_poison_pill_is_suspended(actor: Actor) -> None:
    await actor.started()
    for number in range(LIMITS.max_takeovers + 1):
        await actor.let_die()
        await (await actor.other(f"d{number}")).ingest()
    assert (await actor.view("fulfil:order-42")).status is RunStatus.SUSPENDED
    assert (await actor.store.depth()).suspended == 1


async def test_hand_back_with_a_delay_parks(actor: Actor) -> None:
    run = await actor.started()
    assert await actor.store.hand_back(actor.session, run.ref, run.token, 1_000)
    await actor.publish("order.paid")
    assert await actor.ingest() == []
    actor.clock.now += 1_000
    await actor.store.tick()
    [again] = await actor.ingest()
    assert len(again.mail) == 1


async def test_sleepers_wake_for_entries_and_not_without(actor: Actor) -> None:
    await actor.publish("order.placed")
    assert await actor.store.wait_for_work(1_000)
    await actor.ingest()
    assert not await actor.store.wait_for_work(20)
    sleeper = asyncio.create_task(actor.store.wait_for_work(4_000))
    await asyncio.sleep(0)
    await actor.publish("order.placed", "2")
    assert await sleeper


async def test_a_holder_gets_a_hint(actor: Actor) -> None:
    run = await actor.started()
    hints = actor.store.hints(actor.session)
    waiting = asyncio.ensure_future(anext(hints))
    async with asyncio.timeout(5):
        while not waiting.done():  # a hint before the subscription stands is lost
            await actor.publish("order.paid")
            await actor.ingest()
            await asyncio.wait([waiting], timeout=0.02)
    assert await waiting == run.ref
    await hints.aclose()  # type: ignore[attr-defined]


async def test_a_tick_tells_when_a_session_must_be_looked_at(actor: Actor) -> None:
    begun = actor.clock.now
    third = LIMITS.lease_ttl_ms // 3
    assert (await actor.store.tick()).sessions_due == begun + 2 * third
    actor.clock.now = begun + 2 * third
    assert (await actor.store.tick()).sessions_due == begun + 3 * third
    actor.clock.now = begun + 3 * third
    ticked = await actor.store.tick()
    assert ticked.sessions_due is None
    assert (await actor.store.depth()).sessions == 0
