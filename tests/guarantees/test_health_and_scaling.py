"""Health says how it goes, the counts add up, and scaling costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable

import redis.asyncio

from tests.guarantees.orders import EVENTS, all_completed, order_fields, place_orders
from tests.guarantees.service import Service, eventually, judge, read_effects
from tests.support.servers import RunningServer

FIELDS = [
    "status",
    "workerCount",
    "healthyWorkers",
    "degradedWorkers",
    "unhealthyWorkers",
    "eventsProcessed",
    "eventsSucceeded",
    "eventsFailed",
    "activeEvents",
    "timestamp",
]


async def test_a_killed_worker_shows_and_heals(make_service: Callable[..., Service]) -> None:
    service = make_service()
    await service.ready()
    report = service.health()
    assert list(report) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", report["timestamp"])
    assert report["workerCount"] == 2
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    await eventually(lambda: service.health()["status"] == "degraded", 5, "degraded after the kill")
    await eventually(lambda: service.health()["status"] == "healthy", 10, "healthy again")
    report = service.health()
    assert report["healthyWorkers"] + report["degradedWorkers"] + report["unhealthyWorkers"] == report["workerCount"]


async def test_a_stopped_worker_is_not_healthy(make_service: Callable[..., Service]) -> None:
    service = make_service(LEASE_TTL_MS="2000", STALL_LIMIT_MS="60000")
    await service.ready()
    victim = service.workers()[0]["pid"]
    os.kill(victim, signal.SIGSTOP)
    try:
        await eventually(lambda: service.health()["status"] != "healthy", 10, "not healthy while one stands still")
    finally:
        os.kill(victim, signal.SIGCONT)
    await eventually(lambda: service.health()["status"] == "healthy", 15, "healthy after SIGCONT")


async def test_the_counts_add_up_after_mixed_events(
    durable_server: RunningServer, make_service: Callable[..., Service]
) -> None:
    good, bad, repeated, undeclared = 8_600, 300, 800, 300
    service = make_service(ORDERS_STEP_MS="0", METRICS_REPORTING_INTERVAL_MS="500", CONCURRENCY_LIMIT="50")
    await service.ready()
    client = redis.asyncio.from_url(durable_server.url)
    pipeline = client.pipeline(transaction=False)
    for number in range(good):
        order = f"o-{number}"
        fields = order_fields(order, order)
        pipeline.xadd(EVENTS, fields)
        if number < repeated:
            pipeline.xadd(EVENTS, fields)
    for number in range(bad):
        pipeline.xadd(EVENTS, {"type": "order.placed", "subject": f"bad-{number}", "data": '{"order_id": 7}'})
    for number in range(undeclared):
        pipeline.xadd(EVENTS, {"type": "order.unknown", "subject": f"u-{number}", "data": "{}"})
    await pipeline.execute()
    await client.aclose()
    await all_completed(durable_server.url, good + bad, within_s=50)
    await eventually(lambda: service.health()["eventsProcessed"] >= good + bad, 5, "all counted")
    report = service.health()
    assert report["eventsProcessed"] == good + bad
    assert report["eventsSucceeded"] == good
    assert report["eventsFailed"] == bad
    metrics = service.metrics()
    assert metrics["ww_events_processed_total"] == good + bad
    assert metrics["ww_events_failed_total"] == bad
    line = await eventually(
        lambda: next(
            (
                text
                for text in reversed(service.log.read_text().splitlines())
                if f'"events_processed": {good + bad}' in text or f'"events_processed":{good + bad}' in text
            ),
            None,
        ),
        5,
        "the metrics line with the same numbers",
    )
    assert json.loads(line)["events_failed"] == bad
    audit = json.loads(service.cli("audit", "--json"))
    assert audit["duplicate"] == repeated
    assert audit["dead"] == undeclared
    assert audit["balanced"] is True


async def test_scaling_repeats_no_attempt(durable_server: RunningServer, make_service: Callable[..., Service]) -> None:
    service = make_service(WORKER_COUNT="1", ORDERS_STEP_MS="20")
    await service.ready()
    placing = asyncio.create_task(place_orders(durable_server.url, 1_000, per_second=200))
    for count in (4, 2):
        await asyncio.sleep(1.2)  # the load goes on meanwhile; what is waited for follows
        await asyncio.to_thread(service.cli, "scale", str(count))
        await eventually(
            lambda wanted=count: service.health()["workerCount"] == wanted, 15, f"scaled to {count} workers"
        )
    orders = await placing
    await all_completed(durable_server.url, len(orders), within_s=30)
    verdict = judge(read_effects(service.effects), orders)
    assert verdict.repeated == 0
    assert verdict.disordered == 0
    assert all(effect.attempt == 1 for effect in read_effects(service.effects))
    assert service.stop() == 0
