"""``workflow-worker demo``: a real service, a thousand orders, a killed worker, and what became of it all."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from workflow_worker.cli.connect import connected
from workflow_worker.cli.demo_app import OrderPlaced
from workflow_worker.cli.demo_service import DemoService
from workflow_worker.cli.output import Meter, complain, say, status_style
from workflow_worker.cli.runs import print_run
from workflow_worker.client.client import Client
from workflow_worker.client.timeline import Moment, moments
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.record import ActionCompleted, decode_record
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.settings import Settings
from workflow_worker.store.transitions import RunQuery

_RESULTS_EACH = 3
_KILL_WITHIN_S = 10.0
_DRAIN_WITHIN_S = 40.0
_STEP_MS = "20"


@dataclass(slots=True)
class _Story:
    """What happened so far."""

    published_at: dict[str, int] = field(default_factory=dict[str, int])
    killed_pid: int = 0
    killed_at: int = 0
    orphans: list[str] = field(default_factory=list[str])
    """Runs that the killed worker held, by their full names."""


def demo(
    orders: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="Sample orders to publish.")] = 1_000,
    rate: Annotated[float, typer.Option(metavar="PER_SECOND", min=1, max=5_000, help="Orders a second.")] = 100,
) -> None:
    """See everything in half a minute. Nothing to set up, nothing left behind.

    Starts an embedded server and a service with two workers in a temporary folder, publishes 1,000 sample orders at
    about 100 a second, kills a worker that holds runs with SIGKILL half-way, waits until every order is completed,
    and checks that each has its three results exactly once. Then shows the history of a run that lost its worker,
    the health report, throughput and latency. The last line is one JSON object.
    """
    with tempfile.TemporaryDirectory(prefix="ww-demo-") as folder:
        before = Path.cwd()
        os.chdir(folder)  # where the embedded server is found
        try:
            done = asyncio.run(_demo(Path(folder), orders, rate))
        finally:
            os.chdir(before)
    if not done:
        raise typer.Exit(1)


async def _demo(folder: Path, orders: int, rate: float) -> bool:
    environment = {"WORKER_COUNT": "2", "CONCURRENCY_LIMIT": "50", "ORDERS_STEP_MS": _STEP_MS}
    environment["HEALTH_CHECK_INTERVAL_MS"] = "1000"
    environment["ORDERS_EFFECTS"] = str(folder / "effects.log")
    settings = Settings.from_mapping(environment)
    say("starting an embedded server and a service with 2 workers …")
    service = DemoService(folder, environment)
    try:
        await service.start()
        async with connected(settings) as client:
            done = await _play(client, service, orders, rate)
    except (StoreUnavailable, TimeoutError) as error:
        complain(f"the demo did not come to its end: {error}")
        for line in service.last_lines():
            complain(line)
        return False
    finally:
        await service.stop()
    return done


async def _play(client: Client, service: DemoService, orders: int, rate: float) -> bool:
    story = _Story()
    begin = time.monotonic()
    say(f"publishing {orders:,} orders at {rate:g} a second; one worker will be killed in the middle")
    async with asyncio.TaskGroup() as group:
        halfway = asyncio.Event()
        group.create_task(_publish(client, story, orders, rate, halfway))
        group.create_task(_kill_one(client, service, story, halfway))
    runs = await _all_completed(client, orders)
    seconds = time.monotonic() - begin
    wrong = await _wrong_results(client, runs)
    await _report(client, service, story, runs)
    latencies = sorted(run.updated_at - story.published_at[run.subject or ""] for run in runs)
    summary = {
        "orders": orders,
        "completed": len(runs) - len(wrong),
        "killed": 1,
        "seconds": round(seconds, 2),
        "p50_ms": _quantile(latencies, 0.50),
        "p99_ms": _quantile(latencies, 0.99),
    }
    _conclude(service, summary, wrong)
    print(msgspec.json.encode(summary).decode(), flush=True)
    return not wrong and len(runs) == orders


async def _publish(client: Client, story: _Story, orders: int, rate: float, halfway: asyncio.Event) -> None:
    begin = time.monotonic()
    with Meter("orders published", orders) as meter:
        for number in range(orders):
            wait = begin + number / rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            order = OrderPlaced(f"o-{number + 1:04}", f"c-{number % 97}", 100 + number)
            story.published_at[order.order_id] = time.time_ns() // 1_000_000
            data = msgspec.json.encode(order)
            await client.publish(Event(f"evt-{order.order_id}", "order.placed", order.order_id, data))
            meter.at(number + 1)
            if number + 1 >= orders / 2:
                halfway.set()


async def _kill_one(client: Client, service: DemoService, story: _Story, halfway: asyncio.Event) -> None:
    """Kill a worker that holds runs. It is stopped first, so that what it holds stays in its hands until it dies."""
    await halfway.wait()
    deadline = time.monotonic() + _KILL_WITHIN_S
    while time.monotonic() < deadline:
        for worker in await service.workers():
            if not worker["held"]:
                continue
            pid = int(worker["pid"])
            os.kill(pid, signal.SIGSTOP)
            held = await _held_by(client, str(worker["session"]))
            if not held:
                os.kill(pid, signal.SIGCONT)
                continue
            story.killed_pid, story.killed_at = pid, time.time_ns() // 1_000_000
            story.orphans = held
            os.kill(pid, signal.SIGKILL)
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("no worker held a run when it should have been killed")


async def _held_by(client: Client, session: str) -> list[str]:
    found = await client.runs(RunQuery(status=RunStatus.RUNNING, limit=200))
    return [run.ref for run in found.items if run.owner == session]


async def _all_completed(client: Client, orders: int) -> list[RunView]:
    deadline = time.monotonic() + _DRAIN_WITHIN_S
    while (done := (await client.runs(RunQuery(status=RunStatus.COMPLETED, limit=1))).total) < orders:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{done} of {orders} orders are completed, the others take too long")
        await asyncio.sleep(0.05)
    return list((await client.runs(RunQuery(status=RunStatus.COMPLETED, limit=orders))).items)


async def _wrong_results(client: Client, runs: list[RunView]) -> list[str]:
    """Runs that do not have each of their three results exactly once."""
    wrong: list[str] = []
    with Meter("histories checked", len(runs)) as meter:
        for run in runs:
            records = [decode_record(raw) for raw in await client.history(run.ref)]
            names = [record.name for record in records if isinstance(record, ActionCompleted)]
            if len(names) != _RESULTS_EACH or len(set(names)) != _RESULTS_EACH:
                wrong.append(run.ref)
            meter.advance()
    return wrong


async def _report(client: Client, service: DemoService, story: _Story, runs: list[RunView]) -> None:
    histories = {ref: await client.history(ref) for ref in story.orphans}
    shown = max(histories, key=lambda ref: sum(moment.at < story.killed_at for moment in moments(histories[ref])))
    say()
    say(f"worker process {story.killed_pid} was killed with {len(story.orphans)} runs in its hands; one of them:")
    say()
    run = next(run for run in runs if run.ref == shown)
    kill = Moment(
        story.killed_at, "killed", "☠", f"worker {story.killed_pid} killed", "SIGKILL; another worker goes on"
    )
    print_run(run, histories[shown], extra=[kill])
    say()
    report = await service.healed()
    say("health, after a new process took the killed one's place:")
    say(msgspec.json.encode(report).decode(), style=status_style(str(report.get("status"))))


def _conclude(service: DemoService, summary: Mapping[str, Any], wrong: list[str]) -> None:
    performed = service.effects()
    results = int(summary["completed"]) * _RESULTS_EACH
    say()
    say(f"throughput  {summary['orders'] / summary['seconds']:.0f} orders/s, as fast as they were published")
    say(f"latency     p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']} ms from publish to completed")
    say(f"results     {results:,}, each recorded once; actions performed {performed:,} times")
    if performed > results:
        say(f"            ({performed - results} were done but not recorded when the worker was killed, and repeated)")
    for ref in wrong[:10]:
        complain(f"{ref} does not have its {_RESULTS_EACH} results exactly once")
    say()


def _quantile(ordered: list[int], part: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
