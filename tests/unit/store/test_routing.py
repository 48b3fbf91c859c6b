"""Every entry gets exactly one fate, and everyone who should have a copy gets one."""

from __future__ import annotations

import pytest

from tests.unit.store.partitions import ANN, BOB, ORDER, Scene
from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.audit import audit
from workflow_worker.store.memory.machine.operations import drop, redrive
from workflow_worker.store.memory.machine.routing import find_route, make_run_id
from workflow_worker.store.memory.machine.views import dead_letter, start_event
from workflow_worker.store.transitions import Limits, Mode, Route, StartRoute


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("id", "1", "subject", "s"), "no type"),
        (("type", "", "subject", "s"), "no type"),
        (("type", "who.knows", "subject", "s"), "undeclared"),
        (("type", "order.packed"), "subject missing"),
        (("type", "order.packed", "subject", ""), "subject missing"),
        (("type", b"\xff", "subject", "s"), "not utf-8"),
        (("type", "order.packed", "subject", "s", b"\xfe", "x"), "not utf-8"),
        (("type", "order.packed", "subject", "s", "data", "x" * 300_000), "too big"),
        (("type", "wf.cancel", "subject", "s"), "malformed: type begins with wf."),
        (("type", "order.packed", "subject", "s", "run", "1"), "malformed: addressed without workflow"),
        (("type", "order.packed", "subject", "s", "workflow", "fulfil"), "malformed: addressed without run"),
        (
            ("type", "order.packed", "subject", "s", "workflow", "a:b", "run", "1"),
            "malformed: workflow name with a colon",
        ),
        (("type", "order.packed", "subject", "s", "workflow", "fulfil", "run", "1"), "no such run"),
        (("type", "note"), "nobody can receive it"),
    ],
)
def test_a_bad_entry_is_dead_with_its_reason_and_raw_fields(fields: tuple[str | bytes, ...], reason: str) -> None:
    scene = Scene()
    scene.add(*fields)
    scene.ingest()
    assert scene.reasons() == [reason]
    letter = dead_letter(scene.p, scene.dead_ids()[0])
    assert letter is not None
    assert letter.raw == tuple(f if isinstance(f, bytes) else f.encode() for f in fields)
    assert audit(scene.p).dead == 1


def test_a_start_route_creates_the_run_and_leases_it() -> None:
    scene = Scene()
    run = scene.lease_order()
    assert (run.ref, run.version, run.mail) == (ORDER, 1, ())
    assert run.start is not None
    assert run.start.event.id == "placed"
    assert start_event(scene.p, ORDER) == ("id", "placed", "type", "order.placed", "subject", "1", "data", "null")


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [("a.b.c", "exact"), ("a.b.x", "long"), ("a.x", "short"), ("a.b.c.d", "long"), ("a", None), ("ab.c", None)],
)
def test_the_exact_type_wins_then_the_longest_prefix(event_type: str, expected: str | None) -> None:
    routes = {
        name: Route(False, (StartRoute(w, 1),)) for name, w in (("a.b.c", "exact"), ("a.b.*", "long"), ("a.*", "short"))
    }
    found = find_route(routes, event_type)
    assert (found.starts[0].workflow if found else None) == expected


def test_templates_join_literals_subject_and_id() -> None:
    assert make_run_id((), "e1", None) == "e1"
    assert make_run_id(("=order-", "subject", "=/", "id"), "e1", "7") == "order-7/e1"
    assert make_run_id(("subject",), "e1", None) is None


def test_without_an_id_the_entry_id_names_the_run() -> None:
    scene = Scene()
    scene.add("type", "job")
    assert scene.ingest().runs[0].ref == "work:1000000-0"


def test_a_bare_id_that_was_seen_is_a_duplicate_even_when_undeclared() -> None:
    scene = Scene()
    scene.add("id", "e", "type", "later")
    scene.add("id", "e", "type", "later")
    scene.ingest()
    scene.publish("note", "e")
    assert scene.p.state.events == []
    scene.register("m2", {"later": Route(False, (StartRoute("work", 1),))})
    assert [run.ref for run in scene.ingest().runs] == ["work:e"]
    found = audit(scene.p)
    assert (found.duplicate, found.dead, found.routed) == (1, 1, 1)


def test_an_event_before_its_run_waits_and_every_created_run_gets_it() -> None:
    both = Route(True, (StartRoute("fulfil", 1), StartRoute("other", 1)))
    scene = Scene(routes={"both": both, "order.packed": Route(True)})
    scene.publish("order.packed", "first")
    scene.publish("order.packed", "second")
    scene.ingest()
    scene.publish("both", "go")
    runs = scene.ingest().runs
    assert [[mail.event.id for mail in run.mail] for run in runs] == [["first", "second"]] * 2
    assert audit(scene.p).balanced


def test_an_unclaimed_early_event_is_dead_after_its_time() -> None:
    scene = Scene(Limits(early_event_ttl_ms=100))
    scene.publish("order.packed", "e")
    scene.ingest()
    scene.tick(99)
    assert scene.reasons() == []
    scene.tick(1)
    assert scene.reasons() == ["unclaimed"]


