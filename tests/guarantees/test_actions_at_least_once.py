"""Actions run at least once, nearly always once; every attempt of a step sees one key, and tokens rise with leases."""

from __future__ import annotations

import signal

from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial
from workflow_worker.model.record import ActionCompleted, AttemptFailed
from workflow_worker.model.run import RunStatus


async def test_all_attempts_of_a_step_see_one_key_and_no_other_step_sees_it(trial: Trial) -> None:
    await trial.ask("j", steps=("note", "stumble:3", "note"))
    async with trial.working():
        assert await trial.completed("j") == {"j": [0, 1, 2]}
    lines = trial.lines("j")
    assert [(line.place, line.attempt) for line in lines] == [(0, 1), (1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    assert len({line.key for line in lines}) == 3
    assert len({(line.place, line.key) for line in lines}) == 3
    assert len({line.token for line in lines}) == 1, "a retry within one lease is no new lease"
    view = await trial.view("j")
    assert view is not None
    assert view.attempts == 6


async def test_a_step_without_trouble_runs_once_though_its_run_moves(trial: Trial) -> None:
    """A run that waits between its steps goes from worker to worker; no attempt is repeated for it."""
    jobs = [f"j{number}" for number in range(20)]
    await trial.ask(*jobs, steps=("note", "timer:150", "note", "timer:150", "note"))
    async with trial.working("w1"), trial.working("w2"), trial.working("w3"):
        await trial.completed(*jobs)
    assert len(trial.lines()) == 3 * len(jobs)
    for job in jobs:
        tokens = [line.token for line in trial.lines(job)]
        assert tokens == sorted(tokens)
        assert len(set(tokens)) == 3, "each lease has a token of its own"


async def test_a_killed_workers_action_runs_again_with_the_same_key_and_a_higher_token(trial: Trial) -> None:
    first = await trial.process("w1").started()
    await trial.ask("j", steps=("note", "hold"))
    await eventually(lambda: len(trial.lines("j")) == 2, 10, "the second action has begun")
    first.kill()
    trial.allow()
    async with trial.working("w2"):
        assert await trial.completed("j") == {"j": [0, 1]}
    note, begun, again = trial.lines("j")
    assert (begun.place, again.place) == (1, 1)
    assert begun.key == again.key != note.key
    assert again.token > begun.token
    assert (begun.pid, begun.attempt) == (first.pid, 1)
    assert again.attempt == 1, "a dead worker is no failed attempt of the action"
    done = [record for record in await trial.history("j") if isinstance(record, ActionCompleted)]
    assert [record.number for record in done] == [1, 2], "recorded once each"
    view = await trial.view("j")
    assert view is not None
    assert view.takeovers == 1


async def test_retries_go_on_where_a_killed_worker_left_them(trial: Trial) -> None:
    first = await trial.process("w1").started()
    await trial.ask("j", steps=("stumble:30",))
    await eventually(lambda: len(trial.lines("j")) >= 2, 10, "two attempts")
    first.kill()
    async with trial.working("w2"):
        await trial.completed("j")
    lines = trial.lines("j")
    assert len({line.key for line in lines}) == 1
    failed = [record for record in await trial.history("j") if isinstance(record, AttemptFailed)]
    assert [record.attempt for record in failed] == list(range(1, 31)), "each attempt is recorded once, none is skipped"
    attempts = [line.attempt for line in lines]
    assert attempts == sorted(attempts)
    assert len(attempts) - len(set(attempts)) <= 1, "only the attempt under way at the kill may be repeated"


async def test_a_step_that_a_person_tries_again_keeps_its_key(trial: Trial) -> None:
    await trial.ask("j", steps=("park",))
    async with trial.working(), trial.client() as client:
        await trial.at("j", RunStatus.SUSPENDED)
        trial.allow()
        await client.resume("j", by="a person")
        await trial.completed("j")
    first, second = trial.lines("j")
    assert first.key == second.key
    assert second.token > first.token


async def test_a_new_incarnation_of_a_run_has_new_keys(trial: Trial) -> None:
    async with trial.working(), trial.client() as client:
        for number in (1, 2):
            await client.publish("job.repeated", {"job": "j"}, subject="j", id=f"again-{number}")
            await eventually(lambda wanted=number: len(trial.lines("j", "end")) == wanted, 5, f"run {number}")
            await trial.at("j", RunStatus.COMPLETED, workflow="repeat")
    first, second = trial.lines("j")
    assert first.key != second.key
    assert second.token > first.token


async def test_the_other_side_can_tell_a_zombie_by_its_token(trial: Trial) -> None:
    """What a resource that remembers the highest token would refuse is exactly what the zombie brings late."""
    zombie = await trial.process("zombie").started()
    await trial.ask("j", steps=("hold",))
    await eventually(lambda: trial.lines("j"), 10, "the action has begun")
    zombie.send(signal.SIGSTOP)
    try:
        trial.allow()
        async with trial.working("w2"):
            await trial.completed("j")
    finally:
        zombie.send(signal.SIGCONT)
    await eventually(lambda: zombie.facts("SessionLost") or zombie.facts("LeaseLost"), 5, "the zombie is told")
    late = [line for line in trial.lines("j", "end") if line.pid == zombie.pid]
    good = [line for line in trial.lines("j", "end") if line.pid != zombie.pid]
    assert len(good) == 1
    assert all(line.token < good[0].token and line.key == good[0].key for line in late)
    done = [record for record in await trial.history("j") if isinstance(record, ActionCompleted)]
    assert len(done) == 1
