"""`Published`: what a run shows to the world besides its end: its state, replies to requests, notes of patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from workflow_worker.model.command import MarkPatch, SetState
from workflow_worker.model.updates import with_replies
from workflow_worker.runtime.patches import Patches
from workflow_worker.runtime.updates import Updates


class Published:
    """Collects changes between two feeds; each is told to the worker once."""

    def __init__(self, encode: Callable[[Any], bytes], make_updates: Callable[[], Updates]) -> None:
        self.patches = Patches()
        self._encode = encode
        self._make_updates = make_updates
        self._updates: Updates | None = None
        self._state: Mapping[str, Any] = MappingProxyType({})
        self._encoded = b"{}"
        self._changed = False

    @property
    def updates(self) -> Updates:
        """The handlers of requests."""
        if self._updates is None:
            self._updates = self._make_updates()
        return self._updates

    @property
    def handles(self) -> Updates | None:
        """The same; None if no code has asked for them."""
        return self._updates

    def merge(self, fields: Mapping[str, Any]) -> None:
        """Change the state. Encoded here, so that an error shows at the author's line."""
        merged = {**self._state, **fields}
        self._encoded = self._encode(merged)
        self._state, self._changed = merged, True

    def commands(self) -> list[MarkPatch | SetState]:
        """What changed since the last time."""
        found: list[MarkPatch | SetState] = [*self.patches.commands()]
        if self._updates is not None and self._updates.told():
            self._changed = True
        if self._changed:
            self._changed = False
            replies = b"" if self._updates is None else self._updates.encoded()
            found.append(SetState(with_replies(self._encoded, replies)))
        return found
