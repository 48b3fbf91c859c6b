"""The primary dies, or stands still and comes back, under load: what DURABILITY promises of acknowledged events holds.

A producer publishes orders one after the other and notes each that was acknowledged; a real service works on them, and
both find the primary through three Sentinels. Afterwards every acknowledged order is looked for. The longer scenarios
(`chaos`) also print what was lost: ``pytest -m chaos -rP tests/guarantees/test_failover.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.service import Service, eventually, judge, read_effects, started
from tests.integration.test_store_faults import STATES, say
from tests.support.sentinels import DOWN_AFTER_MS, Replicated
from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.client.client import Client
from workflow_worker.client.opening import opened_store
from workflow_worker.model.ids import run_ref
from workflow_worker.model.run import RunStatus
from workflow_worker.model.settings import Settings
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import RunQuery

BACK_WITHIN_S = DOWN_AFTER_MS / 1000 + 20
"""Sentinels need this to agree; then one deadline of a command (5 s) and the worker's own pauses, on a busy machine."""


@dataclass
class Producer:
    """Publishes orders without a pause; `acked` are those whose publishing returned, in that order."""

    settings: Settings
    acked: list[str] = field(default_factory=list[str])
    stopped: bool = False

    async def run(self) -> None:
        """Publish until stopped; each order again and again, with the same id, until it is acknowledged."""
        async with Client.from_settings(self.settings, patience=60) as client:
            number = 0
            while not self.stopped:
                order = f"o-{number}"
                await client.publish("order.placed", {"order_id": order}, subject=order, id=f"evt-{order}")
                self.acked.append(order)
                number += 1
                await asyncio.sleep(0.004)


@dataclass(frozen=True)
class Outcome:
    """What an outsider found when all was quiet again."""

    acked: list[str]
    lost: list[str]
    chosen_s: float
    """How long the sentinels took."""
    still_s: float
    """The longest time in which no event was processed, with the strike in it."""
    repeated: int

    @property
    def lost_a_suffix(self) -> bool:
        """Whether what is lost was acknowledged one directly after the other: the last before the strike."""
        begin = self.acked.index(self.lost[0]) if self.lost else 0
        return self.acked[begin : begin + len(self.lost)] == self.lost

    def __str__(self) -> str:
        return (
            f"acknowledged {len(self.acked)}, lost {len(self.lost)}, no consumption for {self.still_s:.1f} s (the"
            f" sentinels took {self.chosen_s:.1f}),"
            f" actions repeated {self.repeated}"
        )


async def under_load(
    url: str, durability: str, folder: Path, strike: Callable[[], Awaitable[float]], *, load_s: float = 2.0
) -> Outcome:
    """Load, the strike, load again, rest; then look for everything that was acknowledged."""
    await asyncio.to_thread(folder.mkdir)
    environment = {"DURABILITY": durability, "LEASE_TTL_MS": "3000", "CONCURRENCY_LIMIT": "50", "ORDERS_STEP_MS": "2"}
    service = Service(url, free_port(), folder, environment=environment)
    settings = Settings.from_mapping({"REDIS_URL": url, "DURABILITY": durability})
    with started(service):
        await service.ready(30)
        workers = {worker["pid"] for worker in service.workers()}
        producer = Producer(settings)
        producing = asyncio.create_task(producer.run())
        await eventually(lambda: service.health()["eventsProcessed"] > 50, 20, "work under way")
        await asyncio.sleep(load_s)  # the load itself, not something waited for
        standing = asyncio.create_task(longest_standstill(service, producer))
        chosen_s = await strike()
        before, acked_before = service.health()["eventsProcessed"], len(producer.acked)
        await eventually(lambda: len(producer.acked) > acked_before + 20, BACK_WITHIN_S, "publishing is possible again")
        await eventually(
            lambda: service.health()["eventsProcessed"] > before + 20, BACK_WITHIN_S, "consumption is back"
        )
        await asyncio.sleep(load_s)
        producer.stopped = True
        await producing
        still_s = await standing
        assert {worker["pid"] for worker in service.workers()} == workers, "nobody had to be replaced"
        async with opened_store(settings, folder) as store:
            await eventually(lambda: _at_rest(store), 40, "nothing waits any more, and no run is stuck")
            there = [await store.run(run_ref("fulfil", f"order-{order}")) for order in producer.acked]
            audit = await store.audit()
        assert audit.balanced, audit.problems
        lost = [order for order, run in zip(producer.acked, there, strict=True) if run is None]
        kept = [order for order, run in zip(producer.acked, there, strict=True) if run is not None]
        assert {run.status for run in there if run is not None} == {RunStatus.COMPLETED}
        return Outcome(producer.acked, lost, chosen_s, still_s, judge(read_effects(service.effects), kept).repeated)


