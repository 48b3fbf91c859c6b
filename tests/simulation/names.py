"""Two names for one thing: entry ids are made by each server for itself, everything else must be equal.

The first time that an id of the machine stands where the server has another, the two are bound for ever; from then on
neither may stand beside any third. A server counts the ids of each stream for itself, so its ids are looked at stream
by stream; the machine's are all different.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, cast

import msgspec

STREAMS = {("Ingested", "cursor"): "ready", ("Letter", "dead_id"): "dead", ("DeadLetter", "id"): "dead"}
"""Fields whose ids are not those of ``events``."""

_ID = re.compile(r"\d{9,}-[cd]?\d+")


class Names:
    """A one-to-one table of the machine's ids and the server's."""

    def __init__(self) -> None:
        self._theirs: dict[str, str] = {}
        self._ours: dict[tuple[str, str], str] = {}

    def knows(self, our_id: str) -> bool:
        """Whether the server's id for one of the machine's is known."""
        return our_id in self._theirs

    def bind(self, ours: str, theirs: str, stream: str = "") -> bool:
        """Whether the two may stand for one thing; from now on they do."""
        known = self._ours.setdefault((stream, theirs), ours)
        return known == ours and self._theirs.setdefault(ours, theirs) == theirs

    def same(self, ours: Any, theirs: Any, stream: str = "") -> bool:
        """Whether two values are equal but for ids that stand for one another."""
        if ours == theirs:
            return True
        if ours.__class__ is not theirs.__class__ or isinstance(ours, Enum):
            return False
        if isinstance(ours, list | tuple):
            return self._same_items(cast("Sequence[Any]", ours), theirs)
        if isinstance(ours, str):
            return self._same_text(ours, theirs, stream)
        if isinstance(ours, bytes):
            return self._same_text(ours.decode("latin-1"), theirs.decode("latin-1"), stream)
        kind: type[Any] = ours.__class__
        if fields := _fields(kind):
            pairs = [(name, getattr(ours, name), getattr(theirs, name)) for name in fields]
            unlike = [pair for pair in pairs if pair[1] != pair[2]]
            return all(self.same(one, other, STREAMS.get((kind.__name__, name), "")) for name, one, other in unlike)
        return False

    def _same_items(self, ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
        if len(ours) != len(theirs):
            return False
        return all(self.same(one, other) for one, other in zip(ours, theirs, strict=True))

    def _same_text(self, ours: str, theirs: str, stream: str) -> bool:
        if _ID.split(ours) != _ID.split(theirs):
            return False
        pairs = zip(_ID.findall(ours), _ID.findall(theirs), strict=True)
        return all(self.bind(one, other, stream) for one, other in pairs)

    def to_theirs(self, value: Any) -> Any:
        """An argument of the machine in the server's words. Bytes are opaque to both and stay, and so does an id of
        something that the server never had: it has no such id either."""
        if isinstance(value, str):
            return self._replace(value) if "-" in value else value
        kind: type[Any] = value.__class__
        if kind in _OPAQUE:
            return value
        if kind in _LISTS:
            items = [self.to_theirs(item) for item in value]
            unchanged = all(one is other for one, other in zip(items, value, strict=True))
            return value if unchanged else kind(items)
        pairs = [(name, getattr(value, name)) for name in _fields(kind)]
        changes = {name: new for name, old in pairs if (new := self.to_theirs(old)) is not old}
        return kind(**dict(pairs) | changes) if changes else value

    def _replace(self, text: str) -> str:
        if not _ID.search(text):
            return text
        return _ID.sub(lambda found: self._theirs.get(found[0], found[0]), text)

    def to_ours(self, text: str) -> str:
        """A name that the server gave, in the machine's words."""
        return _ID.sub(lambda found: self._ours.get(("", found[0]), found[0]), text)


_OPAQUE = frozenset({int, bytes, bool, type(None)})
"""Values without a name in them."""

_LISTS = frozenset({list, tuple})

_FIELDS: dict[type[Any], tuple[str, ...]] = {}


def _fields(kind: type[Any]) -> tuple[str, ...]:
    """Of a dataclass or a struct; none of anything else."""
    if kind not in _FIELDS:
        if issubclass(kind, msgspec.Struct):
            _FIELDS[kind] = kind.__struct_fields__
        else:
            known: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
            _FIELDS[kind] = tuple(known)
    return _FIELDS[kind]
