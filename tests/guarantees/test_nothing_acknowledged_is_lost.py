"""A published event whose publisher got its id back is never lost while Redis keeps what it acknowledged."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.guarantees.faulty_store import Crash
from tests.guarantees.jobs import job_event
from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial
from tests.support.servers import RunningServer, server_binary
from workflow_worker.client.client import Client
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.run import RunStatus

KILLS = 6


async def publish_until(client: Client, name: str, acknowledged: list[str], stop: asyncio.Event) -> None:
    """One producer: event after event, each by an id of its own, noted when the call has returned."""
    number = 0
    while not stop.is_set():
        job = f"{name}-{number}"
        await client.publish(job_event(job, ("note",)))
        acknowledged.append(job)
        number += 1


@pytest.mark.parametrize("durability", ["relaxed", "fsync"])
async def test_what_was_acknowledged_survives_killed_servers(tmp_path: Path, durability: str) -> None:
    """Producers publish while the server is killed again and again; each acknowledged event makes one run.

    ``appendfsync always`` is what lets Redis keep all that it acknowledges when it is killed at any moment.
    """
    binary = server_binary("valkey-9.1")
    with RunningServer(binary, tmp_path / "server", appendonly=True, appendfsync="always") as server:
        trial = Trial(server, tmp_path, {"DURABILITY": durability, "LEASE_TTL_MS": "3000"})
        acknowledged: list[str] = []
        stop = asyncio.Event()
        async with trial.client() as client, trial.working(CONCURRENCY_LIMIT="50", BATCH_SIZE="100"):
            async with asyncio.TaskGroup() as producers:
                for producer in range(8):
                    producers.create_task(publish_until(client, f"p{producer}", acknowledged, stop))
                for _ in range(KILLS):
                    before = len(acknowledged)
                    await eventually(lambda least=before + 200: len(acknowledged) >= least, 10, "events acknowledged")
                    server.kill()
                    server.start()
                stop.set()
            await trial.completed(*acknowledged[-50:], within_s=20)
            await nothing_queued(trial)
        ran = {line.job for line in trial.lines(phase="end")}
        lost = set(acknowledged) - ran
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged events have no effect: {sorted(lost)[:5]}"
        audit = await trial.audit()
        assert audit.dead == 0
        assert audit.added == len(set(acknowledged)), "an unanswered publish is repeated under its id, and counts once"


async def nothing_queued(trial: Trial) -> None:
    """Wait until every event was taken in and every run is at rest."""
    async with trial.store() as store, trial.raw() as raw:

        async def empty() -> bool:
            depth = await store.depth()
            runs, ended = await raw.zcard(trial.prefix + "index"), await raw.zcard(trial.prefix + "index:ended")
            return depth.events == 0 and runs == ended

        await eventually(empty, 30, "all runs ended")


async def test_an_event_is_kept_wherever_it_waits(durable_trial: Trial) -> None:
    """In the stream, early, delayed, in the mailbox of a suspended run, as a dead letter: a killed server and dead
    workers leave it there, and when its time comes it has its effect."""
    trial = durable_trial
    first = await trial.process("w1").started()
    async with trial.client() as client:
        await trial.ask("parked", steps=("park", "told:1"))
        await trial.at("parked", RunStatus.SUSPENDED)
        await trial.tell("parked", 1)
        await trial.tell("early", 2)
        await client.publish("job.unknown", {"n": 3}, id="unknown-3")
        await eventually(lambda: in_place(trial, 1), 5, "mail, early event and dead letter are in place")
        first.kill()
        await client.publish(job_event("delayed", ("note",)), delay=2)
        await trial.ask("queued")
        due = time.monotonic() + 2
    trial.server.kill()
    trial.server.start()
    async with trial.store() as store:
        depth = await store.depth()
        assert (depth.events, depth.delayed, depth.dead, depth.suspended) == (1, 1, 1, 1)
        audit = await store.audit()
        assert (audit.early, audit.dead) == (1, 1)
    async with trial.working("w2"), trial.client() as client:
        await trial.completed("queued")
        assert time.monotonic() < due, "not exercised: the delay was over before the server was back"
        trial.allow()
        await client.resume("parked", by="test")
        assert await trial.completed("parked") == {"parked": [0, 1]}
        await trial.ask("early", steps=("told:1",))
        assert await trial.completed("early") == {"early": [2]}
        await trial.completed("delayed")
        [letter] = await client.dead_letters()
        assert letter.field("id") == "unknown-3"
    await trial.audit()


async def in_place(trial: Trial, count: int) -> bool:
    """Whether so many events wait early, in a mailbox, and as dead letters."""
    async with trial.store() as store:
        audit = await store.audit()
        parked = await trial.view("parked")
        return (audit.early, audit.dead, parked.mails if parked else 0) == (count, count, count)


async def test_what_is_published_while_nobody_works_is_done_when_somebody_comes(trial: Trial) -> None:
    """Before any app was ever declared, too: the stream is the only thing that a producer needs."""
    async with trial.raw() as raw:
        for number in range(500):
            event = job_event(f"j{number}", ("note",))
            await raw.xadd(trial.prefix + "events", dict(zip(*[iter(event.fields())] * 2, strict=True)))
    async with trial.working(CONCURRENCY_LIMIT="50", BATCH_SIZE="100"):
        await trial.completed(*(f"j{number}" for number in range(500)))
    audit = await trial.audit()
    assert (audit.added, audit.routed, audit.dead) == (500, 500, 0)


async def test_an_event_without_an_id_published_into_an_outage_is_there_once(durable_trial: Trial) -> None:
    """The call gives it an id before it is first sent, so its own repetitions do not double it."""
    trial = durable_trial
    async with trial.client() as client:
        await client.publish("job.asked", {"job": "before"}, subject="before")
        trial.server.kill()
        waiting = [
            asyncio.create_task(client.publish("job.asked", {"job": f"j{number}"}, subject=f"j{number}"))
            for number in range(20)
        ]
        done, _ = await asyncio.wait(waiting, timeout=0.3)
        assert not done, "acknowledged by nobody"
        trial.server.start()
        published = await asyncio.gather(*waiting)
    assert len({each.id for each in published}) == 20
    async with trial.working():
        await trial.completed("before", *(f"j{number}" for number in range(20)))
    assert len(trial.lines()) == 21
    assert (await trial.audit()).added == 21


async def test_a_producer_that_was_killed_begins_again_and_doubles_nothing(trial: Trial) -> None:
    """Killed before an event is sent, or after its answer came and before it was noted: publishing all again, under the
    same ids, adds just what is missing."""
    jobs = [f"j{number}" for number in range(30)]
    for start, when in ((7, "before"), (15, "after"), (22, "before")):
        producer = trial.producer(f"p{start}", jobs, Crash("publish", when, start))
        assert await producer.died() == -signal.SIGKILL
        assert len(producer.facts("asked-")) == start - 1
    assert (await trial.audit()).added == 21, "what was sent is there, noted or not"
    last = trial.producer("last", jobs)
    assert await last.died() == 0
    assert len(last.facts("asked-")) == len(jobs)
    async with trial.working():
        await trial.completed(*jobs)
    audit = await trial.audit()
    assert (audit.added, audit.duplicate, audit.dead) == (len(jobs), 0, 0)
    assert len(trial.lines()) == len(jobs)


async def test_what_cannot_be_acknowledged_is_an_error(durable_trial: Trial) -> None:
    """No server, or none of the replicas that DURABILITY=replicated asks for: the publisher is told, not comforted."""
    trial = durable_trial
    async with trial.client(patience=0, DURABILITY="replicated") as client:
        with pytest.raises(StoreUnavailable, match="replicated"):
            await client.publish(Event("e1", "job.asked", "j", b'{"job": "j"}'))
    trial.server.kill()
    async with trial.client(patience=0) as client:
        with pytest.raises(StoreUnavailable):
            await client.publish(Event("e2", "job.asked", "j", b'{"job": "j"}'))
