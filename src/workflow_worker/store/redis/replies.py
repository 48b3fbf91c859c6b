"""What a server answers: parsed by hiredis, error replies as exceptions that say which of the server's words they are.

https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import hiredis

from workflow_worker.store.redis import errors

Argument = str | bytes | int | float

NOTHING = object()
"""What `Reader.gets` returns while no reply is complete."""


_CLASSES: dict[str, type[errors.ErrorReply]] = {
    "LOADING": errors.LoadingError,
    "OOM": errors.OutOfMemoryError,
    "NOSCRIPT": errors.NoScriptError,
    "NOAUTH": errors.AuthenticationError,
    "WRONGPASS": errors.AuthenticationError,
    "NOPERM": errors.NoPermissionError,
}

_INSIDE_A_SCRIPT = re.compile(r"Error running script.*?-([A-Z]+) ", re.DOTALL)
"""Servers before 7.0 wrap what a command inside a script answered."""

_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] - its stub leaves the result open


def pack(arguments: tuple[Argument, ...]) -> bytes:
    """One command as the protocol wants it, each argument by itself.

    Raises:
        DataError: An argument is neither bytes nor text nor a number.
    """
    try:
        return _pack(arguments)
    except TypeError as error:
        raise errors.DataError(f"a command takes bytes, text and numbers: {error}") from error


def error_reply(text: str) -> errors.ErrorReply:
    """The exception for an error reply, of the class for its word."""
    return _CLASSES.get(word_of(text), errors.ErrorReply)(text)


def word_of(text: str) -> str:
    """The upper-case word with which an error reply begins, also where an old server's script hides it; else empty."""
    inner = _INSIDE_A_SCRIPT.search(text)
    first = inner.group(1) if inner is not None else text.partition(" ")[0].strip()
    return first if first.isupper() else ""


def make_reader() -> Any:
    """A parser of its own for one connection: bytes in, replies out.

    Its `gets` raises `NoProtocol` for what is no protocol; it cannot be used afterwards.
    """
    make = cast("Callable[..., Any]", hiredis.Reader)
    return make(protocolError=errors.NoProtocol, replyError=error_reply, notEnoughData=NOTHING)