def test_an_ended_run_makes_a_duplicate_or_starts_anew() -> None:
    scene = Scene(routes={"once": Route(True, (StartRoute("fulfil", 1, ("subject",)),)),
                          "again": Route(True, (StartRoute("work", 1, ("subject",), restart=True),))})  # fmt: skip
    for event_type, ref, later in (("once", "fulfil:1", "duplicate"), ("again", "work:1", "routed")):
        scene.publish(event_type, f"{event_type}-1")
        (run,) = scene.ingest().runs
        scene.commit(run, mode=Mode.END, status=RunStatus.COMPLETED)
        before = scene.p.state.counts[later]
        scene.publish(event_type, f"{event_type}-2")
        scene.ingest()
        assert scene.p.state.counts[later] == before + 1
        state = scene.p.state.runs[RunRef(ref)]
        assert state.status.ended == (later == "duplicate")
        if later == "routed":
            assert (state.history, state.cid) == ([], "")
            assert state.token > run.token
            return
        scene.p.state.subjects.clear()


def test_an_addressed_event_reaches_its_run_or_is_dead() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.publish("note", "a", None, workflow="fulfil", run="order-1")
    scene.ingest()
    assert scene.entries() == ["a"]
    mail = scene.p.state.runs[ORDER].mailbox[-1].id
    scene.commit(run, mode=Mode.END, status=RunStatus.COMPLETED, taken=1, last_taken=mail)
    scene.publish("note", "b", None, workflow="fulfil", run="order-1")
    scene.ingest()
    assert scene.reasons() == ["run ended"]


def test_a_full_mailbox_sends_the_copy_to_dead_and_its_redrive_to_that_run_alone() -> None:
    scene = Scene(Limits(mailbox_cap=1))
    run = scene.lease_order()
    scene.publish("order.packed", "fits")
    scene.publish("order.packed", "over")
    scene.ingest()
    assert scene.reasons() == ["too many: mail of the run"]
    mail = scene.p.state.runs[ORDER].mailbox[0].id
    scene.commit(run, taken=1, last_taken=mail)
    (dead_id,) = scene.dead_ids()
    assert redrive(scene.p, dead_id, "ann", scene.now) == "ok"
    assert redrive(scene.p, dead_id, "ann", scene.now) == "already"
    scene.ingest()
    assert scene.entries() == ["over"]
    assert audit(scene.p).balanced


def test_a_copy_whose_run_has_ended_stays_that_runs_copy() -> None:
    scene = Scene()
    run = scene.lease_order()
    scene.publish("order.packed", "odd")
    scene.ingest()
    mail = scene.p.state.runs[ORDER].mailbox[0].id
    scene.commit(
        run, taken=1, last_taken=mail, rejects=((mail, "no number"),), mode=Mode.END, status=RunStatus.COMPLETED
    )
    for reason in ("rejected: no number", "run ended"):
        letter = dead_letter(scene.p, scene.dead_ids()[-1])
        assert letter is not None
        assert (letter.reason, letter.run) == (reason, ORDER)
        redrive(scene.p, letter.id, "ann", scene.now)
        scene.ingest()
    assert audit(scene.p).early == 0


def test_a_dropped_letter_is_gone() -> None:
    scene = Scene()
    scene.add("type", "who.knows")
    scene.ingest()
    (dead_id,) = scene.dead_ids()
    assert [drop(scene.p, dead_id, "ann", scene.now) for _ in range(2)] == ["ok", "gone"]
    assert redrive(scene.p, "nonsense", "ann", scene.now) == "gone"


def test_a_subject_has_a_bounded_number_of_live_runs() -> None:
    scene = Scene(Limits(subject_cap=1), {"go": Route(True, (StartRoute("work", 1),))})
    scene.publish("go", "a")
    scene.publish("go", "b")
    scene.ingest()
    assert list(scene.p.state.runs) == ["work:a"]
    assert scene.reasons() == ["too many: live runs of the subject"]


def test_quarantine_takes_the_head_entry_only() -> None:
    scene = Scene()
    scene.add("id", "e", "type", "order.packed", "subject", "1")
    scene.publish("job", "j")
    scene.ingest(quarantine=True, reason="stack overflow")
    assert scene.reasons() == ["quarantined: stack overflow"]
    assert scene.ingest().runs[0].ref == "work:j"


def test_a_raised_registration_adds_and_never_removes() -> None:
    scene = Scene()
    newer = {"job": Route(False, (StartRoute("work", 2), StartRoute("other", 1)))}
    scene.register("m2", newer)
    scene.register("m0", {"job": Route(False, (StartRoute("work", 1),))})
    assert [(s.workflow, s.version) for s in scene.p.state.routes["job"].starts] == [("work", 2), ("other", 1)]
    assert "note" in scene.p.state.routes


def test_undeclared_letters_beyond_one_call_are_swept_by_tick() -> None:
    scene = Scene()
    for number in range(250):
        scene.add("type", "later", "id", str(number))
    for _ in range(25):
        scene.ingest()
    scene.register("m2", {"later": Route(False, (StartRoute("work", 1),))})
    assert len(scene.p.state.events) == 200
    scene.tick()
    assert len(scene.p.state.events) == 250
    assert scene.reasons() == []


def test_a_run_that_the_caller_does_not_know_is_left_in_ready_for_another() -> None:
    scene = Scene()
    scene.register("small", {}, ("other@1",))
    scene.publish("job", "j")
    assert scene.ingest(ANN, mark="small").runs == ()
    assert [run.ref for run in scene.ingest(BOB).runs] == ["work:j"]
