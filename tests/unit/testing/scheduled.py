"""An app with schedules, importable, so that paranoid environments replay it in another process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from workflow_worker import App, wf

app = App("scheduled")


@app.event("order.placed", subject="order_id")
@dataclass(frozen=True)
class OrderPlaced:
    order_id: str


@app.action
async def send(text: str) -> None:
    """Faked in tests."""


@app.workflow(cron="*/5 * * * *")
async def report(tick: wf.Tick) -> str:
    """Short: never under way at the next tick."""
    await send(f"{tick.schedule} {tick.at.isoformat()}")
    return tick.at.isoformat()


@app.workflow()
async def long(minutes: float = 12, tick: wf.Tick | None = None) -> str:
    """Takes its time."""
    await asyncio.sleep(minutes * 60)
    return "done"


@app.workflow(on=OrderPlaced, id="order-{order_id}")
async def fulfil(order: OrderPlaced) -> str:
    """Started by its event, or by a schedule that gives one."""
    return order.order_id


nightly = App("nightly")


@nightly.workflow(cron="30 2 * * *", timezone="Europe/Berlin", catch_up=timedelta(hours=3))
async def close_books() -> None:
    """Takes nothing."""
