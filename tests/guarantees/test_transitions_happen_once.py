"""State changes exactly once: an id starts or wakes a run once, a step is recorded once, a follow-up emitted once."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.guarantees.faulty_store import Crash, LossyStore
from tests.guarantees.jobs import job_event
from tests.guarantees.playing import let_expire, players
from tests.guarantees.trial import Trial
from workflow_worker.model.event import Event
from workflow_worker.model.record import ActionCompleted, EventReceived, RunCompleted, RunStarted
from workflow_worker.model.run import RunStatus
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Emit, Mode

both_servers = pytest.mark.parametrize("trial", ["valkey-9.1", "redis-8.2"], indirect=True)

CRASHES = tuple(
    Crash(verb, when, nth)
    for verb, nth in (("ingest", 1), ("ingest", 2), ("commit", 1), ("commit", 2), ("commit", 3), ("load", 1))
    for when in ("before", "after")
)


@both_servers
async def test_an_id_that_comes_a_hundred_times_at_once_starts_one_run(trial: Trial) -> None:
    """From many publishers and as plain entries, while workers take them in."""
    event = job_event("j", ("note",))
    fields = cast("Any", dict(zip(*[iter(event.fields())] * 2, strict=True)))
    async with trial.working("w1"), trial.working("w2"), trial.client() as client, trial.raw() as raw:
        answers = await asyncio.gather(
            *(client.publish(event) for _ in range(50)),
            *(raw.xadd(trial.prefix + "events", fields) for _ in range(50)),
        )
        assert sum(not answer.duplicate for answer in answers[:50]) <= 1
        await trial.completed("j")
        audit = await trial.audit()
        assert (audit.routed, audit.duplicate) == (1, audit.added - 1)
    assert len(trial.lines()) == 1


async def test_an_id_wakes_a_run_once(trial: Trial) -> None:
    """The same word told again and again is heard once; the next one is another."""
    await trial.ask("j", steps=("told:2",))
    async with trial.working("w1"), trial.working("w2"):
        await trial.at("j", RunStatus.WAITING)
        await asyncio.gather(*(trial.tell("j", 1) for _ in range(20)))
        await trial.tell("j", 2)
        assert await trial.completed("j") == {"j": [1, 2]}
    received = [record.event.id for record in await trial.history("j") if isinstance(record, EventReceived)]
    assert received == ["told-j-1", "told-j-2"]


async def test_lost_answers_double_nothing(trial: Trial) -> None:
    """A third of all answers is lost after the server did what it was asked for, of every verb. Each is repeated with
    equal arguments; every step is recorded once, and no action runs twice, for no worker died."""
    chance = random.Random(5)
    asked: Counter[str] = Counter()
    lost: Counter[str] = Counter()

    def loses(verb: str) -> bool:
        asked[verb] += 1
        gone = verb != "wait_for_work" and (asked[verb] == 1 or chance.random() < 1 / 3)
        lost[verb] += gone
        return gone

    jobs = {f"j{number}": ("note", "stumble:1", "timer:60", "note") for number in range(40)}
    listeners = {f"l{number}": ("told:5",) for number in range(10)}
    for job, steps in (jobs | listeners).items():
        await trial.ask(job, steps=steps)
    async with trial.working(wrap=lambda store: cast("Store", LossyStore(store, loses)), LEASE_TTL_MS="5000"):
        for word in range(5):
            for job in listeners:
                await trial.tell(job, word)
        results = await trial.completed(*jobs, *listeners)
    assert all(results[job] == [0, 1, 2, 3] for job in jobs)
    assert all(results[job] == [0, 1, 2, 3, 4] for job in listeners)
    assert {"open", "register", "ingest", "commit", "tick", "renew"} <= set(+lost), f"not exercised: {lost}"
    began = Counter((line.job, line.place, line.attempt) for line in trial.lines())
    assert set(began.values()) == {1}
    assert len(began) == 4 * len(jobs)
    for job in jobs:
        await each_step_recorded_once(trial, job, steps=3)
    audit = await trial.audit()
    assert audit.again > 0, "not exercised: no repetition reached the server"
    assert audit.takeovers == 0


async def each_step_recorded_once(trial: Trial, job: str, steps: int) -> None:
    """One beginning, one end, and each action's result once, along one history."""
    history = await trial.history(job)
    assert isinstance(history[0], RunStarted)
    assert isinstance(history[-1], RunCompleted)
    kinds = Counter(type(record) for record in history)
    assert kinds[RunStarted] == kinds[RunCompleted] == 1
    numbers = [record.number for record in history if isinstance(record, ActionCompleted)]
    assert len(numbers) == len(set(numbers)) == steps


@pytest.mark.timeout(90)
async def test_a_worker_killed_around_any_transition_leaves_it_whole_or_undone(trial: Trial) -> None:
    """Killed before it is sent or after its answer came: the next worker finds one state and goes on from there."""

    async def die_and_recover(crash: Crash) -> None:
        own = replace(trial, namespace=f"{trial.namespace[:40]}-{crash.verb}-{crash.when}-{crash.nth}")
        await own.register()
        if crash.verb == "load":  # only a run that has a history is loaded
            async with own.working("first"):
                await own.ask("j", steps=("note", "told:1", "note", "note"))
                await own.at("j", RunStatus.WAITING)
        else:
            await own.ask("j", steps=("note", "told:1", "note", "note"))
        await own.tell("j", 1)
        victim = own.process("victim", crash)
        assert await victim.died() == -signal.SIGKILL, f"{crash} was not reached"
        async with own.working("healer"):
            assert await own.completed("j") == {"j": [0, 1, 2, 3]}
        await each_step_recorded_once(own, "j", steps=3)
        began = Counter(line.place for line in own.lines("j"))
        assert began.total() <= 4, f"{crash}: only what was not recorded at the kill may run again: {began}"
        await own.audit()

    for part in (CRASHES[:6], CRASHES[6:]):
        async with asyncio.TaskGroup() as group:
            for crash in part:
                group.create_task(die_and_recover(crash))


@both_servers
async def test_follow_ups_are_emitted_once(trial: Trial) -> None:
    """Repeated after a lost answer, and computed again by the next holder, a follow-up is one event; the next number is
    the next one."""
    await trial.ask("j")

    def emit(number: int) -> Emit:
        return Emit(number, Event("", "job.asked", f"made-{number}", b'{"job": "made-%d"}' % number))

    async with players(trial, "first", "second") as (first, second):
        [run] = await first.ingest(1)
        step = first.step(run, Mode.KEEP, emits=(emit(1), emit(2)))
        words = [(await first.store.commit([step]))[0].word for _ in range(3)]
        assert words == ["ok", "again", "again"]
        await let_expire(trial, "first", keep=second)
        [taken] = [found for found in await second.ingest(10) if found.ref == run.ref]
        again = second.step(taken, Mode.END, emits=(emit(1), emit(2), emit(3)))
        assert [(await second.store.commit([again]))[0].word for _ in range(2)] == ["ok", "again"]
        await second.store.close(second.session)
    async with trial.working():
        await trial.completed("made-1", "made-2", "made-3")
    audit = await trial.audit()
    assert audit.added == 4
    assert audit.duplicate == 0
    assert Counter(line.job for line in trial.lines()) == Counter({"made-1": 1, "made-2": 1, "made-3": 1})
