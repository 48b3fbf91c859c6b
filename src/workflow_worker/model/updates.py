"""Replies to updates, as a run publishes them and a client finds them: a reserved part of the published state."""

from __future__ import annotations

from typing import Any, cast

import msgspec

REPLIES = "ww.replies"
"""The name in a run's published state under which its replies stand, by event id."""
REPLIES_KEPT = 100


class Reply(msgspec.Struct, frozen=True):
    """What became of one update: a `result` (JSON), or an `error` of a `kind`: ``rejected`` or ``failed``."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    kind: str = ""


def with_replies(state: bytes, replies: bytes) -> bytes:
    """A published state (a JSON object) with the replies in it."""
    if not replies:
        return state
    head = state.rstrip()[:-1]
    comma = b"," if head.strip() != b"{" else b""
    return head + comma + b'"' + REPLIES.encode() + b'":' + replies + b"}"


def split_state(state: bytes | None) -> tuple[Any, dict[str, Reply]]:
    """The author's part of a published state, None if there is none, and the replies."""
    if not state:
        return None, {}
    found: Any = msgspec.json.decode(state)
    if not isinstance(found, dict):
        return found, {}
    fields = cast("dict[str, Any]", found)
    if REPLIES not in fields:
        return fields, {}
    raw = msgspec.json.decode(state, type=dict[str, msgspec.Raw])[REPLIES]
    del fields[REPLIES]
    return fields or None, msgspec.json.decode(raw, type=dict[str, Reply])
