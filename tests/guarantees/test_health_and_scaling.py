"""Health says how it goes, the counts add up, and scaling costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis.asyncio

from tests.guarantees.orders import EVENTS, all_completed, order_fields, place_orders
from tests.guarantees.service import Service, eventually, judge, read_effects, started
from tests.support.servers import RunningServer, free_port, server_binary

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
    # The undeclared ones lie behind all others in the stream: the last run may end before they are looked at.
    await eventually(lambda: service.metrics()["ww_events_dead_total"] >= bad + undeclared, 10, "all taken in")
    await eventually(lambda: service.health()["eventsProcessed"] >= good + bad, 5, "all counted")
    report = service.health()
    assert report["eventsProcessed"] == good + bad
    assert report["eventsSucceeded"] == good
    assert report["eventsFailed"] == bad
    metrics = service.metrics()
    assert metrics["ww_events_processed_total"] == good + bad
    assert metrics["ww_events_failed_total"] == bad
    assert metrics["ww_events_ingested_total"] == good + bad + repeated + undeclared
    assert metrics["ww_events_duplicate_total"] == repeated
    assert metrics["ww_events_dead_total"] == bad + undeclared
    assert metrics["ww_events_early_total"] == 0
    letters = [line for line in service.log.read_text().splitlines() if "event became a dead letter" in line]
    assert 0 < len(letters) <= undeclared
    assert all("order.unknown" in line and "undeclared" in line for line in letters)
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


KILLER = """
import os
import signal
from dataclasses import dataclass
from workflow_worker import App

app = App("killer")


@app.event("asked", subject="how")
@dataclass(frozen=True)
class Asked:
    how: str


@app.action
async def perform(how: str) -> str:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return how


@app.workflow(on=Asked, id="{how}")
async def answer(asked: Asked) -> str:
    return await perform(asked.how)
"""


async def test_a_run_that_kills_its_workers_is_suspended_and_its_neighbours_finish(
    durable_server: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    variables = {"WORKER_COUNT": "2", "MAX_TAKEOVERS": "3", "LEASE_TTL_MS": "2000"}
    service = Service(durable_server.url, free_port(), tmp_path, tmp_path / "killer.py", variables)
    client = redis.asyncio.from_url(durable_server.url)
    with started(service):
        await service.ready()
        for subject in ("n-1", "kill", "n-2", "n-3"):
            await client.xadd(EVENTS, {"type": "asked", "subject": subject, "data": json.dumps({"how": subject})})
        found = await eventually(
            lambda: settled(json.loads(service.cli("runs", "list", "--json"))["items"], 4), 40, "all four at rest"
        )
        assert {run["id"]: run["status"] for run in found} == {
            "kill": "suspended",
            **{f"n-{number}": "completed" for number in (1, 2, 3)},
        }
        (killer,) = [run for run in found if run["id"] == "kill"]
        assert killer["takeovers"] == 4, "three more than the first, and no more workers than that"
        deaths = [line for line in service.log.read_text().splitlines() if "worker process died" in line]
        assert len(deaths) == 4
        await eventually(lambda: service.health()["status"] == "healthy", 15, "healthy after the last death")
    await client.aclose()


def settled(runs: list[dict[str, Any]], count: int) -> list[dict[str, Any]] | None:
    """The runs, when so many have ended or wait for a person."""
    at_rest = [run for run in runs if run["status"] in ("completed", "suspended", "failed", "cancelled")]
    return at_rest if len(at_rest) == count else None


async def test_memory_above_the_mark_shows_before_it_hurts(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "server", maxmemory="30mb") as server:
        service = Service(server.url, free_port(), tmp_path, environment={"MEMORY_HIGH_WATER": "70"})
        with started(service):
            await service.ready()
            assert 0 < service.metrics()["ww_store_memory_percent"] < 70
            async with redis.asyncio.from_url(server.url) as client:
                for number in range(23):
                    await client.set(f"ballast-{number}", b"x" * 1_000_000)
                await eventually(lambda: service.health()["status"] == "degraded", 10, "degraded while it is full")
                reasons = [reason for worker in service.workers() for reason in worker["reasons"]]
                assert any("of its memory (MEMORY_HIGH_WATER)" in reason for reason in reasons), reasons
                assert service.metrics()["ww_store_memory_percent"] > 70
                await client.delete(*(f"ballast-{number}" for number in range(23)))
            await eventually(lambda: service.health()["status"] == "healthy", 10, "healthy when it has room again")
            log = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
            told = [line["event"].partition(":")[0] for line in log if "memory" in line["event"]]
            assert told == ["Redis is short of memory", "Redis has memory again"]
