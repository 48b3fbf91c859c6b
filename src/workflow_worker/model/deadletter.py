"""`DeadLetter`: an event that needs a person, with its raw fields and the reason."""

from __future__ import annotations

import msgspec


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """`raw` holds the entry's fields, flat, exactly as they came (bytes: they may not be UTF-8).

    `run` names the run whose copy of the event this is; empty where the event reached no run.
    """

    id: str
    reason: str
    at: int
    raw: tuple[bytes, ...]
    run: str = ""
    redriven: bool = False

    def field(self, name: str) -> str | None:
        """One field of the raw entry as text, undecodable bytes shown as escapes; None if it is absent."""
        for key, value in zip(self.raw[::2], self.raw[1::2], strict=False):
            if key == name.encode():
                return value.decode("utf-8", "backslashreplace")
        return None
