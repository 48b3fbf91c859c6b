"""What an author's code may do wrong harms its own run only: the worker lives on or is replaced, the others go on."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.guarantees.orders import EVENTS
from tests.guarantees.service import Service, eventually, started
from tests.support.servers import RunningServer, free_port
from workflow_worker.client.client import Client
from workflow_worker.store.transitions import RunQuery

APP = """
import asyncio
import itertools
import os
import threading
import time
from dataclasses import dataclass
from typing import Any
from workflow_worker import App, RetryPolicy, wf

app = App("hostile", retry=RetryPolicy(attempts=2, initial=0.05))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


class NotAnException(BaseException):
    pass


@app.event("asked", subject="how")
@dataclass(frozen=True)
class Asked:
    how: str


@app.action(timeout=0.3)
async def perform(how: str) -> Any:
    match how:
        case "action-unspeakable":
            raise Unspeakable
        case "action-base-exception":
            raise NotAnException("x")
        case "action-swallows-cancel":
            until = time.monotonic() + 2
            while time.monotonic() < until:
                try:
                    await asyncio.sleep(2)
                except asyncio.CancelledError:
                    pass
            return how
        case "action-cancels-itself":
            asyncio.current_task().cancel()
            await asyncio.sleep(1)
        case "action-cycle":
            found: list = []
            found.append(found)
            return found
        case "action-forks":
            if not (child := os.fork()):
                os._exit(0)
            os.waitpid(child, 0)
            return how
        case "action-thread":
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
            return how
        case "action-task":
            app.left_behind = asyncio.create_task(asyncio.sleep(30))
            return how
        case "action-memory":
            return len(bytearray(100_000_000))
        case "action-spins":
            while True:
                pass
        case "action-holds-the-interpreter":
            return sum(itertools.repeat(1, 10_000_000_000))
        case _:
            return how


@app.workflow(on=Asked, id="{how}")
async def answer(asked: Asked) -> Any:
    match asked.how:
        case "workflow-unspeakable":
            raise Unspeakable
        case "workflow-base-exception":
            raise NotAnException("x")
        case "workflow-recurses":
            return await answer_again(asked)
        case "workflow-object":
            return object()
        case "workflow-huge":
            return "x" * 50_000_000
        case "workflow-clock":
            time.sleep(0.01)
            return str(time.time())
        case "workflow-waits-for-nobody":
            await asyncio.Event().wait()
        case "workflow-many-tasks":
            return await asyncio.gather(*(asyncio.sleep(0) for _ in range(20_000)))
        case "workflow-swallows-cancel":
            while True:
                try:
                    await asyncio.sleep(0.05)
                    return asked.how
                except asyncio.CancelledError:
                    pass
        case "workflow-sleeps-in-code":
            time.sleep(10_000)
    return await perform(asked.how)


async def answer_again(asked: Asked) -> Any:
    return await answer_again(asked)
"""

SUSPENDED = (
    "action-unspeakable",
    "action-base-exception",
    "action-cancels-itself",
    "action-cycle",
    "workflow-unspeakable",
    "workflow-base-exception",
    "workflow-recurses",
    "workflow-object",
    "workflow-huge",
    "workflow-waits-for-nobody",
)
COMPLETED = (
    "action-swallows-cancel",
    "action-forks",
    "action-thread",
    "action-task",
    "action-memory",
    "workflow-many-tasks",
    "workflow-swallows-cancel",
)


@pytest.fixture
async def hostile(durable_server: RunningServer, tmp_path: Path) -> AsyncIterator[Service]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hostile.py").write_text(APP)
    environment = {
        "CONCURRENCY_LIMIT": "4",
        "LEASE_TTL_MS": "1000",
        "STALL_LIMIT_MS": "1000",
        "MAX_TAKEOVERS": "2",
        "WORKER_COUNT": "2",
    }
    service = Service(durable_server.url, free_port(), folder, folder / "hostile.py", environment)
    with started(service):
        yield await service.ready()


async def ask(service: Service, *hows: str) -> None:
    client = redis.asyncio.from_url(service.url)
    try:
        for how in hows:
            await client.xadd(EVENTS, {"type": "asked", "subject": how, "data": json.dumps({"how": how})})
    finally:
        await client.aclose()


async def at_rest(service: Service, wanted: dict[str, str], within_s: float) -> None:
    """Wait until these runs have these statuses."""
    seen: dict[str, str] = {}
    async with Client.connect(service.url) as client:

        async def look() -> bool:
            page = await client.runs(RunQuery(limit=500))
            seen.update({view.id: view.status.value for view in page.items})
            return all(seen.get(how) == status for how, status in wanted.items())

        try:
            await eventually(look, within_s, "runs at rest")
        except AssertionError:
            wrong = {how: seen.get(how) for how, status in wanted.items() if seen.get(how) != status}
            raise AssertionError(f"{wrong}, see {service.log}") from None


def error_of(service: Service, how: str) -> dict[str, Any]:
    return json.loads(service.cli("runs", "show", f"answer:{how}", "--json"))["error"]


@pytest.mark.timeout(90)
async def test_each_kind_of_bad_code_costs_its_own_run_only(hostile: Service) -> None:
    pids = {worker["pid"] for worker in hostile.workers()}
    healthy = [f"healthy-{number}" for number in range(len(SUSPENDED))]
    await ask(hostile, *(how for pair in zip(SUSPENDED, healthy, strict=True) for how in pair), *COMPLETED)
    wanted = dict.fromkeys(SUSPENDED, "suspended") | dict.fromkeys((*healthy, *COMPLETED), "completed")
    await at_rest(hostile, wanted, within_s=45)
    assert {worker["pid"] for worker in hostile.workers()} == pids, "no worker had to be replaced"
    for how in SUSPENDED:
        error = error_of(hostile, how)
        assert error["message"] or error["type"], f"{how}: a person must be able to read why"
    for line in hostile.log.read_text().splitlines():
        json.loads(line)


async def standing_still(service: Service, *hows: str) -> None:
    """Code whose event loop does not turn, among healthy runs."""
    await ask(service, *hows, *(f"beside-{number}" for number in range(30)))
    wanted = dict.fromkeys(hows, "suspended") | {f"beside-{number}": "completed" for number in range(30)}
    await at_rest(service, wanted, within_s=60)
    await eventually(lambda: service.health().get("status") == "healthy", 10, "healthy again")
    await ask(service, "afterwards")
    await at_rest(service, {"afterwards": "completed"}, within_s=10)
    for worker in service.workers():
        os.kill(worker["pid"], 0)  # raises for one that is not there
    audit = json.loads(service.cli("audit", "--json"))
    assert audit["balanced"] is True, audit


@pytest.mark.timeout(90)
async def test_code_that_stands_still_costs_a_worker_and_then_its_own_run_only(hostile: Service) -> None:
    """A loop that does not turn for STALL_LIMIT_MS gets its worker replaced; the run that does it again and again is
    suspended, and meanwhile and afterwards the others go on."""
    await standing_still(hostile, "workflow-sleeps-in-code", "action-spins")


@pytest.mark.chaos
@pytest.mark.timeout(90)
async def test_code_that_lets_no_thread_run_costs_a_worker_and_then_its_own_run_only(hostile: Service) -> None:
    """A call into C that holds the interpreter: not even the thread that renews the lease gets a turn."""
    await standing_still(hostile, "action-holds-the-interpreter")
