"""Mail that runs send each other: its event types and what each carries. No author declares or publishes these types.

They begin with ``ww.`` and are always addressed to one run; addressed to a run that has ended or never was they are
dropped. A record of one is an ordinary `EventReceived`, so a history holds it in the order in which it came.
"""

from __future__ import annotations

import zlib

import msgspec

from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import INTERNAL_PREFIX
from workflow_worker.model.run import RunStatus

START = "ww.start"
"""Starts a child; its data are the child's input, its `origin` says whose child it is."""
TICK = "ww.tick"
"""Starts the run of a schedule's tick, once for ever: unlike a child it does not start an ended run anew."""
STARTS = (START, TICK)
ENDED = "ww.child"
"""A child tells its parent how it ended: `ChildEnded`."""
CANCEL = "ww.cancel"
"""A parent takes a child back: `ChildCancel`."""
LOCK = "ww.lock"
"""To the run that keeps a lock: `LockRequest`."""
GRANT = "ww.grant"
"""From the run that keeps a lock: `LockGrant`."""
PATCH = "ww.patch"
"""Never sent: marks in a history where ``wf.patched`` said yes; the data are its id."""
LOCK_WORKFLOW = "ww.lock"
"""Name of the workflow that keeps locks, one run for each key."""

MAX_MESSAGE_BYTES = 131_072
"""The largest input or result of a child: both travel as events, which have limits (MAX_EVENT_BYTES)."""


def is_internal(event_type: str) -> bool:
    """Whether one run of ours sent it to another."""
    return event_type.startswith(INTERNAL_PREFIX)


def tag_of(seed: str) -> int:
    """Names one incarnation of a run: a new one of the same id must not get what the old one had asked for."""
    return zlib.crc32(seed.encode())


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a start event carries besides its data, as JSON text in the attribute `Event.origin`.

    `parent`, its `tag`, and the `number` and `checksum` of its call say whose child `run` is; another run that gets a
    copy is not meant. `round` counts how often the run has continued as new.
    """

    run: str = ""
    parent: str = ""
    tag: int = 0
    number: int = 0
    checksum: int = 0
    round: int = 0


class ChildEnded(msgspec.Struct, frozen=True):
    """How a child ended. `result` is JSON; `failure` is given for every status but ``completed``."""

    tag: int
    number: int
    checksum: int
    run: str
    status: RunStatus
    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


class ChildCancel(msgspec.Struct, frozen=True):
    """Asks a child to end; one whose origin is another is not meant."""

    parent: str
    tag: int
    number: int


class LockRequest(msgspec.Struct, frozen=True, tag="request", tag_field="kind"):
    """Asks for a lock, or gives it back (granted or not); `limit` says how many may hold it."""

    holder: str
    tag: int
    number: int
    limit: int = 1
    release: bool = False


class LockBook(msgspec.Struct, frozen=True, kw_only=True, tag="book", tag_field="kind"):
    """What the keeper of a lock knows, handed to its next history: who holds it, who is in line, what just came."""

    held: tuple[tuple[str, int, int], ...]
    line: tuple[LockRequest, ...]
    requests: tuple[LockRequest, ...]


class LockGrant(msgspec.Struct, frozen=True):
    """The lock that was asked for under this number is the holder's now."""

    tag: int
    number: int


Message = ChildEnded | ChildCancel | LockRequest | LockGrant


def encode_origin(origin: Origin) -> str:
    """The attribute of a start event."""
    return msgspec.json.encode(origin).decode()


def origin_of(text: str | None) -> Origin:
    """What a start event carries; a stranger's text counts as nothing."""
    if not text:
        return Origin()
    try:
        return msgspec.json.decode(text, type=Origin)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return Origin()
