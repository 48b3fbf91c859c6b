"""A subscription: billed every month for years, its plan changed and its end announced by events in between.

workflow-worker dev examples/billing.py
workflow-worker publish subscription.begun --subject s-1 --data '{"subscription_id": "s-1", "plan": "small"}'
workflow-worker publish subscription.plan_changed --subject s-1 --data '{"plan": "large"}'
workflow-worker publish subscription.cancelled --subject s-1
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from workflow_worker import App, wf

app = App("billing")

PRICES = {"small": 900, "large": 2_900}


@app.event("subscription.begun", subject="subscription_id")
@dataclass(frozen=True, slots=True)
class Begun:
    """Somebody subscribed. The length of a period is part of it, so that trials can be short."""

    subscription_id: str
    plan: str
    periods: int = 12
    period_s: float = timedelta(days=30).total_seconds()


@app.event("subscription.plan_changed")
@dataclass(frozen=True, slots=True)
class PlanChanged:
    """From the next period on."""

    plan: str


@app.event("subscription.cancelled")
@dataclass(frozen=True, slots=True)
class Cancelled:
    """Not billed again; what was paid for is used up."""


@app.action
async def bill(subscription_id: str, period: int, plan: str, cents: int) -> str:
    """Charge one period; here it only makes the invoice's number."""
    return f"{subscription_id}-{period}-{plan}-{cents}"


@app.workflow(on=Begun, id="subscription-{subscription_id}")
async def subscription(begun: Begun) -> list[str]:
    """Bill, wait for the period to pass, listen to changes meanwhile."""
    plan, invoices, goes_on = begun.plan, list[str](), True
    for period in range(1, begun.periods + 1):
        invoices.append(await bill(begun.subscription_id, period, plan, PRICES[plan]))
        ends = wf.now() + timedelta(seconds=begun.period_s)
        wf.state(plan=plan, period=period, paid_until=ends.isoformat())
        while (left := ends - wf.now()) > timedelta(0):
            change = await wf.wait_for(PlanChanged | Cancelled, timeout=left, default=None)
            if isinstance(change, PlanChanged):
                plan = change.plan
            elif isinstance(change, Cancelled):
                goes_on = False
        if not goes_on:
            break
    return invoices
