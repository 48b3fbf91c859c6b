"""Taking over from the dead and the stale: ways in which other queues and engines on Redis did it twice or never.

Part of the fourteen cases of `test_what_peers_got_wrong_*`, each with the fact that forbids it here. Numbers such as
kombu#337 name the public reports from which the cases were taken.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from dataclasses import replace

import pytest

from tests.guarantees.faulty_store import Crash
from tests.guarantees.playing import Player, let_expire, players
from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial
from workflow_worker.model.record import ActionCompleted
from workflow_worker.store import transitions
from workflow_worker.store.transitions import Mode

both_servers = pytest.mark.parametrize("trial", ["valkey-9.1", "redis-8.2"], indirect=True)


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
    assert time.monotonic() - thawed < 2, "a fifth of the lease and a round trip, on a machine that does other things"
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
            assert await stale.store.load(stale.session, [(old.ref, token)]) == [None]
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
        assert await player.store.load(player.session, [(old.ref, old.token)]) == [None]
        renewed = await player.store.renew(player.session, [(old.ref, old.token)])
        assert isinstance(renewed, transitions.Renewed)
        assert renewed.lost == ((old.ref, old.token),)
        assert (await player.store.commit([player.step(new, Mode.END)]))[0].word == "ok"
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
