"""Schedules that code declares, on real workers: begun at their start, changed by a deploy, told once by many."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.stage import Stage, stage_of
from tests.support.servers import RunningServer
from workflow_worker import App, wf
from workflow_worker.client.declaring import declare_schedules, state_of
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import RunQuery

KEEPER = "ww.schedule:tick"


def app_with(cron: str | None, **options: Any) -> App:
    app = App("ticking")

    async def tick(tick: wf.Tick | None = None) -> None:
        wf.state(at=None if tick is None else tick.at.isoformat())

    app.workflow(cron=cron, name="tick", **options)(tick)
    return app


async def started(stage: Stage, least: int) -> None:
    """Wait until the schedule has started so many runs."""

    def reached(view: RunView | None) -> bool:
        return state_of(view).get("started", 0) >= least

    await stage.until_it(KEEPER, reached, 20)


async def test_a_worker_begins_what_its_app_declares(server: RunningServer) -> None:
    async with stage_of(app_with("* * * * * *"), server=server, cached=0) as stage:
        stage.start("w2")
        await started(stage, 2)
        assert (await stage.store.runs(RunQuery(workflow="tick"))).total >= 1
        assert (await stage.client.schedules())[0].started >= 2
        await stage.client.schedule_handle("tick").delete()
        await stage.until(KEEPER, RunStatus.COMPLETED)


async def test_a_thousand_workers_say_it_once_and_a_deploy_changes_it() -> None:
    async with stage_of(app_with("0 0 1 1 *")) as stage:
        await stage.until_state(KEEPER, cron="0 0 1 1 *", revision=1)
        for number, cron in enumerate(("0 0 2 1 *", "0 0 1 1 *", "0 0 2 1 *"), start=2):
            app = app_with(cron)
            await asyncio.gather(*(declare_schedules(stage.store, app) for _ in range(1_000)))
            await stage.until_state(KEEPER, cron=cron, revision=number)
        view = await stage.view(KEEPER)
        assert view is not None
        assert view.mails == 0
        assert len([record for record in await stage.history(KEEPER) if "EventReceived" in repr(record)]) == 3


async def test_what_the_code_does_not_declare_any_more_is_not_started_and_says_so() -> None:
    async with stage_of(app_with("* * * * * *")) as stage:
        await started(stage, 1)
        await stage.stop()
        stage.app = app_with(None)
        stage.start("newer")
        await stage.until_it(KEEPER, lambda view: "declares no schedule any more" in state_of(view).get("problem", ""))
        [view] = await stage.client.schedules()
        assert view.next is None
        await stage.client.schedule_handle("tick").delete()
        await stage.until(KEEPER, RunStatus.COMPLETED)


async def test_a_deleted_schedule_comes_back_with_the_next_worker() -> None:
    async with stage_of(app_with("0 0 1 1 *")) as stage:
        await stage.until_state(KEEPER, revision=1)
        await stage.client.schedule_handle("tick").delete()
        await stage.until(KEEPER, RunStatus.COMPLETED)
        await stage.restart()
        await stage.until(KEEPER, RunStatus.WAITING)


async def test_many_schedules_are_declared_in_several_calls() -> None:
    app = App("many")

    async def nothing() -> None: ...

    for number in range(450):
        app.workflow(cron="0 0 1 1 *", name=f"w{number}")(nothing)
    async with stage_of(app) as stage:
        await stage.until("ww.schedule:w449", RunStatus.WAITING)
        assert len(await stage.client.schedules()) == 450
