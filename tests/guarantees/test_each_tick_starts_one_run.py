"""A schedule starts exactly one run for each tick, among all workers of all servers, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.guarantees.service import Service, eventually
from tests.support.servers import RunningServer, free_port
from workflow_worker import Client
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import RunQuery

APP = """
import os
from workflow_worker import App, action, wf

app = App("ticking")

@app.action
async def note(at: str) -> None:
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{at} {action.idempotency_key}\\n")

@app.workflow(cron="* * * * * *", overlap="allow", catch_up=60)
async def second(tick: wf.Tick) -> None:
    await note(tick.at.isoformat())
"""


@pytest.fixture
def services(durable_server: RunningServer, tmp_path: Path) -> Iterator[list[Service]]:
    """Two servers of two workers each."""
    app = tmp_path / "ticking.py"
    app.write_text(APP)
    made: list[Service] = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        environment = {"NOTES": str(tmp_path / "notes"), "LEASE_TTL_MS": "1000", "POLL_INTERVAL_MS": "200"}
        made.append(Service(durable_server.url, free_port(), folder, app, environment).start())
    yield made
    for service in made:
        service.kill()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rounds", [3, pytest.param(12, marks=pytest.mark.chaos)])
async def test_each_tick_starts_one_run_whoever_is_killed(
    services: list[Service], durable_server: RunningServer, tmp_path: Path, rounds: int
) -> None:
    for service in services:
        await service.ready()
    async with Client.connect(durable_server.url) as client:
        schedule = client.schedule_handle("second")

        async def started(count: int) -> bool:
            return (await schedule.view()).started >= count

        for kills in range(1, rounds + 1):
            await eventually(lambda kills=kills: started(2 * kills), 30, f"{2 * kills} ticks")
            keeper = await client.run("ww.schedule:second")
            workers = services[kills % 2].workers()
            everyone = [worker for each in services for worker in each.workers()]
            holders = [worker for worker in everyone if str(worker["pid"]) in keeper.owner]
            for victim in holders or workers[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim["pid"], signal.SIGKILL)
        services[0].kill()
        before = (await schedule.view()).started
        await eventually(lambda: started(before + 3), 30, "ticks on the server that is left")
        await schedule.pause()

        async def at_rest() -> bool:
            runs = await client.runs(RunQuery(workflow="second", limit=1))
            done = await client.runs(RunQuery(workflow="second", status=RunStatus.COMPLETED, limit=1))
            return (await schedule.view()).paused and runs.total == done.total

        await eventually(at_rest, 30, "all runs completed")
        view = await schedule.view()
        runs = (await client.runs(RunQuery(workflow="second", limit=1_000))).items
    ticks = sorted(datetime.fromisoformat(run.id.partition("@")[2]) for run in runs)
    assert ticks == [ticks[0] + timedelta(seconds=n) for n in range(len(ticks))], "no tick is missing"
    assert (len(ticks), 0) == (view.started, view.missed)
    keys = {tuple(line.split()) for line in (tmp_path / "notes").read_text().splitlines()}
    assert Counter(at for at, _ in keys) == Counter(tick.isoformat() for tick in ticks), "one run for each"
