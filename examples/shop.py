"""A whole shop: two steps at the same time, a saga, a wait of two days, a timer of seven, and a change of the code.

    workflow-worker dev examples/shop.py
    workflow-worker publish order.placed --data '{"order_id": "o-1", "customer_id": "c-9", "total": 4200}' --subject o-1
    workflow-worker publish shipment.packed --data '{"order_id": "o-1", "tracking": "1Z"}' --subject o-1
    workflow-worker runs show order-o-1

What the actions do to the world are lines in the file ``SHOP_LEDGER``. The bank wants a token, which each worker
process gets when its first charge is refused: a *recovery*, done before the charge is tried again. An order of the
customer ``broke`` is suspended when the card is charged; ``runs cancel`` undoes what was done, ``runs resume`` tries
the card again. The spans are settings, so that a test of real processes need not wait for a week. Its tests:
``tests/unit/examples/test_shop.py``.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from workflow_worker import App, Park, Recover, RetryPolicy, Rule, action, wf

app = App("shop")
LEDGER = Path(os.environ.get("SHOP_LEDGER", "shop.txt"))


@app.event("order.placed", subject="order_id")
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """A customer wants something; how long the shop waits comes along, in seconds."""

    order_id: str
    customer_id: str
    total: int
    packed_within: float = timedelta(days=2).total_seconds()
    review_after: float = timedelta(days=7).total_seconds()


@app.event("shipment.packed", subject="order_id")
@dataclass(frozen=True, slots=True)
class ShipmentPacked:
    """The warehouse is done."""

    order_id: str
    tracking: str


class TokenExpired(Exception):
    """The bank does not know us any more."""


class CardDeclined(Exception):
    """The bank says no: a person must ask the customer."""


class Bank:
    """The client of a payment service. It keeps its token in memory, as such clients do."""

    token: str | None = None

    def charge(self, customer_id: str, total: int) -> None:
        """Nothing but the refusals.

        Raises:
            TokenExpired: There is no token, or it is too old.
            CardDeclined: The customer has no money.
        """
        if self.token is None:
            raise TokenExpired("the bank wants a token")
        if customer_id == "broke":
            raise CardDeclined(f"no {total} from {customer_id}")


bank = Bank()


@app.action(retry=RetryPolicy(attempts=5, initial=0.2, cap=5))
async def refresh_token() -> None:
    """Make the bank know us. Done at least once before the next charge, in the same process as that."""
    bank.token = f"token-{action.idempotency_key}"


PAYMENTS = RetryPolicy(
    Rule(ConnectionError).transient(),
    Rule(TokenExpired).recoverable(Recover(refresh_token, otherwise=Park("payments"))),
    Rule(CardDeclined).permanent(),
    attempts=8,
    initial=timedelta(milliseconds=200),
    cap=timedelta(seconds=30),
    jitter="full",
    exhausted=Park("payments"),
)


def note(what: str, *about: object) -> str:
    """Do it once for each idempotency key, as a good service does."""
    line = " ".join(map(str, (what, *about, action.idempotency_key)))
    if not LEDGER.exists() or line not in LEDGER.read_text().splitlines():
        with LEDGER.open("a") as ledger:
            ledger.write(f"{line}\n")
    return f"{what}-{about[0]}"


@app.action(retry=PAYMENTS, timeout=timedelta(seconds=20))
async def charge(customer_id: str, total: int) -> str:
    """Take the money."""
    bank.charge(customer_id, total)
    return note("charge", customer_id, total)


@charge.compensation
async def refund(customer_id: str, total: int, *, result: str | None) -> None:
    """Give it back. Without a result nobody knows whether it was taken: the payment service finds out by the key."""
    note("refund", customer_id, total, result)


@app.action
def reserve_stock(order_id: str) -> str:
    """Sync: runs in a thread."""
    return note("reserve", order_id)


@reserve_stock.compensation
def release_stock(order_id: str, *, result: str | None) -> None:
    """Put it back on the shelf."""
    note("release", order_id, result)


@app.action
async def ask_review(customer_id: str) -> None:
    """Ask how it was."""
    note("review", customer_id)


@app.workflow(on=OrderPlaced, id="order-{order_id}", version=3)
async def fulfil(order: OrderPlaced) -> str:
    """From the order to the question how it was, whatever crashes, fails or is cancelled in between."""
    wf.state(status="paying")
    async with wf.saga():
        hold, payment = await asyncio.gather(reserve_stock(order.order_id), charge(order.customer_id, order.total))
        wf.state(status="waiting for warehouse", hold=hold, payment=payment)
        packed = await wf.wait_for(ShipmentPacked, timeout=order.packed_within, default=None)
        if packed is None:
            raise wf.Failed("warehouse did not pack in time")
    wf.state(status="on its way", tracking=packed.tracking)
    await asyncio.sleep(order.review_after)  # durable: holds no worker
    if wf.patched("ask-for-review"):
        await ask_review(order.customer_id)
    return packed.tracking
