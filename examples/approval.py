"""A human approval: ask, remind, escalate, give up. Waiting for days holds no worker, and survives every restart.

    workflow-worker dev examples/approval.py
    workflow-worker publish approval.requested --subject a-1 \\
        --data '{"request_id": "a-1", "what": "2 laptops", "approver": "ann", "manager": "max"}'
    workflow-worker publish approval.decided --subject a-1 --data '{"approved": true, "by": "ann"}'
    workflow-worker runs show approval-a-1
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from workflow_worker import App, action, wf

app = App("approval")


@app.event("approval.requested", subject="request_id")
@dataclass(frozen=True, slots=True)
class Requested:
    """Somebody wants something. The two spans are part of the request, so that each kind has its own patience."""

    request_id: str
    what: str
    approver: str
    manager: str
    remind_after_s: float = timedelta(days=1).total_seconds()
    escalate_after_s: float = timedelta(days=2).total_seconds()


@app.event("approval.decided")
@dataclass(frozen=True, slots=True)
class Decided:
    """A person's answer; the entry's subject says to which request."""

    approved: bool
    by: str


@app.action
async def tell(who: str, text: str) -> None:
    """Send a message to a person; here it only goes to the log."""
    action.log.info("message", to=who, text=text)


@app.workflow(on=Requested, id="approval-{request_id}", version=1)
async def approve(request: Requested) -> dict[str, str]:
    """Ask the approver, remind once, then ask the manager; nobody's answer in time means no."""
    wf.state(status="asked", waiting_for=request.approver)
    await tell(request.approver, f"please decide: {request.what}")
    answer = await wf.wait_for(Decided, timeout=request.remind_after_s, default=None)
    if answer is None:
        wf.state(status="reminded", waiting_for=request.approver)
        await tell(request.approver, f"reminder: {request.what}")
        answer = await wf.wait_for(Decided, timeout=request.remind_after_s, default=None)
    if answer is None:
        wf.state(status="escalated", waiting_for=request.manager)
        await tell(request.manager, f"{request.approver} is silent, please decide: {request.what}")
        answer = await wf.wait_for(Decided, timeout=request.escalate_after_s, default=None)
    if answer is None:
        raise wf.Failed(f"nobody decided about {request.what!r}")
    if not answer.approved:
        raise wf.Failed(f"{answer.by} declined {request.what!r}")
    wf.state(status="approved", waiting_for=None, by=answer.by)
    return {"approved_by": answer.by}
