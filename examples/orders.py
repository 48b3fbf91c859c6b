"""Orders: one event starts a run of three actions, each performed by any worker and recorded once.

    workflow-worker dev examples/orders.py
    workflow-worker publish order.placed --subject o-1 --data '{"order_id": "o-1", "customer": "c-9", "total": 4200}'
    workflow-worker runs show order-o-1

Two environment variables make it a test bench: ``ORDERS_STEP_MS`` is how long each action takes (default 5), and
``ORDERS_EFFECTS`` names a file to which each action appends one line: order, action, idempotency key, attempt.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from workflow_worker import App, action, wf

app = App("orders")

STEP_SECONDS = int(os.environ.get("ORDERS_STEP_MS", "5")) / 1000
EFFECTS = os.environ.get("ORDERS_EFFECTS")


@app.event("order.placed", subject="order_id")
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """A customer placed an order; `total` is in cents."""

    order_id: str
    customer: str = "unknown"
    total: int = 0


async def perform(step: str, order_id: str) -> None:
    """Stand for the side effect that a real shop would have here: take a while, leave a trace."""
    await asyncio.sleep(STEP_SECONDS)
    if EFFECTS:
        line = f"{order_id} {step} {action.idempotency_key} {action.attempt}\n"
        trace = os.open(EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(trace, line.encode())  # one write with O_APPEND: lines of several processes never mix
        finally:
            os.close(trace)


@app.action
async def reserve_stock(order_id: str) -> str:
    """Set the goods aside."""
    await perform("reserve_stock", order_id)
    return f"hold-{order_id}"


@app.action
async def charge(order_id: str, customer: str, total: int) -> str:
    """Take the money. A payment service would get `action.idempotency_key`, so that a repeat charges nobody twice."""
    await perform("charge", order_id)
    return f"payment-{order_id}-{customer}-{total}"


@app.action
async def ship(order_id: str, hold: str) -> str:
    """Hand the goods to the carrier."""
    await perform("ship", order_id)
    return f"parcel-{order_id}-{hold}"


@app.workflow(on=OrderPlaced, id="order-{order_id}", version=1)
async def fulfil(order: OrderPlaced) -> dict[str, str]:
    """Reserve, charge, ship. A crash between any two lines continues at the second one, on whatever worker lives."""
    wf.state(status="reserving")
    hold = await reserve_stock(order.order_id)
    wf.state(status="charging", hold=hold)
    payment = await charge(order.order_id, order.customer, order.total)
    wf.state(status="shipping", hold=hold, payment=payment)
    parcel = await ship(order.order_id, hold)
    return {"hold": hold, "payment": payment, "parcel": parcel}