async def longest_standstill(service: Service, producer: Producer) -> float:
    """In seconds, until the producer ends."""
    last, since, longest = -1, time.monotonic(), 0.0
    while not producer.stopped:
        now, processed = time.monotonic(), service.health().get("eventsProcessed", -1)
        longest = max(longest, now - since)
        if processed != last:
            last, since = processed, now
        await asyncio.sleep(0.05)
    return longest


async def _at_rest(store: Store) -> bool:
    """No event in the stream, and every run that there is has ended."""
    depth = await store.depth()
    live = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.SUSPENDED)
    totals = [(await store.runs(RunQuery(status=status, limit=1))).total for status in live]
    return depth.events == depth.ready == sum(totals) == 0


def group_of(tmp_path: Path, *, min_replicas: int) -> Replicated:
    return Replicated(
        server_binary("valkey-9.1"),
        tmp_path / "group",
        replicas=2,
        appendonly=True,
        min_replicas_to_write=min_replicas,
        min_replicas_max_lag=1,
    )


async def chosen_instead_of(old: RunningServer, group: Replicated) -> float:
    """Wait until two sentinels call another server the primary; how long that took, in seconds."""

    def another() -> bool:
        with contextlib.suppress(AssertionError):  # they do not agree yet
            return group.primary() is not old
        return False

    begin = time.monotonic()
    await eventually(lambda: asyncio.to_thread(another), 40, "another primary")
    return time.monotonic() - begin


async def killed(group: Replicated) -> float:
    """The primary dies."""
    old = group.primary()
    old.kill()
    return await chosen_instead_of(old, group)


async def frozen_and_thawed(group: Replicated) -> float:
    """The old primary goes on, with the connections that it has, after another was chosen; knowing nothing of it."""
    old = group.primary()
    old.freeze()
    try:
        return await chosen_instead_of(old, group)
    finally:
        old.thaw()


async def killed_ahead_of_its_replicas(group: Replicated) -> float:
    """The primary loses its replicas and goes on for a second, then dies: what it acknowledged meanwhile dies too."""
    old = group.primary()
    replicas = [server for server in group.servers if server is not old]
    for replica in replicas:
        replica.freeze()
    old.command("CLIENT", "KILL", "TYPE", "replica")
    await asyncio.sleep(1.0)
    old.kill()
    for replica in replicas:
        replica.thaw()
    return await chosen_instead_of(old, group)


async def killed_three_times(group: Replicated) -> float:
    """Each time another: the dead come back as replicas of who came after them, with what they had."""
    longest = 0.0
    for _ in range(3):
        old = group.primary()
        old.kill()
        longest = max(longest, await chosen_instead_of(old, group))
        await asyncio.to_thread(old.start)
        await eventually(lambda: asyncio.to_thread(lambda: group.linked() == 2), 40, "both replicas follow the primary")
    return longest


async def test_replicated_loses_nothing_when_the_primary_is_killed(tmp_path: Path) -> None:
    with group_of(tmp_path, min_replicas=1) as group:
        outcome = await under_load(group.url, "replicated", tmp_path / "work", lambda: killed(group), load_s=0.5)
    print(outcome)
    assert outcome.lost == []


