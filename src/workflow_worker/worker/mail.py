"""Reading a run's mail: which record it becomes. Pure."""

from __future__ import annotations

import msgspec

from workflow_worker.app.events import EventCatalogue
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import START_PREFIX, RunRef
from workflow_worker.model.internal import CANCEL, is_internal
from workflow_worker.model.record import CancelRequested, EventReceived
from workflow_worker.worker.relations import is_a_copy, is_cancel_by_parent


def is_for_code(item: Mail) -> bool:
    """Whether it is an event that the author declares: those are counted."""
    return not (item.is_cancel or is_internal(item.event.type) or item.event.type.startswith(START_PREFIX))


def record_of(
    item: Mail, *, at: int, ref: RunRef, start: Event | None, events: EventCatalogue
) -> EventReceived | CancelRequested | None:
    """What taking it in adds to the history of the run `ref`; None: nothing.

    Mail from other runs that is not meant for this one is no record: it may be one of many. Nor is this run's start
    once more.

    Raises:
        EventRejected: It does not fit its class.
    """
    event = item.event
    if item.is_cancel:
        return _cancel(item, at)
    if is_internal(event.type):
        if event.type == CANCEL:
            return _cancel(item, at) if is_cancel_by_parent(ref, start, event) else None
        return None if is_a_copy(ref, event) else EventReceived(at, item.entry, event)
    if event.type.startswith(START_PREFIX):
        return None
    events.decode(event)
    return EventReceived(at, item.entry, event)


def _cancel(item: Mail, at: int) -> CancelRequested:
    try:
        details = msgspec.json.decode(item.event.data, type=dict[str, str])
    except msgspec.DecodeError:
        details = {}
    return CancelRequested(at, item.entry, details.get("by", ""), details.get("reason", ""))
