"""A small app with one of everything; its annotations are texts that name classes defined further down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf

app = App("shop")


class CardDeclined(Exception):
    """The bank says no."""


PAYMENTS = RetryPolicy(Rule(CardDeclined).permanent(Fail()), attempts=8)


@app.action
async def price(parcel: Parcel, at: datetime, *, rate: Decimal = Decimal(1)) -> Quote:
    """`Parcel` and `Quote` are defined below."""
    return Quote(parcel.number, rate * len(parcel.items), at)


@app.action(retry=PAYMENTS, timeout=20)
async def charge(customer: str, total: int) -> str:
    """Take the money."""
    return f"{customer}-{total}-{action.attempt}"


@charge.compensation
async def refund(customer: str, total: int, *, result: str | None) -> None:
    """Give it back."""


@app.action
def invoice(order_id: str, /, *lines: int, **notes: str) -> bytes:
    """A sync one, with every kind of parameter."""
    return f"{order_id}{lines}{notes}".encode()


@dataclass(frozen=True)
class Parcel:
    """Where it goes."""

    number: UUID
    items: set[str]


@dataclass(frozen=True)
class Quote:
    """What it costs."""

    number: UUID
    price: Decimal
    at: datetime


@app.event("order.placed", subject="order_id")
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """A customer placed an order."""

    order_id: str
    total: int = 0


@app.workflow(on=OrderPlaced, id="order-{order_id}", version=2)
async def fulfil(order: OrderPlaced) -> tuple[str, bytes]:
    """Charge and write the invoice, side by side."""
    wf.state(status="paying")
    return await asyncio.gather(charge.using(key="first")("c", order.total), invoice(order.order_id, 1, 2, a="b"))


@app.workflow(on=OrderPlaced, id="order-{order_id}", version=1, name="fulfil")
async def fulfil_v1(order: OrderPlaced) -> str:
    """The version before."""
    return await charge("c", order.total)