def _name(strike: Callable[[Replicated], Awaitable[float]]) -> str:
    return strike.__name__


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "strike", [killed, frozen_and_thawed, killed_ahead_of_its_replicas, killed_three_times], ids=_name
)
async def test_replicated_loses_nothing(strike: Callable[[Replicated], Awaitable[float]], tmp_path: Path) -> None:
    with group_of(tmp_path, min_replicas=1) as group:
        outcome = await under_load(group.url, "replicated", tmp_path / "work", lambda: strike(group))
    print(f"replicated, {strike.__name__}: {outcome}")
    assert outcome.lost == []


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.parametrize("strike", [killed, frozen_and_thawed, killed_ahead_of_its_replicas], ids=_name)
async def test_relaxed_loses_a_suffix_and_nothing_is_torn(
    strike: Callable[[Replicated], Awaitable[float]], tmp_path: Path
) -> None:
    with group_of(tmp_path, min_replicas=0) as group:
        outcome = await under_load(group.url, "relaxed", tmp_path / "work", lambda: strike(group))
    print(f"relaxed, {strike.__name__}: {outcome}")
    assert outcome.lost_a_suffix
    assert outcome.lost or strike is not killed_ahead_of_its_replicas, "without a loss this shows nothing"


# ------------------------------------------------------------------------------- states that a server passes through


@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_a_service_comes_through_every_state_of_its_server(tmp_path: Path) -> None:
    """A replica, without a primary, without replicas, with another password, without a right, without a disk: while it
    lasts nothing is consumed, and afterwards everything is, by the same processes."""
    folder = tmp_path / "work"
    await asyncio.to_thread(folder.mkdir)
    options: dict[str, Any] = {"enable_protected_configs": "yes"}
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "server", port=free_port(), **options) as server:
        service = Service(server.url, free_port(), folder, environment={"ORDERS_STEP_MS": "2", "LEASE_TTL_MS": "3000"})
        with started(service):
            await service.ready(30)
            workers = {worker["pid"] for worker in service.workers()}
            producer = Producer(Settings.from_mapping({"REDIS_URL": server.url}))
            producing = asyncio.create_task(producer.run())
            for word, (into, out_of) in STATES.items():
                await _consumes(service, 20)
                say(server, into)
                await eventually(lambda: service.get("/api/health/worker")[0] == 503, 15, f"503 while {word}")
                say(server, out_of)
                begin = time.monotonic()
                await _consumes(service, 20)
                print(f"{word}: consumption is back {time.monotonic() - begin:.1f} s after it ended")
            producer.stopped = True
            await producing
            async with opened_store(producer.settings, folder) as store:
                await eventually(lambda: _at_rest(store), 40, "nothing waits any more, and no run is stuck")
                assert (await store.audit()).balanced
            judge(read_effects(service.effects), producer.acked)
            assert {worker["pid"] for worker in service.workers()} == workers, "nobody had to be replaced"
        server.kill()


async def _consumes(service: Service, count: int) -> None:
    before = service.health()["eventsProcessed"]
    await eventually(lambda: service.health()["eventsProcessed"] > before + count, 15, "consumption")


# ------------------------------------------------------------------------------------------------------------ slow disk

_SLOW_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static int slowly(const char *name, int fd) {
    int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, name);
    usleep(SLOW_US);
    return real(fd);
}
int fdatasync(int fd) { return slowly("fdatasync", fd); }
int fsync(int fd) { return slowly("fsync", fd); }
"""


def slow_disk(folder: Path, slow_ms: int) -> Path:
    """A library that makes every sync take so much longer."""
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(_SLOW_DISK.replace("SLOW_US", str(slow_ms * 1_000)))
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


@pytest.mark.chaos
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("durability", "slow_ms"), [("fsync", 300), ("relaxed", 1_500)])
async def test_a_server_killed_while_its_disk_is_slow(durability: str, slow_ms: int, tmp_path: Path) -> None:
    """appendfsync everysec answers before it has written: with a slow disk a SIGKILL alone loses what it acknowledged,
    unless the answer waits for the disk."""
    server = RunningServer(
        server_binary("valkey-9.1"),
        tmp_path / "server",
        port=free_port(),
        preload=slow_disk(tmp_path, slow_ms),
        appendonly=True,
        appendfsync="everysec",
    )

    async def kill_and_start() -> float:
        server.kill()
        await asyncio.to_thread(server.start)
        return 0

    with server:
        outcome = await under_load(server.url, durability, tmp_path / "work", kill_and_start)
    print(f"{durability}, disk {slow_ms} ms slow: {outcome}")
    if durability == "fsync":
        assert outcome.lost == []
    assert outcome.lost_a_suffix
