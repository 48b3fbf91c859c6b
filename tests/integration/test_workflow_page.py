"""The page on workflows is one program: it has no findings, and its workflows do what the page says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.programs import python_blocks
from tests.integration.stage import Stage, failure_of, result_of, stage_of
from workflow_worker.app.check import check
from workflow_worker.model.record import ActionCompleted
from workflow_worker.model.run import RunStatus

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "workflows.md"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """All pieces of the page as one module."""
    file = tmp_path / "shop_of_the_page.py"
    file.write_text("\n\n".join(block.code for block in python_blocks(PAGE)))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, file.stem, raising=False)
    return importlib.import_module(file.stem)


@pytest.fixture
async def stage(shop: ModuleType) -> AsyncIterator[Stage]:
    async with stage_of(shop.app) as made:
        yield made


def test_it_has_no_findings(shop: ModuleType) -> None:
    assert check(shop.app) == []


async def test_its_workflows_run(shop: Any, stage: Stage) -> None:
    await stage.publish(shop.OrderPlaced("o-1"))
    assert result_of(await stage.until("sell:saga-o-1")) == "payment-o-1"
    assert result_of(await stage.until("ship_all:boxes-o-1")) == ["o-1/1", "o-1/2", "o-1/3"]
    assert result_of(await stage.until("ship:gift-o-1")) == "o-1/0"
    assert result_of(await stage.until("take_stock:stock-o-1")) == "hold-o-1"
    await stage.until("desk:desk-o-1", RunStatus.WAITING)
    desk = stage.client.handle("desk", "desk-o-1")
    assert [await desk.update(shop.Readdress(where), timeout=5) for where in ("Rome", "Oslo")] == ["none", "Rome"]
    await stage.publish(shop.OrderPacked("o-1", "1Z"))
    assert result_of(await stage.until("desk:desk-o-1", RunStatus.COMPLETED)) == "Oslo"
    await stage.until("announce:packed-o-1", RunStatus.COMPLETED)
    assert result_of(await stage.until("mail:mail-o-1")) == "payment-o-1"
    steps = [record.name for record in await stage.history("mail:mail-o-1") if isinstance(record, ActionCompleted)]
    assert steps == ["reserve", "charge"]
    await stage.until("fulfil:order-o-1", RunStatus.WAITING)
    assert await stage.client.handle("fulfil", "order-o-1").state() == {"hold": "hold-o-1", "payment": "payment-o-1"}


async def test_its_saga_undoes(shop: Any, stage: Stage) -> None:
    await stage.publish(shop.OrderPlaced("o-2", 5_000))
    view = await stage.until("sell:saga-o-2")
    assert (view.status, failure_of(view).message) == (RunStatus.SUSPENDED, "5000 is too much")
    steps = [record.name for record in await stage.history("sell:saga-o-2") if isinstance(record, ActionCompleted)]
    assert steps == ["reserve", "release"]


async def test_its_runs_start_without_an_event(shop: Any, stage: Stage) -> None:
    assert await shop.ship_by_hand(stage.client) == "o-7/2"
    assert (await stage.until("ship:by-hand")).subject == "o-7"
    assert result_of(await stage.until("ship:by-name")) == "o-8/1"


async def test_its_schedules_start_runs(shop: Any, stage: Stage) -> None:
    nightly = await shop.order_every_night(stage.client)
    await stage.until("ww.schedule:nightly", RunStatus.WAITING)
    await shop.catch_up_with(nightly, datetime.now(UTC) - timedelta(days=3))
    await stage.until_state("ww.schedule:nightly", paused=True, started=4)
    runs = [run for run in (await stage.client.runs()).items if run.id.startswith("nightly@")]
    assert [run.workflow for run in runs] == ["sell"] * 4
    await stage.until_state("ww.schedule:report", cron="0 7 * * 1-5", timezone="Europe/Berlin")
