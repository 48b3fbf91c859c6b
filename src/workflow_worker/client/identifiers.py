"""`Identifiers`: random ids for events, for less than one system call each."""

from __future__ import annotations

import os
from binascii import b2a_base64

_LENGTH = 22
_AT_ONCE = 256
_ALPHANUMERIC = bytes.maketrans(b"+/", b"xy")


class Identifiers:
    """Makes ids of 22 letters and digits, of about 130 random bits, from blocks of the system's randomness.

    The server keeps an id several times over, in the stream, among the seen ids and in the keys of the run that it
    starts; in hexadecimal, or as a UUID is written, each of these would be 10 or 14 bytes longer.

    Asking the system for each (as ``uuid.uuid4`` does) is a sixth of what publishing an event costs. Any thread may
    call it, because ``list.pop`` gives no id twice; a forked child does not go on with its parent's block.
    """

    __slots__ = ("_ready", "_whose")

    def __init__(self) -> None:
        self._ready: list[str] = []
        self._whose = os.getpid()

    def __call__(self) -> str:
        """A new id."""
        if self._whose != os.getpid():
            self._ready, self._whose = [], os.getpid()
        try:
            return self._ready.pop()
        except IndexError:
            # Whole groups of base64, so that all of its characters are random.
            block = b2a_base64(os.urandom(_LENGTH * _AT_ONCE * 3 // 4), newline=False).translate(_ALPHANUMERIC).decode()
            fresh = [block[at : at + _LENGTH] for at in range(0, len(block), _LENGTH)]
            new = fresh.pop()
            self._ready += fresh
            return new
