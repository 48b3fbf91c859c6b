"""Leases and time: ways in which other queues and engines on Redis ran work twice because it was long, late or busy.

Part of the fourteen cases of `test_what_peers_got_wrong_*`, each with the fact that forbids it here. Numbers such as
kombu#337 name the public reports from which the cases were taken.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.guarantees.jobs import job_event
from tests.guarantees.playing import players
from tests.guarantees.service import eventually, started
from tests.guarantees.trial import Trial, nothing_pending, service_of
from workflow_worker.model.run import RunStatus
from workflow_worker.store import transitions
from workflow_worker.store.transitions import Mode

both_servers = pytest.mark.parametrize("trial", ["valkey-9.1", "redis-8.2"], indirect=True)


# ------------------------------------------------------------------------------------------------ 1: delayed work


async def test_01_delayed_work_runs_once_however_long_it_waits(trial: Trial) -> None:
    """Elsewhere a delayed message was handed to a worker to be kept there, and came back after a visibility timeout
    although that worker still kept it: tasks with an ETA ran once for each timeout (kombu#337, celery#2599).

    Here nobody holds what is not due: it outlives leases, and workers, and the due moment makes one event of it.
    """
    leases = 2.2
    first = await trial.process("w1").started()
    async with trial.client() as client:
        await client.publish(job_event("delayed", ("note",)), delay=leases)
    await trial.ask("sleeping", steps=("note", f"timer:{int(leases * 1000)}", "note"))
    await trial.at("sleeping", RunStatus.WAITING)
    async with trial.raw() as raw:
        assert await raw.zcard(trial.prefix + "delayed") == 1
        assert await raw.xlen(trial.prefix + "events") == 0
        assert await raw.xpending(trial.prefix + "events", "workers") == nothing_pending()
    first.kill()
    async with trial.working("w2"), trial.working("w3"), trial.store() as store:
        async with asyncio.timeout(10):
            while not trial.lines("delayed"):
                # Many tickers at the due moment: what is due moves once.
                await asyncio.gather(*(store.tick() for _ in range(16)))
                await asyncio.sleep(0.01)
        await trial.completed("delayed", "sleeping")
    assert [line.place for line in trial.lines("sleeping")] == [0, 2]
    assert len(trial.lines("delayed")) == 1
    audit = await trial.audit()
    assert (audit.added, audit.routed, audit.duplicate) == (2, 2, 0)


# ------------------------------------------------------------------------------------------------- 2: long work


async def long_actions(trial: Trial, seconds: int) -> None:
    jobs = {"on-loop": (f"nap:{seconds * 1000}",), "in-thread": (f"thread:{seconds * 1000}",)}
    await trial.process("w1").started()
    await trial.process("w2").started()
    for job, steps in jobs.items():
        await trial.ask(job, steps=steps)
    await trial.completed(*jobs, within_s=seconds + 10)
    for job in jobs:
        assert len(trial.lines(job)) == 1, f"{job} ran more than once"
        view = await trial.view(job)
        assert view is not None
        assert (view.attempts, view.takeovers) == (1, 0)


async def test_02_an_action_of_many_leases_runs_once(trial: Trial) -> None:
    """Elsewhere whatever ran longer than a fixed idle timeout was taken for dead and run again while it went on, so
    that users set the timeout to a year and lost recovery (taskiq-redis#101, docket#211).

    Here the lease of a living worker is renewed: an action of five leases, on the loop or in a thread, runs once.
    """
    await long_actions(trial, seconds=5)


@pytest.mark.chaos
async def test_02_an_action_of_twenty_five_leases_runs_once(trial: Trial) -> None:
    """The same over 25 s with leases of one second."""
    await long_actions(trial, seconds=25)


# -------------------------------------------------------------------------------------------------- 7: blocked loop


async def test_07_a_worker_that_computes_keeps_its_lease_and_does_not_take_its_own_work(
    trial: Trial, tmp_path: Path
) -> None:
    """Elsewhere a blocked event loop missed its renewals; when it came back the worker reclaimed its own running task,
    and died of it (streaq#146, bullmq#3183).

    Here the lease is renewed on a thread of its own: work that holds the loop for two leases runs once, in a worker
    that lives on, and the report of its health says how late the loop is.
    """
    service = service_of(trial, tmp_path, LEASE_TTL_MS="1000")
    with started(service):
        await service.ready()
        before = {worker["pid"] for worker in service.workers()}
        await trial.ask("burning", steps=("burn:2400", "note"))
        reasons = await eventually(
            lambda: [w for w in service.workers() if "loop" in json.dumps(w["reasons"])], 5, "lag"
        )
        assert reasons
        await trial.completed("burning")
        assert {worker["pid"] for worker in service.workers()} == before
    assert [line.place for line in trial.lines("burning")] == [0, 1]
    view = await trial.view("burning")
    assert view is not None
    assert view.takeovers == 0


# ------------------------------------------------------------------------------------------------------ 11: renewals


@both_servers
async def test_11_a_hundred_renewals_burn_no_attempt(trial: Trial) -> None:
    """Elsewhere the heartbeat was a claim, which counts as a delivery: a long task spent its retries by being alive
    (curie#2022).

    Here a renewal is no lease, no attempt and no takeover.
    """
    await trial.ask("j")
    async with players(trial, "w") as (player,):
        [run] = await player.ingest(1)
        for _ in range(100):
            answer = await player.store.renew(player.session, [(run.ref, run.token)])
            assert isinstance(answer, transitions.Renewed)
            assert not answer.lost
        before = await player.store.run(run.ref)
        assert before is not None
        assert (before.attempts, before.takeovers, before.token) == (0, 0, run.token)
        [outcome] = await player.store.commit([player.step(run, Mode.RELEASE, attempts=1)])
        assert outcome.word == "ok"
        after = await player.store.run(run.ref)
        assert after is not None
        assert (after.attempts, after.takeovers) == (1, 0)
        await player.store.close(player.session)
