"""Schedules that the code declares, told to their keepers when a worker starts."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import msgspec

from workflow_worker.app.registry import App
from workflow_worker.model.event import Event
from workflow_worker.model.ids import run_ref
from workflow_worker.model.run import RunView
from workflow_worker.model.schedules import KEEPER_WORKFLOW, SET, ScheduleSet, ScheduleSpec
from workflow_worker.model.updates import split_state
from workflow_worker.store.bounds import MOST_PER_CALL
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Publish


async def declare_schedules(store: Store, app: App) -> bool:
    """Publish what is new of an app's schedules; False if memory is too scarce for one that must be begun.

    A keeper that has a schedule as it is declared is left alone. The id of the event names what was found and what is
    wanted, so of a thousand workers that start at once one makes a difference; and so does going back to a release
    before.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    items: list[Publish] = []
    for spec in app.schedules:
        found = await store.run(run_ref(KEEPER_WORKFLOW, spec.workflow))
        state = state_of(found)
        if found is not None and not found.status.ended and state.get("mark") == spec.mark:
            continue
        before = "new" if found is None else f"{found.started_at}.{state.get('revision', 0)}"
        event_id = (
            f"schedule:{hashlib.blake2b(f'{spec.workflow} {before} {spec.mark}'.encode(), digest_size=16).hexdigest()}"
        )
        items.append(set_event(spec.workflow, spec, event_id))
    answers = [
        answer
        for begin in range(0, len(items), MOST_PER_CALL)
        for answer in await store.publish(items[begin : begin + MOST_PER_CALL])
    ]
    return not any(answer.full for answer in answers)


def set_event(schedule: str, spec: ScheduleSpec, event_id: str) -> Publish:
    """The event that makes a schedule, or changes it, addressed to its keeper."""
    event = Event(event_id, SET, data=msgspec.json.encode(ScheduleSet(spec)))
    return Publish(event, workflow=KEEPER_WORKFLOW, run=schedule)


def state_of(keeper: RunView | None) -> dict[str, Any]:
    """What a keeper has published; nothing where there is none, or has not begun."""
    found = None if keeper is None else split_state(keeper.state)[0]
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
