"""Workflow code that does not yield, or does what no workflow may, is suspended; its worker goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.service import Service, eventually, started
from tests.support.servers import RunningServer, free_port
from workflow_worker.client.client import Client
from workflow_worker.client.documents import run_failure
from workflow_worker.model.run import RunView
from workflow_worker.store.transitions import RunQuery

APP = """
import asyncio
import datetime
import logging
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from time import time as now
from typing import Any
from workflow_worker import App, wf

app = App("stuck")
lock = threading.Lock()
lock.acquire()
near, far = socket.socketpair()


@app.event("asked", subject="how")
@dataclass(frozen=True)
class Asked:
    how: str


@app.action
async def perform(how: str) -> str:
    return f"{how} {bool(time.time() and uuid.uuid4() and now() and datetime.datetime.now() and open(__file__).read())}"


@app.workflow(on=Asked, id="{how}")
async def answer(asked: Asked) -> Any:
    match asked.how:
        case "spins":
            while True:
                pass
        case "sleeps for nothing":
            while True:
                await asyncio.sleep(0)
        case "locks":
            lock.acquire()
        case "receives":
            near.recv(1)
        case "swallows":
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        case "holds the interpreter":
            re.match(r"(x+x+)+y", "x" * 40)
        case "time.time":
            now()
        case "time.sleep":
            time.sleep(1)
        case "uuid.uuid4":
            uuid.uuid4()
        case "open":
            open(__file__)
        case "threading.Thread.start":
            threading.Thread(target=print).start()
    await asyncio.sleep(0.01)
    logging.getLogger("author").warning("workflow code may log")
    return await perform(asked.how)
"""
STUCK = ("spins", "sleeps for nothing", "locks", "receives")
FORBIDDEN = ("time.time", "time.sleep", "uuid.uuid4", "open", "threading.Thread.start")


def service_on(server: RunningServer, tmp_path: Path, **environment: str) -> Service:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "stuck.py").write_text(APP)
    limits = {"LEASE_TTL_MS": "1500", "YIELD_LIMIT_MS": "500", "WORKER_COUNT": "1", **environment}
    return Service(server.url, free_port(), folder, folder / "stuck.py", limits)


async def ask(client: Client, *hows: str) -> None:
    for how in hows:
        await client.publish("asked", {"how": how}, subject=how)


async def at_rest(client: Client, *hows: str, within_s: float = 30) -> dict[str, RunView]:
    """These runs, once all of them have ended or are suspended."""
    found: dict[str, RunView] = {}

    async def look() -> bool:
        found.update({view.id: view for view in (await client.runs(RunQuery(limit=500))).items})
        return all(how in found and (found[how].status.ended or found[how].status == "suspended") for how in hows)

    await eventually(look, within_s, f"all at rest: {hows}")
    return found


def lines_of(service: Service, event: str) -> list[dict[str, Any]]:
    # A worker that is killed writes the stacks of its threads first; those lines are no JSON.
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.timeout(60)
async def test_stuck_code_is_suspended_with_its_stack_and_its_worker_goes_on(
    durable_server: RunningServer, tmp_path: Path
) -> None:
    service = service_on(durable_server, tmp_path)
    with started(service):
        await service.ready()
        pids = {worker["pid"] for worker in service.workers()}
        beside = [f"beside-{number}" for number in range(20)]
        async with Client.connect(durable_server.url) as client:
            await ask(client, *STUCK, *beside, *FORBIDDEN)
            runs = await at_rest(client, *STUCK, *beside, *FORBIDDEN)
        assert {runs[name].status for name in beside} == {"completed"}
        assert json.loads(runs["beside-0"].result or b"") == "beside-0 True"
        for how in (*STUCK, *FORBIDDEN):
            failure = run_failure(runs[how])
            assert failure is not None, how
            error = failure.message
            assert runs[how].status == "suspended", how
            assert ("did not yield for 0.5 s" in error and "stuck.py" in error) or how in FORBIDDEN, error
            assert how in STUCK or (how in error and "instead: " in error), error
        shown = json.loads(service.cli("runs", "show", "answer:spins", "--json"))["error"]["message"]
        assert "did not yield for 0.5 s" in shown
        assert {worker["pid"] for worker in service.workers()} == pids, "no worker had to be replaced"
    told = lines_of(service, "workflow code does not yield")
    assert {line["run"] for line in told} == {f"answer:{how}" for how in STUCK}
    # Code that yields to nobody may be met between two of its tasks; the run's failure names their lines.
    inside = [line for line in told if line["run"] != "answer:sleeps for nothing"]
    assert all("stuck.py" in line["exception"] for line in inside), inside


@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", ["swallows", pytest.param("holds the interpreter", marks=pytest.mark.chaos)])
async def test_what_no_signal_gets_out_costs_workers_until_the_run_is_suspended(
    durable_server: RunningServer, tmp_path: Path, how: str
) -> None:
    service = service_on(durable_server, tmp_path, STALL_LIMIT_MS="1000", MAX_TAKEOVERS="2", WORKER_COUNT="2")
    with started(service):
        await service.ready()
        async with Client.connect(durable_server.url) as client:
            await ask(client, how, "beside")
            runs = await at_rest(client, how, "beside", within_s=60)
            await ask(client, "afterwards")
            after = await at_rest(client, "afterwards")
        assert (runs[how].status, runs["beside"].status) == ("suspended", "completed")
        assert after["afterwards"].status == "completed"
    reasons = {line.get("reason", "") for line in lines_of(service, "worker process killed")}
    assert any("stood still" in reason for reason in reasons), reasons
