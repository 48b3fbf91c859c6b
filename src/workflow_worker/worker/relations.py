"""How a run stands to others: whose child it is, which mail is for it, and how it begins again in place. Pure."""

from __future__ import annotations

import msgspec

from workflow_worker.model import internal
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import RunRef
from workflow_worker.model.internal import Origin, encode_origin, origin_of
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.children import child_ended_event
from workflow_worker.store.transitions import Emit

LAST_EMIT = 2**31 - 1
"""Number of the event with which a child tells its parent of its end: above all that its code can emit."""

_cancel = msgspec.json.Decoder(internal.ChildCancel)


def parent_of(ref: RunRef, start: Event | None) -> Origin | None:
    """Whose child a run is; None if nobody's."""
    if start is None or not start.origin:
        return None
    origin = origin_of(start.origin)
    return origin if origin.parent and origin.run == ref else None


def is_cancel_by_parent(ref: RunRef, start: Event | None, event: Event) -> bool:
    """Whether mail of type ``ww.cancel`` comes from the one whose child the run is."""
    parent = parent_of(ref, start)
    if parent is None:
        return False
    try:
        cancel = _cancel.decode(event.data)
    except msgspec.DecodeError:
        return False
    return (cancel.parent, cancel.tag, cancel.number) == (parent.parent, parent.tag, parent.number)


def is_a_copy(ref: RunRef, event: Event) -> bool:
    """Whether internal mail is another run's: a start event about a subject that both have."""
    return event.type in internal.STARTS and origin_of(event.origin).run != ref


def notice_of_end(
    ref: RunRef, start: Event | None, status: RunStatus, failure: Failure | None, result: bytes | None
) -> tuple[Emit, ...]:
    """What a run that ends tells its parent."""
    parent = parent_of(ref, start)
    if parent is None:
        return ()
    workflow, _, run_id = parent.parent.partition(":")
    return (Emit(LAST_EMIT, child_ended_event(ref, parent, status, failure, result), workflow, run_id),)


def next_start(ref: RunRef, start: Mail, data: bytes) -> Mail:
    """The start event of a run that continues as new: its id tells the histories apart, their steps and emits."""
    event = start.event
    origin = origin_of(event.origin)
    first_id = event.id.removesuffix(f"~{origin.round}") if origin.round else event.id
    following = msgspec.structs.replace(origin, run=origin.run or ref, round=origin.round + 1)
    return Mail(
        start.entry,
        msgspec.structs.replace(
            event,
            id=f"{first_id}~{following.round}",
            type=internal.START,
            data=data,
            origin=encode_origin(following),
        ),
    )
