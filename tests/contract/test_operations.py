"""What people and time do: cancel, resume, redrive, drop, delayed events, retention, lists and counts."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.actor import LIMITS, Actor
from workflow_worker.model.ids import CANCEL_TYPE, RunRef, SessionId
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import Mode, OperatorAct, RunPage, RunQuery


async def _suspend(actor: Actor) -> RunRef:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE, status=RunStatus.SUSPENDED, error=b"why")
    return run.ref


async def test_cancel_is_one_mail_and_wakes(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE)
    assert await actor.store.cancel(run.ref, "ann", "enough") == "ok"
    assert await actor.store.cancel(run.ref, "ann", "enough") == "already"
    assert await actor.store.cancel(RunRef("no:run"), "ann", "") == "gone"
    [woken] = await actor.ingest()
    [mail] = woken.mail
    assert mail.is_cancel
    assert (mail.event.type, mail.event.data) == (CANCEL_TYPE, b'{"by":"ann","reason":"enough"}')
    await actor.commit(woken, Mode.END)
    assert await actor.store.cancel(run.ref, "ann", "") == "already"


async def test_cancel_ends_a_suspension(actor: Actor) -> None:
    ref = await _suspend(actor)
    assert await actor.ingest() == []
    assert await actor.store.cancel(ref, "ann", "") == "ok"
    view = await actor.view(ref)
    assert (view.status, view.error, view.owner) == ("running", None, "ready")
    [run] = await actor.ingest()
    assert [mail.is_cancel for mail in run.mail] == [True]
    assert run.token > 0
    assert (await actor.store.depth()).suspended == 0


async def test_cancel_ends_a_park(actor: Actor) -> None:
    run = await actor.started()
    assert await actor.store.hand_back(actor.session, run.ref, run.token, 60_000)
    parked = await actor.view(run.ref)
    assert parked.owner == "parked"
    assert await actor.store.cancel(run.ref, "ann", "") == "ok"
    assert (await actor.view(run.ref)).owner == "ready"
    assert (await actor.store.tick()).next_due is None
    [again] = await actor.ingest()
    assert ([mail.is_cancel for mail in again.mail], again.token > parked.token) == ([True], True)


async def test_a_second_cancel_does_not_end_a_later_park(actor: Actor) -> None:
    run = await actor.started()
    assert await actor.store.cancel(run.ref, "ann", "") == "ok"
    assert await actor.store.hand_back(actor.session, run.ref, run.token, 60_000)
    assert await actor.store.cancel(run.ref, "ann", "") == "already"
    assert (await actor.view(run.ref)).owner == "parked"
    assert (await actor.view(run.ref)).mails == 1


async def test_resume(actor: Actor) -> None:
    ref = await _suspend(actor)
    await actor.publish("order.paid")
    assert await actor.ingest() == []
    assert (await actor.store.depth()).suspended == 1
    assert await actor.store.resume(ref, b"resumed", "ann") == "ok"
    assert await actor.store.resume(ref, b"resumed", "ann") == "already"
    assert await actor.store.resume(RunRef("no:run"), b"resumed", "ann") == "gone"
    [run] = await actor.ingest()
    assert run.cid.startswith("operator/")
    assert len(run.mail) == 1
    assert await actor.store.history(ref) == [b"record", b"resumed"]


async def test_drop(actor: Actor) -> None:
    await actor.publish("what")
    await actor.ingest()
    [letter] = await actor.store.dead_letters()
    assert await actor.store.dead_letter(letter.id) == letter
    assert await actor.store.drop(letter.id, "ann") == "ok"
    assert await actor.store.drop(letter.id, "ann") == "gone"
    assert await actor.store.drop("nonsense", "ann") == "gone"
    assert await actor.store.redrive(letter.id, "ann") == "gone"
    assert await actor.store.dead_letter("nonsense") is None


async def test_delayed_events(actor: Actor) -> None:
    await actor.publish("order.placed", delay_ms=1_000, event_id="d")
    assert await actor.ingest() == []
    assert (await actor.store.depth()).delayed == 1
    actor.clock.now += 1_000
    await actor.store.tick()
    assert len(await actor.ingest()) == 1


async def test_a_delayed_event_has_the_id_that_its_publisher_was_told(actor: Actor) -> None:
    told = [await actor.publish("bare", None, delay_ms=1_000), await actor.publish("bare", None)]
    actor.clock.now += 1_000
    await actor.store.tick()
    runs = await actor.ingest()
    assert [run.start.event.id for run in runs if run.start is not None] == [told[1], told[0]]
    assert {run.ref for run in runs} == {f"bare:{event_id}" for event_id in told}


async def test_unclaimed_early_events(actor: Actor) -> None:
    await actor.publish("order.paid")
    await actor.ingest()
    actor.clock.now += LIMITS.early_event_ttl_ms
    await actor.store.tick()
    assert await actor.reasons() == ["unclaimed"]


async def test_ids_are_forgotten_after_two_windows(actor: Actor) -> None:
    await actor.store.tick()
    await actor.publish("news.x", event_id="n")
    actor.clock.now += LIMITS.dedup_window_ms
    await actor.store.tick()
    await actor.publish("news.x", event_id="n")
    assert (await actor.store.depth()).events == 1
    actor.clock.now += LIMITS.dedup_window_ms
    await actor.store.tick()
    await actor.publish("news.x", event_id="n")
    assert (await actor.store.depth()).events == 2


async def test_retention_leaves_nothing(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.END)
    actor.clock.now += LIMITS.retention_ms
    await actor.store.tick()
    assert await actor.store.run(run.ref) is None
    assert await actor.store.history(run.ref) == []
    assert (await actor.store.runs(RunQuery())).total == 0


async def test_retention_by_count(actor: Actor) -> None:
    for number in range(LIMITS.retention_runs + 3):
        await actor.publish("order.placed", str(number))
    for run in await actor.ingest(100):
        await actor.commit(run, Mode.END)
        actor.clock.now += 1
    await actor.store.tick()
    page = await actor.store.runs(RunQuery(limit=5))
    assert (page.total, len(page.items)) == (LIMITS.retention_runs, 5)


async def test_lists(actor: Actor) -> None:
    for subject in ("1", "2", "3"):
        await actor.publish("order.placed", subject)
        actor.clock.now += 1
        [run] = await actor.ingest()
        await actor.commit(run, Mode.END if subject == "2" else Mode.KEEP)
    await actor.publish("many", "1")
    await actor.ingest()

    async def refs(**query: object) -> list[str]:
        page = await actor.store.runs(RunQuery(**query))  # type: ignore[arg-type]
        assert page.total == len(page.items)
        return [run.id for run in page.items if run.workflow == "fulfil"]

    assert await refs() == ["order-3", "order-2", "order-1"]
    assert await refs(status=RunStatus.COMPLETED) == ["order-2"]
    assert await refs(workflow="fulfil", status=RunStatus.RUNNING) == ["order-3", "order-1"]
    assert await refs(subject="1") == ["order-1"]


async def test_pages(actor: Actor) -> None:
    for number in range(5):
        await actor.publish("order.placed", str(number))
        await actor.ingest()
        actor.clock.now += number % 2
    everything, some = RunQuery(), RunQuery(workflow="fulfil", status=RunStatus.PENDING)
    for query in (everything, some):
        whole = (await actor.store.runs(query)).items
        assert len(whole) == 5
        found: list[RunView] = []
        while page := (await actor.store.runs(replace(query, limit=2, after=found[-1].ref if found else ""))).items:
            found += page
        assert tuple(found) == whole
    assert await actor.store.runs(RunQuery(after="fulfil:gone")) == RunPage((), 0)


async def test_what_a_run_waits_for_is_shown(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, Mode.RELEASE, wake=actor.clock.now + 500, waits_added=(("paid", "i:1"), ("sent", "p-1")))
    view = await actor.store.run(run.ref)
    assert view is not None
    assert (view.wake, view.waits) == (actor.clock.now + 500, (("paid", "i:1"), ("sent", "p-1")))
    actor.clock.now += 500
    await actor.store.tick()
    [again] = await actor.ingest()
    await actor.commit(again, Mode.RELEASE, waits_removed=(("paid", "i:1"), ("sent", "p-1")))
    view = await actor.store.run(run.ref)
    assert view is not None
    assert (view.wake, view.waits) == (None, ())


async def test_the_start_event_without_our_marks(actor: Actor) -> None:
    run = await actor.started()
    flat = await actor.store.start_event(run.ref)
    assert flat is not None
    assert "via" not in flat[::2]
    assert await actor.store.start_event(RunRef("no:run")) is None


async def test_acts_are_written_down_once_with_who_did_them(actor: Actor) -> None:
    run = await actor.started()
    await actor.publish("what", "1")
    await actor.publish("whatever", "1")
    await actor.ingest()
    first, second = await actor.store.dead_letters()
    await actor.commit(run, Mode.RELEASE, status=RunStatus.SUSPENDED, error=b"e")
    for _ in range(2):
        await actor.store.resume(run.ref, b"resumed", "ann")
        await actor.store.cancel(run.ref, "bob", "not wanted")
        await actor.store.redrive(first.id, "cid")
        await actor.store.drop(second.id, "dan")
        actor.clock.now += 1
    started = actor.clock.now - 2
    acts = [
        OperatorAct(started, "dan", "drop", second.id),
        OperatorAct(started, "cid", "redrive", first.id),
        OperatorAct(started, "bob", "cancel", run.ref, "not wanted"),
        OperatorAct(started, "ann", "resume", run.ref),
    ]
    assert await actor.store.operator_log(10) == acts
    assert await actor.store.operator_log(1) == acts[:1]
    assert await actor.store.operator_log(0) == []


async def test_what_is_done_by_events_is_noted_and_a_lost_answer_notes_it_once(actor: Actor) -> None:
    noted, began = actor.store.note, actor.clock.now
    assert await noted("ann", "pause schedule", "report") == "ok"
    actor.clock.now += 60_000
    assert await noted("ann", "pause schedule", "report") == "already"
    assert await noted("ann", "run schedule", "report", "report@1") == "ok"
    assert await noted("ann", "run schedule", "report", "report@2") == "ok"
    assert await noted("ann", "pause schedule", "report") == "ok"
    actor.clock.now += 60_001
    assert await noted("ann", "pause schedule", "report") == "ok"
    assert await actor.store.operator_log(10) == [
        OperatorAct(began + 120_001, "ann", "pause schedule", "report"),
        OperatorAct(began + 60_000, "ann", "pause schedule", "report"),
        OperatorAct(began + 60_000, "ann", "run schedule", "report", "report@2"),
        OperatorAct(began + 60_000, "ann", "run schedule", "report", "report@1"),
        OperatorAct(began, "ann", "pause schedule", "report"),
    ]


async def test_letters_are_dropped_in_bulk(actor: Actor) -> None:
    for number in range(5):
        await actor.publish(f"what.{number % 2}", "1")
        await actor.ingest()
        actor.clock.now += 10
    await actor.add_raw([b"type", b"", b"subject", b"1"])
    await actor.ingest()
    letters = await actor.store.dead_letters()
    await actor.store.redrive(letters[0].id, "ann")
    drop = actor.store.drop_letters
    assert await drop("undeclared", "what.1", letters[3].at, 10, "bob") == 1
    assert await drop("no", None, None, 0, "bob") == 0
    assert await drop("no", None, None, 10, "bob") == 1
    assert await drop("", None, None, 2, "bob") == 2
    assert [letter.id for letter in await actor.store.dead_letters()] == [letters[4].id]
    assert await drop("", "elsewhere", None, 10, "bob") == 0
    assert [(act.by, act.act, act.note) for act in await actor.store.operator_log(3)] == [
        ("bob", "drop letters", "2"),
        ("bob", "drop letters", "1"),
        ("bob", "drop letters", "1"),
    ]
    assert (await actor.store.operator_log(3))[2].on == f"reason 'undeclared', type 'what.1', before {letters[3].at}"


async def test_more_letters_than_one_call_looks_at_are_dropped(actor: Actor) -> None:
    for number in range(450):
        await actor.publish("what" if number % 2 else "which", None)
    for _ in range(3):
        await actor.ingest(200)
    assert await actor.store.drop_letters("", "what", None, 1_000, "ann") == 225
    assert await actor.store.drop_letters("", None, None, 210, "ann") == 210
    assert len(await actor.reasons()) == 15


async def test_the_epoch_names_the_data(actor: Actor) -> None:
    first = await actor.store.open(actor.session)
    assert first
    assert await actor.store.open(SessionId("s2")) == first
