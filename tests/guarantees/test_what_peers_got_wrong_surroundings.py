"""Clusters, full memory and idle sockets: ways in which other queues on Redis failed where they were put.

Part of the fourteen cases of `test_what_peers_got_wrong_*`, each with the fact that forbids it here. Numbers such as
kombu#337 name the public reports from which the cases were taken.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.guarantees.cluster_nodes import foreign_node
from tests.guarantees.jobs import job_event
from tests.guarantees.memory_pressure import big_job, fill, soak
from tests.guarantees.service import eventually, started
from tests.guarantees.trial import Trial, service_of
from tests.support.servers import RunningServer, server_binary
from workflow_worker.model.exceptions import ConfigurationError, StoreFull
from workflow_worker.model.facts import LeaseLost, PartFailed, SessionLost, StoreLost
from workflow_worker.model.run import RunStatus

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


async def test_10_room_that_a_person_makes_is_noticed_at_the_next_tick(tmp_path: Path) -> None:
    """Whoever lifts ``maxmemory`` must not be refused for as long as the last look at a full server counts."""
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "server", maxmemory="24mb") as server:
        trial = Trial(server, tmp_path)
        async with trial.client() as client, trial.raw() as raw, trial.store() as store:
            await trial.register()
            await fill(client, store, "big")
            await raw.config_set("maxmemory", 0)
            await store.tick()
            assert not (await client.publish(big_job("afterwards"))).duplicate


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
        assert time.monotonic() - asked < 2, f"slow after {asked - idle_since:.1f} s of idling"
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
