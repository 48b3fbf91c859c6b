"""Redis may die, restart, or come late: nothing is lost, and consumption resumes by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from tests.guarantees.orders import all_completed, place_orders
from tests.guarantees.service import Service, eventually, judge, read_effects, started
from tests.support.servers import RunningServer, free_port, server_binary


async def test_consumption_resumes_after_redis_was_killed(
    durable_server: RunningServer, make_service: Callable[..., Service]
) -> None:
    service = make_service(LEASE_TTL_MS="2000")
    await service.ready()
    placing = asyncio.create_task(place_orders(durable_server.url, 800, per_second=200))
    await eventually(lambda: service.health()["eventsProcessed"] > 100, 10, "work under way")
    durable_server.kill()
    await eventually(lambda: service.get("/api/health/worker")[0] == 503, 15, "503 while Redis is away")
    durable_server.start()
    back_at = time.monotonic()
    before = service.health()["eventsProcessed"]
    await eventually(lambda: service.health()["eventsProcessed"] > before, 5, "consumption within 5 s")
    await eventually(lambda: service.health()["status"] == "healthy", 5 - (time.monotonic() - back_at), "healthy again")
    orders = await placing
    await all_completed(durable_server.url, len(orders), within_s=30)
    assert judge(read_effects(service.effects), orders).disordered == 0


async def test_a_service_started_without_redis_says_so_and_works_when_it_comes(tmp_path: Path) -> None:
    server = RunningServer(server_binary("valkey-9.1"), tmp_path / "server", appendonly=True)
    server.start()
    url = server.url
    server.stop()
    folder = tmp_path / "work"
    folder.mkdir()
    service = Service(url, free_port(), folder, environment={"LEASE_TTL_MS": "2000"})
    with started(service):
        await eventually(lambda: service.get("/api/health/worker")[0] == 503, 15, "503 without Redis")
        await eventually(lambda: "does not answer" in service.log.read_text(), 15, "a line that says so")
        server.start()
        try:
            await service.ready(10)
            orders = await place_orders(url, 20, per_second=200)
            await all_completed(url, len(orders), within_s=10)
        finally:
            service.stop()
            server.stop()
