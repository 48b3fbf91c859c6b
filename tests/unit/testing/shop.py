"""A small app for the tests of `TestEnv`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from workflow_worker import App, wf
from workflow_worker.errors.classifier import Rule
from workflow_worker.errors.retry import RetryPolicy

app = App("small-shop")


@app.event("order.placed", subject="order_id")
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    order_id: str
    total: int


@app.event("shipment.packed", subject="order_id")
@dataclass(frozen=True, slots=True)
class ShipmentPacked:
    order_id: str
    tracking: str


class CardDeclined(Exception):
    pass


@app.action(retry=RetryPolicy(Rule(CardDeclined).permanent(), attempts=4), timeout=20)
async def charge(order_id: str, total: int) -> str:
    return f"real-{order_id}-{total}"


@app.action
def reserve(order_id: str) -> tuple[str, int]:
    return (order_id, 1)


@app.action
async def remind(order_id: str, day: int) -> None:
    del order_id, day


@app.workflow(on=OrderPlaced, id="order-{order_id}")
async def fulfil(order: OrderPlaced) -> str:
    wf.state(status="paying")
    held, payment = await asyncio.gather(reserve(order.order_id), charge(order.order_id, order.total))
    assert isinstance(held, tuple)
    wf.state(status="waiting", payment=payment)
    packed = await wf.wait_for(ShipmentPacked, timeout=timedelta(days=2), default=None)
    if packed is None:
        raise wf.Failed("warehouse did not pack in 2 days")
    await asyncio.sleep(7 * 86_400)
    return packed.tracking


@app.event("trial.begun", subject="user")
@dataclass(frozen=True, slots=True)
class TrialBegun:
    user: str


@app.workflow(on=TrialBegun, id="trial-{user}")
async def trial(begun: TrialBegun) -> int:
    for day in range(30):
        await asyncio.sleep(86_400)
        await remind(begun.user, day)
    return 30


@app.event("sweep.begun", subject="name")
@dataclass(frozen=True, slots=True)
class SweepBegun:
    name: str


@app.workflow(on=SweepBegun)
async def disordered(begun: SweepBegun) -> list[str]:
    """What no workflow may do: act in the order of a set of texts."""
    del begun
    for name in {f"customer-{number}" for number in range(30)}:
        await remind(name, 1)
        if name.endswith("7"):
            await wf.wait_for(ShipmentPacked, subject=name)
    return []
