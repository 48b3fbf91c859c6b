"""Identifiers: how a run, an event and a session are named, checked and printed."""

from __future__ import annotations

import re
from hashlib import sha1
from typing import NewType

from workflow_worker.model.exceptions import UsageError

RunRef = NewType("RunRef", str)
"""Full name of a run, ``<workflow>:<run id>``; the workflow's name holds no colon, the id may hold anything."""

SessionId = NewType("SessionId", str)
"""One worker incarnation; a restarted worker is another session."""

CommitId = NewType("CommitId", str)
"""``<session>/<number>``: names one commit for ever; the empty string is the base of a new run."""

NO_COMMIT = CommitId("")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}\Z")
RESERVED_PREFIX = "wf."
INTERNAL_PREFIX = "ww."
"""Event types that only our own transitions and workflows send; addressed ones need no declaration."""
START_PREFIX = "workflow-worker.start."
"""Event types that start one workflow, whose name follows, with its input as data: whoever can publish can start a run,
also of a workflow that no event starts. Every workflow has its own."""
MAX_NAME_BYTES = 500
"""The longest `id`, `type`, `subject`, `workflow` or `run` of an event that is taken in, in bytes of UTF-8: keys,
indexes and logs hold them."""
ENVELOPE_BYTES = 16_384
"""What an event's names and attributes may have besides MAX_EVENT_BYTES of data."""
CANCEL_TYPE = "wf.cancel"
"""Event type of a cancel request in a mailbox; authors cannot declare types that begin with ``wf.``."""


def run_ref(workflow: str, run_id: str) -> RunRef:
    """Join a workflow's name and a run's id."""
    return RunRef(f"{workflow}:{run_id}")


def start_type(workflow: str) -> str:
    """The type of the event that starts a run of this workflow, whatever else does."""
    return START_PREFIX + workflow


def emit_id(ref: str, start_id: str, number: int) -> str:
    """The id of a follow-up event: ``<run>:<id of the run's start event>:<number>``.

    What is longer than an id may be is named by its SHA-1, ``sha1:<hexadecimal>:<number>``. A child's start event is
    such an event itself, so ids grow with every generation; this keeps them short however deep children nest.
    `_commit_write.lua` has the same rule.
    """
    name = f"{ref}:{start_id}:{number}"
    return name if len(name.encode()) <= MAX_NAME_BYTES else f"{_digest(name)}:{number}"


def start_id(workflow: str, run_id: str) -> str:
    """The id of the event with which a client starts a run: the same each time that it does. Named by its digest, like
    `emit_id`, where it is too long."""
    name = f"start:{workflow}:{run_id}"
    return name if len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES else _digest(name)


def _digest(name: str) -> str:
    return f"sha1:{sha1(name.encode('utf-8', 'replace'), usedforsecurity=False).hexdigest()}"


def split_run_ref(ref: str) -> tuple[str, str]:
    """Take a full run name apart.

    Raises:
        UsageError: There is no workflow in front of the id.
    """
    workflow, colon, run_id = ref.partition(":")
    if not colon or not run_id:
        raise UsageError(f"{ref!r} does not name a run: write <workflow>:<run id>")
    return workflow, run_id


def check_name(kind: str, name: str) -> str:
    """Return the name of a workflow or an action if it is one that we can route by.

    Raises:
        UsageError: The name is empty, too long, or holds other characters than letters, digits, ``_ . -``.
    """
    if not _NAME.match(name):
        raise UsageError(
            f"{kind} name {name!r} is not usable: use 1 to 128 letters, digits, '_', '.' or '-',"
            " beginning with a letter, a digit or '_'"
        )
    return name


def check_event_type(event_type: str) -> str:
    """Return an event type (or prefix pattern ``a.b.*``) if it may be declared.

    Raises:
        UsageError: The type is empty, holds white space or control characters, is over 200 characters, has a ``*``
            elsewhere than as its last part, or begins with a reserved prefix (``wf.``).
    """
    stem = event_type.removesuffix(".*")
    if not stem or len(event_type) > 200 or re.search(r"[\s\x00-\x1f*#]", stem):
        raise UsageError(
            f"event type {event_type!r} is not usable: no white space, '*' only as the last part ('orders.*'),"
            " at most 200 characters"
        )
    for prefix in (RESERVED_PREFIX, INTERNAL_PREFIX, START_PREFIX):
        if event_type.startswith(prefix):
            raise UsageError(f"event type {event_type!r} begins with {prefix!r}, which is reserved")
    return event_type
