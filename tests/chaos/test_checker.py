"""The checker must be able to fail: a good world, and for each promise a world that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from tests.support.checker import VERDICTS, Finding, check, check_leftovers
from tests.support.checker_facts import (
    Armed,
    Effect,
    Effects,
    Promise,
    Seen,
    SeenLetter,
    SeenRun,
    Step,
    read_effects,
    read_promises,
)


@dataclass
class World:
    """A world at rest: one run of two steps with two notes, one cancelled run, one bad event."""

    promises: list[Promise] = field(
        default_factory=lambda: [
            Promise(1, "e-1", "opened", "starts", ("ledger:l1",), steps={"work": 2}),
            Promise(2, "e-2", "noted", "mail", ("ledger:l1",), order=1),
            Promise(3, "e-3", "noted", "mail", ("ledger:l1",), order=2),
            Promise(4, "e-4", "endless", "starts", ("endless:x",), steps={"undo": 1}, ends=("cancelled",)),
            Promise(5, "e-5", "undeclared", "dead"),
        ]
    )
    effects: list[Effect] = field(
        default_factory=lambda: [
            *attempt("ledger:l1", 1, 100, 11, "a"),
            *attempt("ledger:l1", 2, 100, 11, "b", words=("begin",)),
            *attempt("ledger:l1", 2, 200, 12, "c"),
            *attempt("endless:x", 1, 150, 12, "d", action="undo"),
        ]
    )
    runs: dict[str, SeenRun] = field(
        default_factory=lambda: {
            "ledger:l1": SeenRun(
                "ledger:l1",
                "completed",
                token=200,
                steps=(Step(1, "work", "a", 100), Step(2, "work", "c", 200)),
                events=("e-2", "e-3"),
            ),
            "endless:x": SeenRun("endless:x", "cancelled", token=150, steps=(Step(1, "undo", "d", 150),)),
        }
    )
    letters: list[SeenLetter] = field(default_factory=lambda: [SeenLetter("e-5", "undeclared")])
    audit: dict[str, object] = field(default_factory=lambda: {"balanced": True, "problems": []})
    total: int = 2

    def judge(self) -> tuple[Finding, ...]:
        """What the checker finds."""
        seen = Seen(self.runs, tuple(self.letters), self.audit, frozenset({"host-12"}), self.total)
        return check(self.promises, Effects(tuple(self.effects)), seen).findings

    def change(self, ref: str, **changes: object) -> None:
        """Show a run otherwise than it is."""
        self.runs[ref] = replace(self.runs[ref], **changes)  # pyright: ignore[reportArgumentType] - names are checked


def attempt(
    run: str,
    step: int,
    token: int,
    pid: int,
    nonce: str,
    action: str = "work",
    key: str = "",
    words: tuple[str, ...] = ("begin", "end"),
) -> list[Effect]:
    """The lines of one attempt."""
    return [
        Effect(word, run, step, action, key or f"{run}/{step}", 1, token, pid, at, nonce)
        for at, word in enumerate(words)
    ]


LEDGER, ENDLESS = "ledger:l1", "endless:x"


def lose_a_run(world: World) -> None:
    del world.runs[LEDGER]


def lose_a_mail(world: World) -> None:
    world.change(LEDGER, events=("e-3",))


def lose_a_step(world: World) -> None:
    world.change(LEDGER, steps=(Step(1, "work", "a", 100),))


def lose_a_bad_event(world: World) -> None:
    world.letters.clear()


def double_a_step(world: World) -> None:
    world.change(LEDGER, steps=(Step(1, "work", "a", 100), Step(2, "work", "c", 200), Step(2, "work", "c", 200)))


def double_a_result(world: World) -> None:
    world.change(LEDGER, steps=(Step(1, "work", "a", 100), Step(2, "work", "a", 200)))


def double_a_mail(world: World) -> None:
    world.change(LEDGER, events=("e-2", "e-2", "e-3"))


def double_a_key(world: World) -> None:
    world.effects += attempt(LEDGER, 2, 200, 12, "e", key="another")


def share_a_key(world: World) -> None:
    world.effects += attempt(ENDLESS, 2, 150, 12, "e", key="ledger:l1/1")


def double_a_run(world: World) -> None:
    world.total = 3


def double_a_letter(world: World) -> None:
    world.letters *= 2


def do_what_is_recorded_again(world: World) -> None:
    world.effects += attempt(LEDGER, 1, 200, 12, "e")


def act_twice_under_one_token(world: World) -> None:
    world.effects += attempt(LEDGER, 3, 200, 13, "e")


def reorder_mail(world: World) -> None:
    world.change(LEDGER, events=("e-3", "e-2"))


def reorder_steps(world: World) -> None:
    world.change(LEDGER, steps=(Step(2, "work", "c", 200), Step(1, "work", "a", 200)))


def record_under_a_stale_token(world: World) -> None:
    world.change(LEDGER, steps=(Step(1, "work", "a", 300), Step(2, "work", "c", 200)), token=300)


def fall_behind_a_record(world: World) -> None:
    world.change(LEDGER, token=150)


def unbalance_the_audit(world: World) -> None:
    world.audit = {"balanced": False, "problems": ["A: one is missing"]}


def record_what_nobody_did(world: World) -> None:
    world.change(LEDGER, steps=(Step(1, "work", "a", 100), Step(2, "work", "b", 100)))


def record_another_steps_result(world: World) -> None:
    world.change(ENDLESS, steps=(Step(1, "undo", "a", 150),))


def stick_while_running(world: World) -> None:
    world.change(LEDGER, status="running", owner="host-99.abc")


def stick_while_held(world: World) -> None:
    world.change(LEDGER, status="running", owner="host-12.abc")


def stick_with_mail(world: World) -> None:
    world.change(LEDGER, status="waiting", mails=1)


def suspend(world: World) -> None:
    world.change(LEDGER, status="suspended")


def end_otherwise(world: World) -> None:
    world.change(ENDLESS, status="completed")


def bury_a_good_event(world: World) -> None:
    world.letters.append(SeenLetter("e-2", "unclaimed"))


def bury_without_reason(world: World) -> None:
    world.letters = [SeenLetter("e-5", "")]


BROKEN: list[tuple[Callable[[World], None], str, str]] = [
    (lose_a_run, "lost", "there is no run"),
    (lose_a_mail, "lost", "e-2 (noted) is not in the history"),
    (lose_a_step, "lost", "1 of 2 steps work"),
    (lose_a_bad_event, "lost", "e-5 (undeclared) is no dead letter"),
    (double_a_step, "doubled", "step 2 2 times"),
    (double_a_result, "doubled", "one attempt is the result of"),
    (double_a_mail, "doubled", "event e-2 2 times"),
    (double_a_key, "doubled", "two keys"),
    (share_a_key, "doubled", "belongs to two steps"),
    (double_a_run, "doubled", "there are 3 runs"),
    (double_a_letter, "doubled", "2 dead letters"),
    (do_what_is_recorded_again, "doubled", "after its record"),
    (act_twice_under_one_token, "stale", "two workers acted under token 200"),
    (reorder_mail, "reordered", "mail 1 behind mail 2"),
    (reorder_steps, "reordered", "steps as [2, 1]"),
    (record_under_a_stale_token, "stale", "under token 200, behind one of 300"),
    (fall_behind_a_record, "stale", "has token 150"),
    (unbalance_the_audit, "torn", "one is missing"),
    (record_what_nobody_did, "torn", "no attempt returned"),
    (record_another_steps_result, "torn", "has the result of ledger:l1 step 1"),
    (stick_while_running, "stuck", "nobody alive holds it"),
    (stick_while_held, "stuck", "is running"),
    (stick_with_mail, "stuck", "is waiting with 1 mails"),
    (suspend, "unforeseen", "is suspended"),
    (end_otherwise, "unforeseen", "ended as completed"),
    (bury_a_good_event, "unforeseen", "e-2 is a dead letter (unclaimed)"),
    (bury_without_reason, "unforeseen", "has no reason"),
]


def test_a_good_world_is_good() -> None:
    world = World()
    assert world.judge() == ()
    seen = Seen(world.runs, tuple(world.letters), world.audit)
    verdict = check(world.promises, Effects(tuple(world.effects)), seen)
    assert verdict.good
    assert verdict.looked_at == {"events": 5, "effects": 7, "runs": 2, "recorded steps": 3, "recorded mail": 2}
    assert str(verdict) == "nothing found"


@pytest.mark.parametrize(("breaks", "verdict", "evidence"), BROKEN, ids=[breaks.__name__ for breaks, _, _ in BROKEN])
def test_a_broken_promise_is_found(breaks: Callable[[World], None], verdict: str, evidence: str) -> None:
    world = World()
    breaks(world)
    found = world.judge()
    assert any(finding.verdict == verdict and evidence in finding.what for finding in found), found


def test_every_verdict_can_be_given() -> None:
    assert {verdict for _, verdict, _ in BROKEN} | {"leftover"} == set(VERDICTS)


def test_keys_of_ended_runs_are_leftovers() -> None:
    keys = [
        "ww:{ww:0}:run:ledger:l1",
        "ww:{ww:0}:history:ledger:l1",
        "ww:{ww:0}:mailbox:ledger:l1",
        "ww:{ww:0}:run:ledger:alive",
        "ww:{ww:0}:stat",
    ]
    assert check_leftovers(keys, [LEDGER]) == [Finding("leftover", key) for key in keys[:3]]
    assert check_leftovers(keys[3:], [LEDGER]) == []


def test_files_are_read_and_torn_lines_counted(tmp_path: Path) -> None:
    effects = tmp_path / "effects.log"
    effects.write_text(
        "armed 7 commit.before kill 1\n"
        "begin ledger:l1 1 work ledger:l1/e-1/1 1 100 7 2 a\n"
        "end ledger:l1 1 work ledger:l1/e-1/1 1 100 7 3 a\n"
        "begin ledger:l1 2 wo"
    )
    found = read_effects(effects)
    assert found.armed == (Armed(7, "commit.before", "kill", 1),)
    assert [effect.word for effect in found.effects] == ["begin", "end"]
    assert found.effects[0] == Effect("begin", LEDGER, 1, "work", "ledger:l1/e-1/1", 1, 100, 7, 2, "a")
    assert found.torn == 1
    assert read_effects(tmp_path / "none") == Effects(())

    receipts = tmp_path / "receipts.jsonl"
    promise = Promise(3, "e-3", "noted", "mail", (LEDGER,), order=2)
    line = msgspec.json.encode(promise)
    receipts.write_bytes(line + b"\n" + line[:20] + b"\n" + line + b"\n" + line[:5])
    assert read_promises([receipts, tmp_path / "none"]) == [promise]
