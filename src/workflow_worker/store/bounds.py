"""What may be asked of a store at all, whichever it is: sizes of calls and names. Pure.

One rule set for everybody who publishes (client, HTTP, command line), the same that *ingest* applies to strangers.
"""

from __future__ import annotations

from collections.abc import Sequence

from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.model.ids import MAX_NAME_BYTES, RunRef
from workflow_worker.store.transitions import Commit, Mode, Publish

MOST_PER_CALL = 200
"""Entries or runs that one transition may touch: none holds the server for long."""
LOADED_AT_ONCE = 5_000
"""Records and mails; with so many read, one `load` leaves the runs that are left to the next."""


def check_held(held: Sequence[tuple[RunRef, int]]) -> None:
    """Whether one call may load these.

    Raises:
        ValueError: More than 200 runs.
    """
    if len(held) > MOST_PER_CALL:
        raise ValueError(f"{len(held)} runs in one call: at most {MOST_PER_CALL}")


def check_published(items: Sequence[Publish]) -> None:
    """Whether one call may publish these.

    Raises:
        ValueError: More than 200 items, or only one of `workflow` and `run` is given.
        EventRejected: A name is longer than ingest takes it.
    """
    if len(items) > MOST_PER_CALL:
        raise ValueError(f"{len(items)} events in one call: at most {MOST_PER_CALL}")
    for item in items:
        if (item.workflow is None) != (item.run is None):
            raise ValueError("an addressed event names workflow and run, or neither")
        check_names(item.event, item.workflow, item.run)


def check_names(event: Event, workflow: str | None = None, run: str | None = None) -> None:
    """Whether the names of an event fit into keys, indexes and logs.

    Raises:
        EventRejected: One is longer than `MAX_NAME_BYTES` in UTF-8, or has no UTF-8 form.
    """
    names = (("id", event.id), ("type", event.type), ("subject", event.subject), ("workflow", workflow), ("run", run))
    for name, value in names:
        if value is None or (value.isascii() and len(value) <= MAX_NAME_BYTES):
            continue
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise EventRejected(f"the event's {name} holds half of a surrogate pair and has no UTF-8 form") from error
        if size > MAX_NAME_BYTES:
            raise EventRejected(f"the event's {name} has {size} bytes in UTF-8: at most {MAX_NAME_BYTES}")


def check_commits(commits: Sequence[Commit]) -> None:
    """Whether one call may commit these.

    Raises:
        ValueError: More than 200 commits; one that restarts its run without keeping the lease; an emit that names only
            one of workflow and run.
    """
    if len(commits) > MOST_PER_CALL:
        raise ValueError(f"{len(commits)} commits in one call: at most {MOST_PER_CALL}")
    for item in commits:
        if item.restart is not None and item.mode is not Mode.KEEP:
            raise ValueError(f"a restart keeps the lease, but {item.ref} is to {item.mode}")
        if any((emit.workflow is None) != (emit.run is None) for emit in item.emits):
            raise ValueError("an addressed emit names workflow and run, or neither")
