"""A report every working day at seven, local time, whatever the season: one run for each tick, among all workers.

workflow-worker dev examples/report.py
workflow-worker schedules list
workflow-worker schedules run report
workflow-worker schedules backfill report --since 2026-11-01 --until 2026-11-08
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from workflow_worker import App, action, wf

app = App("reporting")


@dataclass(frozen=True, slots=True)
class Sales:
    """Of one shop, in cents."""

    shop: str
    total: int


@app.action
async def shops() -> list[str]:
    """Those there are; asked anew in each run."""
    return ["Berlin", "Porto"]


@app.action
async def sales_of(shop: str, since: datetime, until: datetime) -> Sales:
    """Read the books: the span comes from the tick, so a run that is late or made up for reads the same days."""
    return Sales(shop, int((until - since).total_seconds()) // 3600 * len(shop))


@app.action
async def deliver(text: str) -> None:
    """Mail it; the idempotency key makes a repeated attempt the same mail."""
    action.log.info("delivered", text=text, key=action.idempotency_key)


@app.workflow(cron="0 7 * * 1-5", timezone="Europe/Berlin", overlap="queue", catch_up=timedelta(hours=6))
async def report(tick: wf.Tick) -> str:
    """The day before, or the weekend and Friday. Servers that were down at seven make up for it until one o'clock."""
    days = 3 if tick.at.weekday() == 0 else 1
    since = tick.at - timedelta(days=days)
    found = await asyncio.gather(*[sales_of(shop, since, tick.at) for shop in await shops()])
    text = f"{since:%d.%m.} to {tick.at:%d.%m.}: " + ", ".join(f"{each.shop} {each.total / 100:.2f}" for each in found)
    wf.state(text=text)
    await deliver(text)
    return text
