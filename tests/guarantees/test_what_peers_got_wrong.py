"""Fourteen ways in which other queues and engines on Redis lost or doubled work, each with the fact that forbids it.

Numbers such as kombu#337 name the public reports from which the cases were taken.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.cluster_nodes import foreign_node
from tests.guarantees.faulty_store import Crash
from tests.guarantees.jobs import job_event
from tests.guarantees.memory_pressure import big_job, fill, soak
from tests.guarantees.playing import Player, let_expire, players
from tests.guarantees.processes import Killable
from tests.guarantees.service import eventually, started
from tests.guarantees.trial import Trial, service_of
from tests.support.servers import RunningServer, server_binary
from workflow_worker.model.exceptions import ConfigurationError, StoreFull
from workflow_worker.model.facts import LeaseLost, PartFailed, SessionLost, StoreLost
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import ActionCompleted, AttemptFailed
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


# --------------------------------------------------------------------------------------------- 3: many reclaimers


@both_servers
async def test_03_of_64_reclaimers_one_wins(trial: Trial) -> None:
    """Elsewhere ``if lock.locked(): continue`` stood before ``async with lock``: two steps, and one message went to two
    workers in the same millisecond (taskiq-redis#123, redis#13956).

    Here taking a dead worker's run is one step on the server: 64 that want each of 20 runs at once get each once.
    """
    runs = 20
    await trial.ask(*(f"j{number}" for number in range(runs)))
    async with players(trial, "dead", *(f"r{number}" for number in range(64))) as (dead, *reclaimers):
        assert len(await dead.ingest(runs)) == runs
        taken: Counter[str] = Counter()
        by: set[str] = set()

        async def reclaim(player: Player) -> None:
            await player.begin()
            while sum(taken.values()) < runs:
                await player.renew()
                await player.store.tick()
                for run in await player.ingest(2):
                    taken[run.ref] += 1
                    by.add(player.session)

        async with asyncio.timeout(20):
            await asyncio.gather(*(reclaim(player) for player in reclaimers))
        # A second look of everybody: nothing is left for a second winner.
        again = await asyncio.gather(*(player.ingest(10) for player in reclaimers))
        assert not any(again)
        assert len(taken) == runs
        assert set(taken.values()) == {1}
        assert len(by) > 1, "not exercised: one reclaimer took all"
        await asyncio.gather(*(player.store.close(player.session) for player in reclaimers))
    assert (await trial.audit()).takeovers == runs


# ------------------------------------------------------------------------------------- 4: recoverers that die too

RECLAIM_CRASHES = (
    Crash("open", "after"),
    Crash("tick", "before"),
    Crash("tick", "after"),
    Crash("tick", "moved"),
    Crash("ingest", "before", 2),
    Crash("ingest", "after"),
    Crash("ingest", "moved"),
    Crash("load", "before"),
    Crash("load", "after"),
    Crash("renew", "before", 2),
    Crash("renew", "after", 2),
    Crash("commit", "before"),
    Crash("commit", "after"),
)
RECLAIM_FAULTS = ("read.woken", "ingest.sent", "ingest.done", "action.before", "action.after", "renew.before")


@pytest.mark.timeout(90)
async def test_04_recovery_goes_on_though_recoverers_are_killed_at_every_point(trial: Trial) -> None:
    """Elsewhere a reclaimer held a lock without expiry; killed while it held it, it ended all recovery for ever, and
    nobody saw it (taskiq-redis#131, #107).

    Here there is nothing to hold: the recoverer dies at every point of recovery, and the next one goes on.
    """
    cases: dict[str, tuple[Crash | None, str | None]] = {
        **{f"{crash.verb}-{crash.when}-{crash.nth}": (crash, None) for crash in RECLAIM_CRASHES},
        **{point: (None, f"{point}:kill:1:0") for point in RECLAIM_FAULTS},
    }

    async def recover(name: str, crash: Crash | None, fault: str | None) -> None:
        own = replace(trial, namespace=f"{trial.namespace[:30]}-{name}")
        victim = await own.process("victim").started()
        await own.ask("j", steps=("note", "hold", "note"))
        await eventually(lambda: len(own.lines("j")) >= 2, 20, f"{name}: the victim is at work")
        victim.kill()
        own.allow()
        recoverer = own.process("recoverer", crash, fault)
        assert await recoverer.died(within_s=20) == -signal.SIGKILL, f"{name}: the recoverer was not killed"
        async with own.working("healer"):
            assert await own.completed("j", within_s=20) == {"j": [0, 1, 2]}
        done = [record.number for record in await own.history("j") if isinstance(record, ActionCompleted)]
        assert done == [1, 2, 3], name
        await own.audit()

    names = list(cases)
    for start in range(0, len(names), 10):
        async with asyncio.TaskGroup() as group:
            for name in names[start : start + 10]:
                group.create_task(recover(name, *cases[name]))


async def test_04_a_half_done_close_of_a_dead_workers_session_is_finished_by_others(trial: Trial) -> None:
    """The same for the supervisor, which closes the sessions of workers that died, 200 runs a call: it dies between two
    calls, and the rest goes on by itself."""
    jobs = [f"j{number}" for number in range(250)]
    await trial.ask(*jobs)
    async with players(trial, "dead") as (dead,):
        leased = await dead.ingest(200) + await dead.ingest(200)
        assert len(leased) == len(jobs)
        assert not await dead.store.close(dead.session, died=True), "there is more to close"
    async with trial.working("healer", CONCURRENCY_LIMIT="50", BATCH_SIZE="100"):
        await trial.completed(*jobs)
    assert len(trial.lines()) == len(jobs)
    assert (await trial.audit()).takeovers == len(jobs)


# ------------------------------------------------------------------------------------------------ 5: every topology


async def test_05_a_cluster_is_refused_in_words(tmp_path: Path) -> None:
    """Elsewhere the Cluster variant never looked at unacknowledged messages: whoever had only a cluster had no crash
    recovery at all, and was not told (taskiq-redis#130).

    Here a cluster is refused until it has the same guarantees, in words, by producers and workers: nothing is accepted.
    """
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        _ = Trial(no_server(tmp_path), tmp_path, {"REDIS_URL": "redis+cluster://127.0.0.1:7000"}).settings
    async with foreign_node(tmp_path) as node:
        trial = Trial(node, tmp_path)
        async with trial.client(patience=0) as client:
            with pytest.raises(ConfigurationError, match="Cluster is not supported"):
                await client.publish(job_event("j", ("note",)))
        service = service_of(trial, tmp_path)
        with started(service):
            await eventually(lambda: "Cluster is not supported" in service.log.read_text(), 15, "said by the service")
            assert service.health().get("status") != "healthy"


def no_server(folder: Path) -> RunningServer:
    """One that is never started."""
    return RunningServer(server_binary("valkey-9.1"), folder / "none")


# --------------------------------------------------------------------------------------- 6: retry and redelivery


@pytest.mark.timeout(90)
async def test_06_a_retry_and_a_redelivery_are_never_both(trial: Trial) -> None:
    """Elsewhere a retry was added before the old message was acknowledged: a worker killed between the two left both,
    each ran, and deduplication by key was passed by (docket#245, #246).

    Here the retry is a record of the run, written in one step: killed before or after any of its commits, the run has
    each attempt recorded once, and nothing else waits anywhere.
    """

    async def die_and_recover(when: str, nth: int) -> None:
        own = replace(trial, namespace=f"{trial.namespace[:40]}-{when}-{nth}")
        victim = own.process("victim", Crash("commit", when, nth))
        await own.ask("j", steps=("stumble:2",))
        assert await victim.died() == -signal.SIGKILL
        async with own.working("healer"):
            assert await own.completed("j") == {"j": [0]}
        history = await own.history("j")
        assert [record.attempt for record in history if isinstance(record, AttemptFailed)] == [1, 2]
        assert [record.attempts for record in history if isinstance(record, ActionCompleted)] == [3]
        # The attempt whose record was not written yet runs again; every other one ran once.
        began = Counter(line.attempt for line in own.lines("j"))
        assert set(began) == {1, 2, 3}
        assert began.total() <= 4, f"{when} commit {nth}: {began}"
        await nothing_waits(own)

    async with asyncio.TaskGroup() as group:
        for nth in (1, 2, 3):
            for when in ("before", "after"):
                group.create_task(die_and_recover(when, nth))


async def nothing_waits(trial: Trial) -> None:
    """Neither an event, nor a run, nor a timer, nor a session of a dead worker's runs."""
    async with trial.raw() as raw:
        prefix = trial.prefix
        counts = {
            "events": await raw.xlen(prefix + "events"),
            "delayed": await raw.zcard(prefix + "delayed"),
            "wakes": await raw.zcard(prefix + "wakes"),
            "mailboxes": len([key async for key in raw.scan_iter(prefix + "mailbox:*", count=1_000)]),
        }
    assert set(counts.values()) == {0}, counts


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


# --------------------------------------------------------------------------------------------------- 8: stale worker


async def test_08_a_stale_worker_is_told_at_once_and_cannot_write(trial: Trial) -> None:
    """Elsewhere a second copy of a stalled job ran while the first went on unaware: the first failed at its very end
    with "missing lock", after both had done the side effect (bull#308, bullmq#439).

    Here a worker that was frozen past its lease hears of it within a fifth of the lease after it thaws, its attempts
    are cancelled, and every write of it is refused.
    """
    stale = await trial.process("stale").started()
    await trial.ask("j", steps=("hold", "note"))
    await eventually(lambda: trial.lines("j"), 10, "the action has begun")
    stale.send(signal.SIGSTOP)
    try:
        healer = await trial.process("healer").started()
        await eventually(lambda: len(trial.lines("j")) == 2, 10, "another worker has it")
    finally:
        thawed = time.monotonic()
        stale.send(signal.SIGCONT)
    await eventually(lambda: stale.facts("SessionLost"), 5, "the stale worker is told")
    assert time.monotonic() - thawed < 1, "a fifth of the lease and a round trip, on a machine that does other things"
    trial.allow()
    await trial.completed("j")
    assert {line.pid for line in trial.lines("j", "end")} == {healer.pid}, "the stale attempt was cancelled in time"


@both_servers
async def test_08_every_write_of_a_stale_worker_is_refused(trial: Trial) -> None:
    """Verb by verb, on a session whose run another one holds."""
    await trial.ask("j")
    async with players(trial, "stale", "new") as (stale, new):
        [old] = await stale.ingest(1)
        await let_expire(trial, "stale", keep=new)
        [taken] = await new.ingest(1)
        assert (taken.ref, taken.token > old.token) == (old.ref, True)
        before = await new.store.run(old.ref)
        for mode in Mode:
            [outcome] = await stale.store.commit([stale.step(old, mode)])
            assert outcome.word == "fenced", mode
        # As itself, and with the new token that it cannot know.
        for token in (old.token, taken.token):
            assert not await stale.store.hand_back(stale.session, old.ref, token)
            assert await stale.store.load(stale.session, old.ref, token) is None
        assert isinstance(await stale.store.renew(stale.session, [(old.ref, old.token)]), transitions.SessionLost)
        assert await stale.may_not_ingest()
        assert await stale.store.close(stale.session)
        assert await new.store.run(old.ref) == before
        [outcome] = await new.store.commit([new.step(taken, Mode.END)])
        assert outcome.word == "ok"
    assert (await trial.audit()).fenced == len(Mode)


@both_servers
async def test_08_a_late_write_under_an_older_lease_of_the_same_worker_is_refused(trial: Trial) -> None:
    """The worker is the same and the history has not grown: the token alone tells that the lease is another."""
    await trial.ask("j")
    async with players(trial, "w") as (player,):
        [old] = await player.ingest(1)
        late = player.step(old, Mode.KEEP)
        assert await player.store.hand_back(player.session, old.ref, old.token)
        [new] = await player.ingest(1)
        assert (new.ref, new.cid, new.token > old.token) == (old.ref, old.cid, True)
        assert (await player.store.commit([late]))[0].word == "fenced"
        assert not await player.store.hand_back(player.session, old.ref, old.token)
        assert await player.store.load(player.session, old.ref, old.token) is None
        renewed = await player.store.renew(player.session, [(old.ref, old.token)])
        assert isinstance(renewed, transitions.Renewed)
        assert renewed.lost == ((old.ref, old.token),)
        assert (await player.store.commit([player.step(new, Mode.END)]))[0].word == "ok"
        await player.store.close(player.session)


# ------------------------------------------------------------------------------------------- 9: consumers, pending


def nothing_pending() -> dict[str, Any]:
    """The summary of XPENDING for a group in which nothing is."""
    return {"pending": 0, "min": None, "max": None, "consumers": []}


async def test_09_killed_workers_leave_no_consumer_and_nothing_pending(trial: Trial) -> None:
    """Elsewhere each worker was a consumer of its own and stayed one for ever, 38 million of them in one report, and
    deleting a consumer threw its pending messages away (redis#8635, #9745, watermill-redisstream#24).

    Here the group only wakes sleepers: twelve workers come, work and are killed; one consumer is left, nothing is
    pending, and the sessions are gone when their time is over.
    """
    for round_ in range(3):
        crew = [trial.process(f"w{round_}-{number}") for number in range(4)]
        for worker in crew:
            await worker.started()
        jobs = [f"j{round_}-{number}" for number in range(20)]
        await trial.ask(*jobs, steps=("nap:30", "note"))
        await eventually(lambda least=15 + 40 * round_: len(trial.lines()) > least, 10, "work under way")
        for worker in crew:
            worker.kill()
    async with trial.working("healer"), trial.raw() as raw:
        await trial.completed(*(f"j{round_}-{number}" for round_ in range(3) for number in range(20)))

        async def only_the_healers_session() -> bool:
            return await raw.zcard(trial.prefix + "sessions") == 1 and not await raw.zcard(trial.prefix + "reaping")

        await eventually(only_the_healers_session, 5, "sessions of the dead are gone")
        for stream in ("events", "ready"):
            consumers = await raw.xinfo_consumers(trial.prefix + stream, "workers")
            assert len(consumers) <= 1, consumers
            assert await raw.xpending(trial.prefix + stream, "workers") == nothing_pending()
        held = [key async for key in raw.scan_iter(trial.prefix + "held:*")]
        assert len(held) <= 1
    await trial.audit()


# -------------------------------------------------------------------------------------------------------- 10: memory


async def test_10_memory_stays_flat(durable_server: RunningServer, tmp_path: Path) -> None:
    """Elsewhere acknowledged entries stayed in the stream, until Redis was full and nothing could be written, not even
    what would have made room (bullmq#274, svix-webhooks#679).

    Here an event leaves the stream when it is taken in, and ended runs leave with their retention: after the first
    rounds keys and bytes do not grow.
    """
    variables = {"RETENTION_RUNS": "100", "DEDUP_WINDOW_MS": "1000"}
    trial = Trial(durable_server, tmp_path, variables)
    rounds = await soak(trial, rounds=5, jobs=200)
    keys = [keys for keys, _ in rounds]
    used = [used for _, used in rounds]
    assert max(keys[2:]) - min(keys[2:]) <= 10, keys
    assert used[-1] < used[2] * 1.05 + 100_000, used


@pytest.mark.chaos
async def test_10_memory_stays_flat_for_longer(durable_server: RunningServer, tmp_path: Path) -> None:
    """The same over forty rounds of a thousand runs."""
    trial = Trial(durable_server, tmp_path, {"RETENTION_RUNS": "1000", "DEDUP_WINDOW_MS": "1000"})
    rounds = await soak(trial, rounds=40, jobs=1_000)
    keys = [keys for keys, _ in rounds]
    used = [used for _, used in rounds]
    assert max(keys[2:]) - min(keys[2:]) <= 10, keys
    assert used[-1] < used[3] * 1.05 + 100_000, used


async def test_10_at_the_high_water_mark_work_is_refused_and_what_runs_drains(tmp_path: Path) -> None:
    """The end of the same story elsewhere: a full Redis refuses every write, also those that would make room.

    Here what would start new runs is refused from the high-water mark on, in words; running work goes on, drains, and
    makes the room in which publishing is taken again.
    """
    options = {"RETENTION_RUNS": "5", "DEDUP_WINDOW_MS": "1000"}
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "server", maxmemory="24mb") as server:
        trial = Trial(server, tmp_path, options)
        async with trial.client() as client, trial.raw() as raw:
            async with trial.working("first"):
                await trial.ask("listener", steps=("told:1",))
                await trial.at("listener", RunStatus.WAITING)
            async with trial.store() as store:
                taken = await fill(client, store, "big")
            memory = await raw.info("memory")
            assert 0.80 < memory["used_memory"] / memory["maxmemory"] < 0.92, memory
            assert len(taken) > 50, "not exercised: the server was full from the start"
            # No new runs, but whoever runs already is told what it waits for.
            await trial.tell("listener", 1)
            async with trial.working("second", CONCURRENCY_LIMIT="20") as working:
                assert await trial.completed("listener") == {"listener": [1]}
                await eventually(lambda: len(trial.lines(phase="end")) == len(taken), 20, "all that was taken is done")
                again = big_job("afterwards")

                async def taken_again() -> bool:
                    try:
                        return not (await client.publish(again)).duplicate
                    except StoreFull:
                        return False

                await eventually(taken_again, 10, "room again")
                await trial.completed("afterwards")
                assert not [fact for fact in working.facts if isinstance(fact, SessionLost | LeaseLost | PartFailed)]
    assert {line.job for line in trial.lines()} == {*taken, "afterwards"}


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


# -------------------------------------------------------------------------------------------------- 12: stale claims


@both_servers
async def test_12_a_claim_on_a_stale_view_takes_nothing(trial: Trial) -> None:
    """Elsewhere a recoverer read "pending on a dead executor", another one did too, and the slower one ran work that it
    did not own; and a worker that drained took back what it had just released (dbos-transact-py#742, #804, #716).

    Here every claim is compared with what is there when it is written.
    """
    await trial.ask("j")
    async with players(trial, "dead", "quick", "slow") as (dead, quick, slow):
        [old] = await dead.ingest(1)
        # Two supervisors saw the worker die. The quick one acts, and its run is leased by a living worker.
        assert await quick.store.close(dead.session, died=True)
        [taken] = await quick.ingest(1)
        # The slow one acts on what it saw before.
        assert await slow.store.close(dead.session, died=True)
        assert await slow.ingest(1) == []
        view = await slow.store.run(old.ref)
        assert view is not None
        assert (view.owner, view.token, view.takeovers) == (quick.session, taken.token, 1)


@both_servers
async def test_12_a_draining_worker_cannot_take_back_what_it_released(trial: Trial) -> None:
    """The second half of the case: everything that a draining worker had under way arrives after its close."""
    await trial.ask("j")
    async with players(trial, "draining", "next") as (draining, following):
        [old] = await draining.ingest(1)
        late = draining.step(old, Mode.KEEP)
        assert await draining.store.close(draining.session)
        assert await draining.may_not_ingest()
        assert isinstance(await draining.store.renew(draining.session, [(old.ref, old.token)]), transitions.SessionLost)
        [outcome] = await draining.store.commit([late])
        assert outcome.word == "fenced"
        [run] = await following.ingest(1)
        assert run.token > old.token
        view = await following.store.run(run.ref)
        assert view is not None
        assert (view.owner, view.takeovers) == (following.session, 0), "a drain is no takeover"
        await following.store.close(following.session)


# ------------------------------------------------------------------------------------------------- 13: blocking reads


async def idle_then_busy(trial: Trial, block_ms: int, idle_s: float) -> None:
    async with trial.working(POLL_INTERVAL_MS=str(block_ms), LEASE_TTL_MS="10000") as working:
        await trial.ask("first")
        await trial.completed("first")
        idle_since = time.monotonic()
        # Nothing may happen for so long: the one wait of this file whose point is the time itself.
        await asyncio.sleep(idle_s)
        assert not [fact for fact in working.facts if isinstance(fact, StoreLost | SessionLost | LeaseLost)]
        assert working.signs.store_errors == 0
        asked = time.monotonic()
        await trial.ask("second")
        await eventually(lambda: trial.lines("second"), 5, "the idle worker works")
        assert time.monotonic() - asked < 0.5, f"slow after {asked - idle_since:.1f} s of idling"
        await trial.completed("second")


async def test_13_an_idle_worker_outlasts_every_timeout(trial: Trial) -> None:
    """Elsewhere a blocking read was longer than the socket's timeout: on an idle queue the worker died, or stayed
    wedged with its process "up" (vibetuner#2035, redis-py#2243).

    Here the deadline of a read follows from its block time. Blocks of 5.5 s are longer than the 5 s of a command.
    """
    await idle_then_busy(trial, block_ms=5_500, idle_s=6.0)


@pytest.mark.chaos
async def test_13_an_idle_worker_outlasts_several_block_times(trial: Trial) -> None:
    """The same over four block times."""
    await idle_then_busy(trial, block_ms=6_000, idle_s=25.0)


# ------------------------------------------------------------------------------------------------ 14: only in memory

BEFORE_THE_FIRST_RECORD: tuple[tuple[Crash | None, str | None], ...] = (
    (None, "ingest.done:kill:1:0"),
    (Crash("ingest", "moved"), None),
    (Crash("commit", "before"), None),
    (None, "commit.before:kill:1:0"),
    (None, "action.before:kill:1:0"),
    (None, "action.after:kill:1:0"),
)


async def test_14_nothing_leaves_redis_before_its_result_is_stored(trial: Trial) -> None:
    """Elsewhere a job was popped from its list and was in one process only: a crash, and it was gone (sidekiq's basic
    fetch; sidekiq#6379 for the run that was there twice).

    Here the entry leaves the stream in the step that writes it into its run: killed right after that, before the first
    record, the run is there with its start event, and another worker completes it.
    """

    async def die_and_recover(number: int, crash: Crash | None, fault: str | None) -> None:
        own = replace(trial, namespace=f"{trial.namespace[:40]}-{number}")
        await own.register()
        await own.ask("j", steps=("note", "note"))
        victim: Killable = own.process("victim", crash, fault)
        assert await victim.died() == -signal.SIGKILL
        async with own.store() as store:
            assert (await store.depth()).events == 0, "not exercised: the event was not taken in"
            view = await own.view("j")
            assert view is not None
            start: Sequence[str] | None = await store.start_event(RunRef(view.ref))
            assert start is not None
            assert "asked-j" in start
        async with own.working("healer"):
            assert await own.completed("j") == {"j": [0, 1]}
        audit = await own.audit()
        assert (audit.added, audit.routed) == (1, 1)

    async with asyncio.TaskGroup() as group:
        for number, (crash, fault) in enumerate(BEFORE_THE_FIRST_RECORD):
            group.create_task(die_and_recover(number, crash, fault))
