"""The nemesis: deals faults of all kinds from a shuffled deck, and writes down what it did and when.

Which fault comes when follows from the seed; which process or connection it meets also depends on the moment. Faults
that have Redis down come one at a time, everything else overlaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from tests.chaos.arena import CRASHED, Arena, Lane, Site, end, is_stopped
from tests.chaos.faults import (
    CALM_BEYOND_LEASE_S,
    CALM_S,
    CUTS,
    PRODUCER_POINTS,
    REDIS_FAULTS,
    SELDOM,
    WEATHERS,
    Happened,
    Ledger,
    calms_of,
    deal,
)
from tests.chaos.measures import News
from tests.guarantees.service import eventually
from tests.support.proxy import FAIR, Cut, FaultProxy, Weather

_LOOK_EVERY_S = 0.1
_PAUSES_AT_MOST = 1
"""So often a worker stops at its pause point; then it is told to drain, else those that stop would be all that live."""
_ALL_ASLEEP_LEASES = 0.2
"""When all workers stand still, one is continued so much later: nobody takes over from zombies else."""
_DRAINED_WITHIN_S = 7.0
_BURST = 20
"""Faults of one burst."""
_BURST_SHARE = 0.4
"""They come within this share of their time; in the rest the system gets up and has much in its hands again."""


class Nemesis:
    """Deals one deck over one arena."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._chance = random.Random(f"nemesis at work {arena.scale.seed}")
        self._lease_s = arena.scale.lease_ms / 1000
        self.ledger = Ledger(diary=arena.folder / "nemesis.jsonl")
        self._stopped: dict[int, float] = {}
        """Workers that stand still, and until when (monotonic seconds)."""
        self._proxies_busy: set[str] = set()
        self._busiest = False
        """The next victim is the one with most in its hands: there is something to take over then."""

    async def run(self, seconds: float) -> None:
        """Deal the deck within so many seconds, in storms with calms between them; ends when the last fault is over."""
        scale = self._arena.scale
        deck = deal(scale.faults, scale.seed)
        calms = calms_of(scale.measured, len(deck), scale.measure)
        storms = max(1, len(calms))
        storm_s = max(1.0, seconds - sum(map(self._calm_s, itertools.chain(*calms)))) / storms
        for number in range(storms):
            await self._storm(deck[number::storms], storm_s)
            if number < len(calms):
                await self._calm(calms[number], last=number == storms - 1)

    async def _storm(self, kinds: Sequence[str], seconds: float) -> None:
        """Faults in bursts: what is dealt to a system that lies down already meets no work in progress."""
        gap = seconds / max(1, len(kinds))
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for place, kind in enumerate(kinds):
                within = place % _BURST
                due = began + (place - within + within * _BURST_SHARE) * gap
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._strike(kind))

    # ------------------------------------------------------------------------------------------------------ the calms

    async def _calm(self, kinds: Sequence[str], last: bool) -> None:
        """Faults that come alone, one after the other: no other is dealt, and no worker dies or stops at a point."""
        self.release()
        self._arena.arm(False)
        await self._renew_workers()
        for kind in kinds:
            await self._measure(kind)
        if not last:
            self._arena.arm(self._arena.scale.armed)
            await self._renew_workers()

    async def _renew_workers(self) -> None:
        """Drain all workers; the services start others, which are armed or not as it is now said."""
        old = self._arena.worker_pids()
        for pid in old:
            end(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):  # one that executes something long is killed with its server, later
            await eventually(
                lambda: not set(old) & set(self._arena.worker_pids()), _DRAINED_WITHIN_S, "workers drained"
            )

    async def _measure(self, kind: str) -> None:
        """One fault with nothing else going on, and time to recover from it."""
        with contextlib.suppress(AssertionError):  # where nobody works, there is nothing to take over or to come back
            await eventually(lambda: asyncio.to_thread(self._all_sites_work), 8, "all sites healthy and at work")
        self._busiest = True
        await self._strike(kind, calm=True)
        self._busiest = False
        if kind in REDIS_FAULTS:
            await self._until_back(time.monotonic_ns())
        else:
            await asyncio.sleep(self._calm_s(kind))

    async def _until_back(self, since: int) -> None:
        """Until an event that was acknowledged from now on has its effect."""
        news = News(self._arena.effects)

        def back() -> bool:
            then = {probe.run for probe in self._arena.probe.probed if probe.acknowledged > since}
            return any(run in then for run in news.begun())

        with contextlib.suppress(AssertionError):  # the figures will say so
            await eventually(back, CALM_BEYOND_LEASE_S + self._lease_s, "consumption back")

    def _all_sites_work(self) -> bool:
        return all(site.healthy() and site.executing() for site in self._arena.sites)

    def _calm_s(self, kind: str) -> float:
        return CALM_S.get(kind, self._lease_s + CALM_BEYOND_LEASE_S)

    def release(self) -> None:
        """Let everybody go on."""
        for pid in list(self._stopped):
            end(pid, signal.SIGCONT)
        self._stopped.clear()
        for pid in self._arena.worker_pids():
            if is_stopped(pid):
                self.ledger.paused[pid] += 1
                end(pid, signal.SIGCONT)
        for proxy in self._arena.proxies.values():
            proxy.clear()

    # ---------------------------------------------------------------------------------------------------- the warden

    async def guard(self) -> None:
        """Continue what stands still when its time has come, and leave one worker awake; runs until it is cancelled,
        because workers stop at pause points also when no fault is dealt any more."""
        arena = self._arena
        while True:
            now = time.monotonic()
            pids = await asyncio.to_thread(arena.worker_pids)
            for pid in pids:
                if pid not in self._stopped and is_stopped(pid):
                    self.ledger.paused[pid] += 1
                    self._stopped[pid] = now + self._pause_s()
            asleep = [pid for pid in pids if pid in self._stopped]
            if pids and len(asleep) == len(pids):
                first = min(asleep, key=self._stopped.__getitem__)
                self._stopped[first] = min(self._stopped[first], now + _ALL_ASLEEP_LEASES * self._lease_s)
            for pid, until in list(self._stopped.items()):
                if until <= now:
                    del self._stopped[pid]
                    self._continue(pid)
            for lane in arena.lanes:
                if lane.poll() in (CRASHED, -signal.SIGKILL):
                    self._start_lane(lane)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _continue(self, pid: int) -> None:
        end(pid, signal.SIGCONT)
        if self.ledger.paused[pid] >= _PAUSES_AT_MOST and end(pid, signal.SIGTERM):
            now = time.monotonic_ns()
            self.ledger.add(Happened("worker told to drain", now, now))

    def _pause_s(self) -> float:
        """1.2 to 5 leases, the long ones rarely."""
        return self._lease_s * (1.2 + 3.8 * self._chance.random() ** 3)

    # ----------------------------------------------------------------------------------------------------- one fault

    async def _strike(self, kind: str, calm: bool = False) -> None:
        began = time.monotonic_ns()
        if kind in CUTS:
            done = await self._cut(CUTS[kind])
        elif kind in WEATHERS:
            done = await self._change_weather(WEATHERS[kind])
        else:
            done = await self._strikes[kind]()
        if done is None:
            self.ledger.missed[kind] += 1
            return
        pids, site = done
        self.ledger.add(Happened(kind, began, time.monotonic_ns(), pids, site, calm))

    @property
    def _strikes(self) -> dict[str, Callable[[], Awaitable[tuple[tuple[int, ...], str] | None]]]:
        return {
            "worker killed": self._kill_worker,
            "worker stopped and continued": self._stop_worker,
            "server of a site killed": self._kill_site,
            "supervisor killed": self._kill_supervisor,
            "worker told to drain": self._drain_worker,
            "service scaled": self._scale,
            "redis killed": self._kill_redis,
            "redis frozen": self._freeze_redis,
            "clients killed": self._kill_clients,
            "scripts flushed": self._flush_scripts,
            "memory full": self._fill_memory,
            "producer killed": self._kill_producer,
            "connections reset": self._reset,
        }

    def _a_site(self) -> Site | None:
        alive = [site for site in self._arena.sites if site.alive]
        if alive and self._busiest:
            return max(alive, key=Site.executing)
        return self._chance.choice(alive) if alive else None

    def _a_worker(self) -> int | None:
        if self._busiest:
            busy = {pid: count for site in self._arena.sites for pid, count in site.busy().items()}
            return max(busy, key=busy.__getitem__, default=None)
        pids = [pid for pid in self._arena.worker_pids() if pid not in self._stopped]
        return self._chance.choice(pids) if pids else None

    async def _kill_worker(self) -> tuple[tuple[int, ...], str] | None:
        pid = self._a_worker()
        if pid is None:
            return None
        self.ledger.ours.add(pid)
        return ((pid,), "") if end(pid, signal.SIGKILL) else None

    async def _stop_worker(self) -> tuple[tuple[int, ...], str] | None:
        pid = self._a_worker()
        if pid is None or not end(pid, signal.SIGSTOP):
            return None
        pause_s = self._pause_s()
        self._stopped[pid] = time.monotonic() + pause_s
        await asyncio.sleep(pause_s)
        return (), ""

    async def _drain_worker(self) -> tuple[tuple[int, ...], str] | None:
        pid = self._a_worker()
        return ((), "") if pid is not None and end(pid, signal.SIGTERM) else None

    async def _kill_site(self) -> tuple[tuple[int, ...], str] | None:
        site = self._a_site()
        if site is None:
            return None
        pids = site.kill()
        self.ledger.ours.update(pids)
        await self._come_back(site)
        return tuple(pids), site.name

    async def _kill_supervisor(self) -> tuple[tuple[int, ...], str] | None:
        site = self._a_site()
        if site is None:
            return None
        self.ledger.ours.update(site.worker_pids())  # they drain; one that hangs kills itself
        site.kill_supervisor()
        await self._come_back(site)
        return (), site.name

    async def _come_back(self, site: Site) -> None:
        """As an operator's init system does it."""
        await asyncio.sleep(0.2 + self._chance.random())
        if not site.alive:
            site.start()

    async def _scale(self) -> tuple[tuple[int, ...], str] | None:
        site = self._a_site()
        if site is None or not await asyncio.to_thread(site.rescale, site.workers_wanted + 1):
            return None
        await asyncio.sleep(1.5)
        await asyncio.to_thread(site.rescale, site.workers_wanted)
        return (), site.name

    async def _kill_producer(self) -> tuple[tuple[int, ...], str] | None:
        lane = self._chance.choice(self._arena.lanes)
        if not lane.kill():
            return None
        self._start_lane(lane)
        return (), ""

    def _start_lane(self, lane: Lane) -> None:
        armed = self._arena.scale.armed and self._chance.random() < 0.7
        if armed:
            lane.start(self._chance.choice(PRODUCER_POINTS), self._chance.choice(("exit", "kill")))
        else:
            lane.start()

    # ----------------------------------------------------------------------------------------------------- the server

    async def _kill_redis(self) -> tuple[tuple[int, ...], str] | None:
        async with self._arena.down:
            self._arena.redis.kill()
            await asyncio.sleep(self._chance.random() * 0.5)
            await asyncio.to_thread(self._arena.redis.start)
        return (), ""

    async def _freeze_redis(self) -> tuple[tuple[int, ...], str] | None:
        async with self._arena.down:
            self._arena.redis.freeze()
            try:
                await asyncio.sleep(self._lease_s * (0.1 + 1.4 * self._chance.random() ** 2))
            finally:
                self._arena.redis.thaw()
        return (), ""

    async def _kill_clients(self) -> tuple[tuple[int, ...], str] | None:
        async with self._arena.down:
            admin = self._arena.admin()
            try:
                for _ in range(5):
                    for kind in ("normal", "pubsub"):
                        await asyncio.to_thread(admin.execute_command, "CLIENT KILL", "TYPE", kind, "SKIPME", "yes")
                    await asyncio.sleep(0.05)
            finally:
                admin.close()
        return (), ""

    async def _flush_scripts(self) -> tuple[tuple[int, ...], str] | None:
        async with self._arena.down:
            admin = self._arena.admin()
            try:
                await asyncio.to_thread(admin.execute_command, "SCRIPT FLUSH")
            finally:
                admin.close()
        return (), ""

    async def _fill_memory(self) -> tuple[tuple[int, ...], str] | None:
        async with self._arena.down:
            admin = self._arena.admin()
            try:
                used: int = (await asyncio.to_thread(admin.info, "memory"))["used_memory"]
                await asyncio.to_thread(admin.config_set, "maxmemory", max(1, used - 100_000))
                await asyncio.sleep(0.3 + self._chance.random() * 1.2)
            finally:
                await asyncio.to_thread(admin.config_set, "maxmemory", 0)
                admin.close()
        return (), ""

    # ---------------------------------------------------------------------------------------------------- the network

    def _a_proxy(self, idle: bool = False) -> tuple[str, FaultProxy] | None:
        found = [each for each in self._arena.proxies.items() if not idle or each[0] not in self._proxies_busy]
        return self._chance.choice(found) if found else None

    async def _reset(self) -> tuple[tuple[int, ...], str] | None:
        chosen = self._a_proxy()
        return ((), chosen[0]) if chosen is not None and chosen[1].reset() else None

    async def _cut(self, cut: Cut) -> tuple[tuple[int, ...], str] | None:
        """Break the connection of the next call of a script that comes through a proxy."""
        # Half of the cuts wait for one script, so that also those which are called seldom lose their replies.
        script = self._chance.choice(SELDOM) if self._chance.random() < 0.5 else None
        name = self._chance.choice(sorted(self._arena.proxies if script is None else self._arena.ways_of(script)))
        proxy = self._arena.proxies[name]
        before = proxy.counts[cut]
        proxy.cut(cut, 1, b"EVALSHA" if script is None else self._arena.shas[script])
        with contextlib.suppress(AssertionError):
            await eventually(lambda: proxy.counts[cut] > before, 5, "a request to cut")
        if proxy.counts[cut] == before:
            proxy.cancel_cuts()
            return None
        return (), name

    async def _change_weather(self, weather: Weather) -> tuple[tuple[int, ...], str] | None:
        chosen = self._a_proxy(idle=True)
        if chosen is None:
            return None
        name, proxy = chosen
        self._proxies_busy.add(name)
        try:
            proxy.set(weather)
            if weather.half_open or weather.refuse:
                proxy.reset()  # else nobody would connect anew
            await asyncio.sleep(self._lease_s * (0.15 + 1.6 * self._chance.random() ** 3))
        finally:
            proxy.set(FAIR)
            self._proxies_busy.discard(name)
        return (), name
