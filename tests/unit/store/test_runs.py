"""Leases, commits, sessions and what a person does: who may write, and what becomes of a run."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.store.partitions import ANN, BOB, ORDER, Scene
from workflow_worker.model.event import Event
from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import CommitId, RunRef
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.arrivals import ingest
from workflow_worker.store.memory.machine.audit import audit
from workflow_worker.store.memory.machine.entries import mail_of
from workflow_worker.store.memory.machine.operations import cancel, redrive, resume
from workflow_worker.store.memory.machine.progress import close_session, commit, hand_back, load, renew
from workflow_worker.store.memory.machine.views import view_run
from workflow_worker.store.transitions import (
    REJECT_START,
    Emit,
    Ingest,
    Ingested,
    Limits,
    Mode,
    Renewed,
    Route,
    SessionLost,
    Stale,
    StartRoute,
    Unregistered,
)


def status(scene: Scene, ref: RunRef = ORDER) -> RunStatus:
    return scene.p.state.runs[ref].status


# ---- ingest


def test_an_ingest_is_answered_once_and_repeated_from_what_is_held() -> None:
    scene = Scene()
    first = scene.lease_order()
    again = ingest(scene.p, Ingest(ANN, 1, 10, "m"), scene.now)
    assert isinstance(again, Ingested)
    assert (again.again, [run.token for run in again.runs]) == (True, [first.token])
    scene.ingest()
    assert isinstance(ingest(scene.p, Ingest(ANN, 1, 10, "m"), scene.now), Stale)


def test_an_unknown_mark_or_session_takes_nothing() -> None:
    scene = Scene()
    scene.publish("job", "j")
    assert isinstance(ingest(scene.p, Ingest(ANN, 1, 10, "?"), scene.now), Unregistered)
    close_session(scene.p, BOB, False, scene.now)
    assert isinstance(ingest(scene.p, Ingest(BOB, 1, 10, "m"), scene.now), SessionLost)
    assert len(scene.p.state.events) == 1


def test_room_counts_ready_runs_first_then_entries() -> None:
    scene = Scene()
    for number in range(4):
        scene.publish("job", f"j{number}")
    first = scene.ingest(room=3)
    hand_back(scene.p, ANN, first.runs[0].ref, first.runs[0].token, 0, scene.now)
    second = scene.ingest(BOB, room=1)
    assert [run.ref for run in second.runs] == ["work:j0"]
    assert (second.read, len(scene.p.state.events)) == (0, 1)


def test_the_cursor_leads_past_entries_that_nobody_here_knows() -> None:
    scene = Scene(routes={"odd": Route(False, (StartRoute("odd", 1),)), "job": Route(False, (StartRoute("work", 1),))})
    for number in range(4):
        scene.publish("odd", f"o{number}")
    scene.ingest(room=4)
    scene.publish("job", "j")
    (run,) = scene.ingest(room=1).runs
    hand_back(scene.p, ANN, run.ref, run.token, 0, scene.now)
    first = scene.ingest(room=1)
    assert first.runs == ()
    second = scene.ingest(room=1, cursor=first.cursor)
    assert [run.ref for run in second.runs] == ["work:j"]


# ---- commits


def test_a_repeated_commit_answers_again_and_writes_once() -> None:
    scene = Scene()
    item = scene.make_commit(scene.lease_order())
    assert [commit(scene.p, [item], scene.now)[0].word for _ in range(2)] == ["ok", "again"]
    assert scene.p.state.runs[ORDER].history == [b"record"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"session": BOB}, "fenced"),
        ({"session": ""}, "fenced"),
        ({"token": 1}, "fenced"),
        ({"base": CommitId("ann/99")}, "conflict"),
        ({"taken": 1, "last_taken": "1-1"}, "conflict"),
        ({"ref": RunRef("fulfil:none")}, "gone"),
    ],
)
def test_a_commit_that_does_not_fit_is_refused_whole(change: dict[str, object], word: str) -> None:
    scene = Scene()
    run = scene.lease_order()
    assert scene.commit(run, **change).word == word
    assert scene.p.state.runs[ORDER].history == []


def test_nobody_may_release_or_end_beside_mail() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.publish("order.packed", "e")
    scene.ingest()
    outcome = scene.commit(run, mode=Mode.RELEASE)
    assert (outcome.word, outcome.held) == ("mail", True)
    (mail,) = outcome.mail
    outcome = scene.commit(run, mode=Mode.RELEASE, taken=1, last_taken=mail.entry)
    assert (outcome.word, outcome.held) == ("ok", False)


def test_a_new_wait_receives_what_came_before_and_the_subject_keeps_it() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.publish("order.packed", "e", "2")
    scene.ingest()
    outcome = scene.commit(run, mode=Mode.RELEASE, waits_added=(("order.packed", "2"),))
    assert (outcome.word, outcome.held, outcome.mail[0].event.id) == ("ok", True, "e")
    scene.publish("order.placed", "placed-2", "2")
    (own,) = scene.ingest(BOB).runs
    assert [mail.event.id for mail in own.mail] == ["e"]
    assert audit(scene.p).balanced


def test_an_event_that_only_a_wait_received_stays_for_its_own_run() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.commit(run, mode=Mode.RELEASE, waits_added=(("order.packed", "2"),))
    scene.publish("order.packed", "e", "2")
    scene.ingest()
    assert scene.entries() == ["e"]
    scene.publish("order.placed", "placed-2", "2")
    (own,) = scene.ingest(BOB).runs
    assert [mail.event.id for mail in own.mail] == ["e"]


def test_emits_are_sent_once_and_named_by_run_start_and_number() -> None:
    scene = Scene()
    run = scene.lease_order()
    packed = Event("", "order.packed", "9")
    item = scene.make_commit(run, emits=(Emit(1, packed), Emit(2, packed)))
    commit(scene.p, [item], scene.now)
    follow = scene.make_commit(run, base=item.cid, emits=(Emit(1, packed), Emit(3, packed)))
    commit(scene.p, [follow], scene.now)
    ids = [mail_of(entry).event.id for entry in scene.p.state.events]
    assert ids == [f"{ORDER}:placed:{number}" for number in (1, 2, 3)]


def test_a_rejected_start_ends_the_run_and_its_redrive_begins_anew() -> None:
    scene = Scene()
    run = scene.lease_order()
    assert scene.commit(run, rejects=((REJECT_START, "no total"),)).word == "ok"
    assert status(scene) is RunStatus.FAILED
    assert scene.reasons() == ["rejected: no total"]
    redrive(scene.p, scene.dead_ids()[0], "ann", scene.now)
    assert [leased.ref for leased in scene.ingest().runs] == [ORDER]
    assert status(scene) is RunStatus.PENDING


def test_load_answers_the_holder_only() -> None:
    scene = Scene()
    run = scene.lease_order()
    [loaded] = load(scene.p, ANN, [(ORDER, run.token)], scene.now)
    assert loaded is not None
    assert loaded.start.event.id == "placed"
    assert load(scene.p, BOB, [(ORDER, run.token)], scene.now) == [None]
    assert load(scene.p, ANN, [(ORDER, run.token + 1)], scene.now) == [None]


# ---- hand back, wakes


def test_a_parked_run_takes_mail_and_goes_on_at_its_time() -> None:
    scene = Scene()
    run = scene.lease_order()
    assert hand_back(scene.p, ANN, ORDER, run.token, 500, scene.now)
    scene.publish("order.packed", "e")
    assert scene.ingest(BOB).runs == ()
    scene.tick(500)
    (later,) = scene.ingest(BOB).runs
    assert later.token > run.token
    assert [mail.event.id for mail in later.mail] == ["e"]
    assert not hand_back(scene.p, ANN, ORDER, run.token, 0, scene.now)


def test_a_due_wake_makes_a_released_run_ready() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.commit(run, mode=Mode.RELEASE, status=RunStatus.WAITING, wake=scene.now + 100)
    assert scene.tick(99).next_due == scene.now + 1
    assert scene.ingest().runs == ()
    assert scene.tick(1).moved == 1
    assert [leased.ref for leased in scene.ingest().runs] == [ORDER]


def test_delayed_events_come_when_due() -> None:
    scene = Scene()
    scene.publish("job", "j", None, delay_ms=100)
    scene.tick(99)
    assert scene.p.state.events == []
    scene.tick(1)
    assert [run.ref for run in scene.ingest().runs] == ["work:j"]


# ---- sessions


def test_a_renewal_tells_lost_unknown_and_mail() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.publish("order.packed", "e")
    scene.ingest(BOB)
    ghost = (RunRef("fulfil:ghost"), 7)
    renewed = renew(scene.p, ANN, [ghost], scene.now)
    assert renewed == Renewed(scene.now, (ghost,), ((ORDER, run.token),), (ORDER,))


def test_an_expired_session_is_marked_then_reaped_and_never_comes_back() -> None:
    scene = Scene(Limits(lease_ttl_ms=900))
    scene.lease_order()
    scene.tick(600)
    assert isinstance(renew(scene.p, BOB, [], scene.now), Renewed)
    scene.tick(299)
    assert ANN in scene.p.state.sessions
    scene.tick(1)
    assert isinstance(renew(scene.p, ANN, [], scene.now), SessionLost)
    (run,) = scene.ingest(BOB).runs
    assert run.strikes == 1


def test_a_clock_jump_neither_kills_nor_eternalises_a_session() -> None:
    scene = Scene(Limits(lease_ttl_ms=900))
    scene.tick(3_600_000)
    assert isinstance(renew(scene.p, ANN, [], scene.now), Renewed)
    scene.tick(-3_600_000)
    scene.tick(900)
    scene.tick(300)
    assert ANN not in scene.p.state.sessions


def test_reaping_goes_in_pieces_and_is_final_from_the_first() -> None:
    scene = Scene(Limits(lease_ttl_ms=900))
    for number in range(5):
        scene.publish("job", f"j{number}")
    scene.ingest()
    renew(scene.p, BOB, [], scene.now)
    scene.tick(600)
    renew(scene.p, BOB, [], scene.now)
    assert scene.tick(300, limit=2).full
    assert isinstance(renew(scene.p, ANN, [], scene.now), SessionLost)
    assert isinstance(ingest(scene.p, Ingest(ANN, 99, 10, "m"), scene.now), SessionLost)
    scene.tick(limit=200)
    assert len(scene.ingest(BOB).runs) == 5


def test_a_poison_pill_is_suspended_and_a_record_clears_its_strikes() -> None:
    scene = Scene(Limits(lease_ttl_ms=900, max_takeovers=1))
    scene.lease_order()
    scene.tick(600)
    renew(scene.p, BOB, [], scene.now)
    scene.tick(300)
    assert len(scene.ingest(BOB).runs) == 1
    scene.tick(600)
    scene.tick(300)
    view = view_run(scene.p, ORDER)
    assert view is not None
    assert view.error is not None
    assert (view.status, view.takeovers) == (RunStatus.SUSPENDED, 2)
    assert msgspec.msgpack.decode(view.error, type=Failure).type == "poison"
    assert resume(scene.p, ORDER, b"resumed", "ann", scene.now) == "ok"
    assert scene.p.state.runs[ORDER].strikes == 0


def test_closing_hands_back_uncounted_in_pieces() -> None:
    scene = Scene(routes={"job": Route(False, (StartRoute("work", 1),))})
    for number in range(250):
        scene.publish("job", str(number), None)
    scene.ingest(room=200)
    scene.ingest(room=200)
    assert [close_session(scene.p, ANN, False, scene.now) for _ in range(3)] == [False, True, True]
    assert audit(scene.p).takeovers == 0
    assert len(scene.ingest(BOB, room=200).runs) == 200


# ---- a person


def test_cancel_is_one_mail_behind_the_others_and_wakes_the_run() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.commit(run, mode=Mode.RELEASE, status=RunStatus.SUSPENDED, error=b"x")
    assert cancel(scene.p, ORDER, "ann", "too late", scene.now) == "ok"
    assert cancel(scene.p, ORDER, "ann", "too late", scene.now) == "already"
    assert cancel(scene.p, RunRef("fulfil:none"), "ann", "", scene.now) == "gone"
    assert status(scene) is RunStatus.RUNNING
    (leased,) = scene.ingest().runs
    assert leased.mail[0].is_cancel
    assert msgspec.json.decode(leased.mail[0].event.data) == {"by": "ann", "reason": "too late"}


def test_resume_appends_its_record_under_a_fresh_commit() -> None:
    scene = Scene()
    run = scene.lease_order()
    assert resume(scene.p, ORDER, b"resumed", "ann", scene.now) == "already"
    scene.commit(run, mode=Mode.RELEASE, status=RunStatus.SUSPENDED, error=b"x")
    cid = scene.p.state.runs[ORDER].cid
    assert resume(scene.p, ORDER, b"resumed", "ann", scene.now) == "ok"
    state = scene.p.state.runs[ORDER]
    assert (state.history, state.error) == ([b"record", b"resumed"], None)
    assert state.cid != cid
    assert state.token > run.token


# ---- forgetting


def test_ids_are_remembered_for_at_least_one_window() -> None:
    scene = Scene(Limits(dedup_window_ms=1_000))
    scene.tick()
    scene.publish("note", "n", None)
    scene.tick(1_000)
    scene.publish("note", "n", None)
    assert len(scene.p.state.events) == 1
    scene.tick(1_000)
    scene.publish("note", "n", None)
    assert len(scene.p.state.events) == 2


@pytest.mark.parametrize("limits", [Limits(retention_ms=100), Limits(retention_runs=0)], ids=["age", "count"])
def test_nothing_is_left_of_an_ended_run_after_its_retention(limits: Limits) -> None:
    scene = Scene(limits)
    run = scene.lease_order()
    scene.commit(run, mode=Mode.END, status=RunStatus.COMPLETED, waits_added=(("order.packed", "2"),))
    scene.tick(100)
    state = scene.p.state
    left = [state.runs, state.ended, state.subjects, state.waits, state.wakes]
    assert not any(left)
    assert audit(scene.p).balanced
