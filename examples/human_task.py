"""A form that a person fills in: refused until it is right, each time with the reason, then booked.

workflow-worker dev examples/human_task.py
workflow-worker publish trip.begun --subject t-1 --data '{"trip_id": "t-1", "traveller": "ann"}'
workflow-worker publish trip.form_sent --subject t-1 --data '{"days": 0, "hotel": "sea"}'
workflow-worker runs show trip-t-1
workflow-worker publish trip.form_sent --subject t-1 --data '{"days": 3, "hotel": "sea"}'
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from workflow_worker import App, wf

app = App("trips")


@app.event("trip.begun", subject="trip_id")
@dataclass(frozen=True, slots=True)
class Begun:
    """Somebody wants to travel."""

    trip_id: str
    traveller: str
    patience_s: float = timedelta(days=14).total_seconds()
    most_corrections: int = 5


@app.event("trip.form_sent")
@dataclass(frozen=True, slots=True)
class FormSent:
    """What the person filled in. What does not even fit this class becomes a dead letter, and the run waits on."""

    days: int
    hotel: str


@app.action
async def check_hotel(hotel: str, days: int) -> str:
    """The reason why not, or nothing."""
    return "" if days <= 14 else f"{hotel} takes nobody for {days} days"


@app.action
async def book(traveller: str, hotel: str, days: int) -> str:
    """Book it."""
    return f"{hotel}-{traveller}-{days}"


@app.workflow(on=Begun, id="trip-{trip_id}")
async def trip(begun: Begun) -> str:
    """Ask, check, tell what is wrong, ask again."""
    problem = ""
    for _ in range(begun.most_corrections + 1):
        wf.state(form="open", problem=problem)
        form = await wf.wait_for(FormSent, timeout=begun.patience_s, default=None)
        if form is None:
            raise wf.Failed("the form never came")
        problem = "at least one day" if form.days < 1 else await check_hotel(form.hotel, form.days)
        if not problem:
            wf.state(form="accepted", problem="")
            return await book(begun.traveller, form.hotel, form.days)
    raise wf.Failed(f"still wrong after {begun.most_corrections} corrections: {problem}")
