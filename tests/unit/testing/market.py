"""An app that uses all a workflow can: for the tests of `TestEnv`."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel

from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf

app = App("market")


class Declined(Exception):
    """The bank says no."""


class Ordered(BaseModel):
    """A pydantic event, with a time in it."""

    order: str
    at: datetime
    items: list[str]


app.event("market.ordered", subject="order")(Ordered)


@app.event("market.paid", subject="order")
@dataclass(frozen=True, slots=True)
class Paid:
    order: str
    cents: int


@app.event("market.sold")
@dataclass(frozen=True, slots=True)
class Sold:
    item: str


@app.event("market.discount")
@dataclass(frozen=True, slots=True)
class Discount:
    percent: int


@app.event("market.opened", subject="stall")
@dataclass(frozen=True, slots=True)
class Opened:
    stall: str
    days: int
    takings: int = 0


@app.action(retry=RetryPolicy(Rule(Declined).permanent(Fail())))
def pick(item: str) -> str:
    """Sync: runs in a thread, and may block it."""
    return f"{item}@{threading.current_thread().name.partition('_')[0]}"


@pick.compensation
async def put_back(item: str, *, result: str | None) -> None:
    """Undo `pick`."""


@app.action(retry=RetryPolicy(Rule(Declined).permanent(Fail())))
async def pay(order: str, cents: int) -> str:
    """Take the money."""
    return f"{order}:{cents}:{action.attempt}"


@pay.compensation
async def pay_back(order: str, cents: int, *, result: str | None) -> None:
    """Undo `pay`."""


@app.workflow()
async def prepare(item: str) -> str:
    """A child: one at a time at the bench."""
    async with wf.lock("bench"):
        picked = await pick(item)
        await asyncio.sleep(60)
    wf.emit(Sold(item), subject=item)
    return picked


@app.workflow(on=Ordered, id="order-{order}")
async def sell(ordered: Ordered) -> list[str]:
    """Children, a saga, an update, a wait for two kinds of events."""
    percent = 0

    async def discount(wanted: Discount) -> int:
        nonlocal percent
        percent = wanted.percent
        return 100 - percent

    def small(wanted: Discount) -> None:
        if wanted.percent > 50:
            raise ValueError("too much")

    wf.on_update(Discount, discount, validate=small)
    prepared = await asyncio.gather(*[prepare(item) for item in ordered.items])
    wf.state(prepared=prepared, at=ordered.at.isoformat())
    async with wf.saga():
        await pick("bag")
        receipt = await pay(ordered.order, 100 - percent)
        paid = await wf.wait_for(Paid, timeout=timedelta(days=1), default=None)
        if paid is None:
            raise wf.Failed("never paid")
    return [*prepared, receipt, str(paid.cents)]


@app.workflow(on=Opened, id="stall-{stall}")
async def stall(opened: Opened) -> int:
    """A long life: a new history for each day."""
    sold = await wf.wait_for(Sold, subject="apple", timeout=timedelta(days=1), default=None)
    takings = opened.takings + (sold is not None)
    wf.state(takings=takings)
    if opened.days > 1:
        wf.continue_as_new(Opened(opened.stall, opened.days - 1, takings))
    return takings
