"""Money from one bank to another: either both sides book it, or neither, whatever crashes or is cancelled in between.

    workflow-worker dev examples/transfer.py
    workflow-worker publish transfer.ordered --subject t-1 \\
        --data '{"transfer_id": "t-1", "source": "ann", "target": "bob", "cents": 4200}'
    workflow-worker runs show transfer-t-1

The two banks are files in the folder ``BANKS`` (default: the working folder): one line for each booking. A bank knows
the idempotency key of a booking, so an attempt that is made twice books once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf

app = App("transfer")
BANKS = Path(os.environ.get("BANKS", "."))


class Refused(Exception):
    """A bank refuses a booking, for good."""


@app.event("transfer.ordered", subject="transfer_id")
@dataclass(frozen=True, slots=True)
class Ordered:
    """Somebody wants money moved; a target named ``nobody`` has no account."""

    transfer_id: str
    source: str
    target: str
    cents: int


def book(bank: str, account: str, cents: int) -> str:
    """One booking, once for each idempotency key."""
    if account == "nobody":
        raise Refused(f"{bank} has no account of {account}")
    key, file = action.idempotency_key, BANKS / f"{bank}.txt"
    if not file.exists() or key not in file.read_text():
        with file.open("a") as bookings:
            bookings.write(f"{account} {cents} {key}\n")
    return key


banking = RetryPolicy(Rule(Refused).permanent(Fail()))


@app.action(retry=banking)
def withdraw(account: str, cents: int) -> str:
    """Take it from the source; sync, so it runs in a thread."""
    return book("source-bank", account, -cents)


@withdraw.compensation
def give_back(account: str, cents: int, *, result: str | None) -> None:
    """Undo a withdrawal. `result` is its booking, or None when nobody knows whether it happened: then the bank does."""
    file = BANKS / "source-bank.txt"
    if result is not None or (file.exists() and f"{account} {-cents} " in file.read_text()):
        book("source-bank", account, cents)


@app.action(retry=banking)
def deposit(account: str, cents: int) -> str:
    """Give it to the target."""
    return book("target-bank", account, cents)


@app.workflow(on=Ordered, id="transfer-{transfer_id}", version=1)
async def transfer(order: Ordered) -> str:
    """Withdraw, deposit; what fails or is cancelled in the block undoes what was done in it."""
    try:
        async with wf.saga():
            await withdraw(order.source, order.cents)
            booking = await deposit(order.target, order.cents)
    except Refused as error:
        raise wf.Failed(str(error)) from error
    return booking
