"""An account that lives for years: a run is the entity, events change it, requests get replies, histories stay short.

    workflow-worker dev examples/account.py
    workflow-worker publish account.opened --subject a-1 --data '{"account_id": "a-1"}'
    workflow-worker publish account.deposited --subject a-1 --data '{"cents": 500}'
    workflow-worker runs show account-a-1

A withdrawal needs an answer, so it is a request: in Python
``await client.handle("account", "account-a-1").update(Withdraw(200))`` returns the new balance, or raises ``Refused``.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker import App, wf

app = App("account")
RECORDS_A_HISTORY = 1_000


@app.event("account.opened", subject="account_id")
@dataclass(frozen=True, slots=True)
class Opened:
    """The account exists from now on; the balance is what the next history begins with."""

    account_id: str
    balance: int = 0


@app.event("account.deposited")
@dataclass(frozen=True, slots=True)
class Deposited:
    """Money came in."""

    cents: int


@app.event("account.closed")
@dataclass(frozen=True, slots=True)
class Closed:
    """The owner leaves."""


@app.event("account.withdraw")
@dataclass(frozen=True, slots=True)
class Withdraw:
    """The owner wants money."""

    cents: int


@app.workflow(on=Opened, id="account-{account_id}", version=1)
async def account(opened: Opened) -> int:
    """The whole life of one account; returns what is paid out at its end."""
    balance = opened.balance

    def check(request: Withdraw) -> None:
        if not 0 < request.cents <= balance:
            raise ValueError(f"{request.cents} of {balance} cents cannot be withdrawn")

    async def withdraw(request: Withdraw) -> int:
        nonlocal balance
        balance -= request.cents
        wf.state(balance=balance)
        return balance

    wf.state(balance=balance)
    wf.on_update(Withdraw, withdraw, validate=check)
    while True:
        if wf.info().records >= RECORDS_A_HISTORY:
            wf.continue_as_new(Opened(opened.account_id, balance))
        event = await wf.wait_for((Deposited, Closed))
        if isinstance(event, Closed):
            return balance
        balance += event.cents
        wf.state(balance=balance)
