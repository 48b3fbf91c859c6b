"""Events for one run are consumed in the order of the stream; different runs go in parallel."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from tests.guarantees.jobs import job_event
from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial
from workflow_worker.model.event import Event

WORDS = 40
LISTENERS = 40
both_servers = pytest.mark.parametrize("trial", ["valkey-9.1", "redis-8.2"], indirect=True)


async def tell_all(trial: Trial, listeners: list[str], pause_s: float = 0) -> None:
    """XADD the words of all listeners, mixed between them and in order for each; without ids, as any program does."""
    chance = random.Random(3)
    turns = [job for job in listeners for _ in range(WORDS)]
    chance.shuffle(turns)
    next_word = dict.fromkeys(listeners, 0)
    async with trial.raw() as raw:
        for start in range(0, len(turns), 100):
            pipe = raw.pipeline(transaction=False)
            for job in turns[start : start + 100]:
                data = f'{{"job":"{job}","word":{next_word[job]}}}'
                pipe.xadd(trial.prefix + "events", {"type": "job.told", "subject": job, "data": data})
                next_word[job] += 1
            await pipe.execute()
            await asyncio.sleep(pause_s)


async def in_order(trial: Trial, listeners: list[str]) -> None:
    """Every listener heard every word, in the order in which they were told.

    Raises:
        AssertionError: Not so.
    """
    heard: dict[str, Any] = await trial.completed(*listeners, within_s=30)
    wrong = [job for job, words in heard.items() if words != list(range(WORDS))]
    assert not wrong, f"{len(wrong)} of {len(listeners)} out of order, for example {heard[wrong[0]]}"
    audit = await trial.audit()
    assert audit.recorded >= WORDS * len(listeners)


@both_servers
async def test_four_workers_on_one_stream_keep_the_order_of_every_run(trial: Trial) -> None:
    """Reading in one call and accepting in another reorders most subjects as soon as two workers read one stream."""
    listeners = [f"l{number}" for number in range(LISTENERS)]
    await trial.ask(*listeners, steps=(f"told:{WORDS}",))
    async with trial.working("w1"), trial.working("w2"), trial.working("w3"), trial.working("w4"):
        await tell_all(trial, listeners)
        await in_order(trial, listeners)


async def test_order_survives_killed_workers(trial: Trial) -> None:
    """Workers are killed between and inside everything they do, six times; each time another one comes."""
    listeners = [f"l{number}" for number in range(LISTENERS)]
    await trial.ask(*listeners, steps=(f"told:{WORDS}",))
    crew = [trial.process(f"w{number}") for number in range(2)]
    for worker in crew:
        await worker.started()
    telling = asyncio.create_task(tell_all(trial, listeners, pause_s=0.1))
    kills = 0
    async with trial.store() as store:
        while kills < 6:
            since = (await store.audit()).recorded

            async def going_on(since: int = since) -> bool:
                return (await store.audit()).recorded > since + 20

            await eventually(going_on, 10, "words are heard")
            crew.pop(0).kill()
            kills += 1
            crew.append(trial.process(f"w{kills + 1}"))
    await telling
    await in_order(trial, listeners)


async def test_early_events_come_first_and_in_order(trial: Trial) -> None:
    """Told before it was asked for: a run begins with all that came before it, then what comes later."""
    async with trial.working("w1"), trial.working("w2"), trial.store() as store:
        await trial.tell("j", *range(10))

        async def early() -> bool:
            return (await store.audit()).early == 10

        await eventually(early, 5, "ten early events")
        await trial.ask("j", steps=("told:20",))
        await trial.tell("j", *range(10, 20))
        assert await trial.completed("j") == {"j": list(range(20))}


async def test_one_batch_may_hold_start_and_words_of_a_run(trial: Trial) -> None:
    """What is in the stream before any worker comes: words, start, words, of many jobs, taken in by batches."""
    events: list[Event] = []
    jobs = [f"j{number}" for number in range(30)]
    for word in range(6):
        for job in jobs:
            if word == 3:
                events.append(job_event(job, ("told:6",)))
            events.append(Event("", "job.told", job, f'{{"job":"{job}","word":{word}}}'.encode()))
    async with trial.client() as client:
        await client.publish_many(events)
    async with trial.working("w1", BATCH_SIZE="100"), trial.working("w2", BATCH_SIZE="7"):
        heard = await trial.completed(*jobs)
    assert all(words == list(range(6)) for words in heard.values()), heard


async def test_different_runs_go_in_parallel(trial: Trial) -> None:
    """Twenty runs of 300 ms in one worker take the time of one, not of twenty; one that is slow holds up nobody."""
    jobs = [f"j{number}" for number in range(20)]
    async with trial.working(CONCURRENCY_LIMIT="30"):
        await trial.ask("slow", steps=("nap:4500",))
        await eventually(lambda: trial.lines("slow"), 5, "the slow one has begun")
        begin = time.monotonic()
        await trial.ask(*jobs, steps=("nap:300",))
        await trial.completed(*jobs)
        assert time.monotonic() - begin < 3, "one after the other they take six seconds"
        view = await trial.view("slow")
        assert view is not None
        assert not view.status.ended, "not exercised: the slow one was quick"
        await trial.completed("slow")
