"""A worker that dies with runs in its hands loses nothing and doubles no recorded result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable

import pytest

from tests.guarantees.orders import all_completed, place_orders
from tests.guarantees.service import Service, eventually, judge, read_effects
from tests.support.servers import RunningServer


async def kill_now_and_then(service: Service, every_s: float, stop: asyncio.Event, hit: list[int]) -> None:
    """SIGKILL a random worker that holds runs, every `every_s` seconds, and note it in `hit`."""
    chosen = random.Random(7)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await stop.wait()
        while not stop.is_set():
            workers = [worker for worker in await asyncio.to_thread(service.workers) if worker["held"] > 0]
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid := chosen.choice(workers)["pid"], signal.SIGKILL)
                    hit.append(pid)
                break


async def orders_under_kills(
    service: Service, url: str, count: int, rate: float, every_s: float, least_kills: int
) -> tuple[int, int]:
    """Returns kills that hit a worker with runs, and repeated actions. Orders go on until there were enough kills."""
    await service.ready()
    stop = asyncio.Event()
    hit: list[int] = []
    killer = asyncio.create_task(kill_now_and_then(service, every_s, stop, hit))
    orders = await place_orders(url, count, rate)
    while len(hit) < least_kills and len(orders) < 3 * count:
        orders += await place_orders(url, 100, rate, prefix=f"more-{len(orders)}")
    stop.set()
    await killer
    kills = len(hit)
    assert kills >= least_kills, "not exercised: too few kills hit a worker that held runs"
    await all_completed(url, len(orders), within_s=60)
    verdict = judge(read_effects(service.effects), orders)
    assert verdict.disordered == 0
    audit = service.cli("audit", "--json")
    assert '"balanced": true' in audit or '"balanced":true' in audit, audit
    return kills, verdict.repeated


async def test_every_order_completes_though_workers_are_killed(
    durable_server: RunningServer, make_service: Callable[..., Service]
) -> None:
    service = make_service(LEASE_TTL_MS="3000")
    await orders_under_kills(service, durable_server.url, count=1_500, rate=400, every_s=0.6, least_kills=4)


@pytest.mark.chaos
async def test_every_order_completes_at_400_a_second_with_a_kill_each_second(
    durable_server: RunningServer, make_service: Callable[..., Service]
) -> None:
    service = make_service(LEASE_TTL_MS="3000")
    kills, repeated = await orders_under_kills(
        service, durable_server.url, count=20_000, rate=400, every_s=1.0, least_kills=40
    )
    print(f"\n{kills} kills hit a worker that held runs; {repeated} actions of 60,000 ran again")


async def test_a_zombie_is_refused(durable_server: RunningServer, make_service: Callable[..., Service]) -> None:
    service = make_service(LEASE_TTL_MS="1000", ORDERS_STEP_MS="200", STALL_LIMIT_MS="60000")
    await service.ready()
    orders = await place_orders(durable_server.url, 20, per_second=400)
    victim = await eventually(
        lambda: next((worker for worker in service.workers() if worker["held"] > 0), None), 5, "a worker with runs"
    )
    os.kill(victim["pid"], signal.SIGSTOP)
    try:
        await all_completed(durable_server.url, len(orders), within_s=30)
    finally:
        os.kill(victim["pid"], signal.SIGCONT)
    await eventually(lambda: service.health().get("status") == "healthy", 15, "healthy after the zombie woke")
    verdict = judge(read_effects(service.effects), orders)
    assert verdict.disordered == 0
    log = service.log.read_text()
    assert "commit refused" in log or "session lost" in log, "the zombie was not told"
    listed = service.cli("runs", "list", "--json")
    assert '"takeovers": 1' in listed or '"takeovers":1' in listed, "no takeover is visible"
    audit = service.cli("audit", "--json")
    assert '"balanced": true' in audit or '"balanced":true' in audit, audit


async def test_a_dead_servers_runs_go_on_elsewhere(
    durable_server: RunningServer, make_service: Callable[..., Service]
) -> None:
    lease_ms = 2_000
    first = make_service(LEASE_TTL_MS=str(lease_ms), ORDERS_STEP_MS="200")
    await first.ready()
    orders = await place_orders(durable_server.url, 60, per_second=1_000)
    await eventually(lambda: any(worker["held"] > 0 for worker in first.workers()), 5, "runs in the first one's hands")
    second = make_service(LEASE_TTL_MS=str(lease_ms), ORDERS_STEP_MS="200")
    await second.ready()
    first.kill()
    killed_at = asyncio.get_running_loop().time()
    # What is left is at most 60 orders of three steps of 0.2 s, ten at a time: 4 s of work after the takeover.
    await all_completed(durable_server.url, len(orders), within_s=lease_ms / 1000 + 1 + 8)
    verdict = judge(read_effects(first.effects), orders)
    assert verdict.disordered == 0
    print(f"\nall orders done {asyncio.get_running_loop().time() - killed_at:.1f} s after the first server died")
