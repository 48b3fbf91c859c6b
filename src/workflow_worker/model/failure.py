"""Errors as histories and dead letters keep them."""

from __future__ import annotations

import sys
import traceback
from enum import StrEnum
from typing import Any, cast

import msgspec

from workflow_worker.model.exceptions import ActionCancelled, ActionFailed

_CAUSES_KEPT = 5
_MEMBERS_KEPT = 20
_NOTES_KEPT = 10
_TEXT_KEPT = 4_000
_TRACEBACK_KEPT = 8_000
_VALUES_KEPT_BYTES = 16_384
"""An exception's arguments and attributes above this are left out: it is rebuilt from its message then."""


class ErrorKind(StrEnum):
    """Who can help: nobody needs to, time does, or only a person can."""

    TRANSIENT = "transient"
    RECOVERABLE = "recoverable"
    PERMANENT = "permanent"


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """One error: enough to show it, to classify it again, and to rebuild it as the same class.

    `arguments` and `attributes` are msgpack of the exception's ``args`` and ``__dict__``, empty where they do not
    encode; nothing in them can execute code when decoded.
    """

    type: str
    message: str
    kind: ErrorKind = ErrorKind.RECOVERABLE
    attempts: int = 1
    module: str = ""
    qualname: str = ""
    arguments: bytes = b""
    attributes: bytes = b""
    notes: tuple[str, ...] = ()
    traceback: str = ""
    cause: Failure | None = None
    members: tuple[Failure, ...] = ()

    def __str__(self) -> str:
        return f"{self.type.rpartition('.')[2]}: {self.message}" if self.message else self.type


def _encode(value: object) -> bytes:
    try:
        raw = msgspec.msgpack.encode(value)
    except Exception:  # noqa: BLE001 - a stranger's objects: what does not encode is left out
        return b""
    return raw if len(raw) <= _VALUES_KEPT_BYTES else b""


def _printable(text: str) -> str:
    """The text without lone surrogates (an undecodable file name has them), which no encoder takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text_of(error: BaseException) -> str:
    try:
        return _printable(str(error)[:_TEXT_KEPT])
    except Exception as unprintable:  # noqa: BLE001 - a stranger's __str__ may do anything
        return f"<{type(error).__qualname__} whose __str__ raised {type(unprintable).__qualname__}>"


def _notes_of(error: BaseException) -> tuple[str, ...]:
    try:
        return tuple(_printable(str(note)[:_TEXT_KEPT]) for note in list(error.__notes__)[:_NOTES_KEPT])
    except Exception:  # noqa: BLE001 - no notes, or something else under their name
        return ()


def _attributes_of(error: BaseException) -> bytes:
    try:
        kept = {name: value for name, value in vars(error).items() if name != "__notes__"}
    except Exception:  # noqa: BLE001 - an object may hide its __dict__
        return b""
    return _encode(kept) if kept else b""


def _traceback_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error, chain=False))
    except Exception:  # noqa: BLE001 - formatting calls the stranger's __str__ and __repr__ too
        text = "".join(traceback.format_tb(error.__traceback__))
    return _printable(text[-_TRACEBACK_KEPT:])


def _members_of(error: BaseException, kind: ErrorKind, attempts: int, depth: int) -> tuple[Failure, ...]:
    if not isinstance(error, BaseExceptionGroup) or depth >= _CAUSES_KEPT:
        return ()
    group = cast("BaseExceptionGroup[BaseException]", error)
    kept = group.exceptions[: max(1, _MEMBERS_KEPT >> depth)]
    return tuple(describe(member, kind, attempts, depth=depth + 1) for member in kept)


def describe(
    error: BaseException, kind: ErrorKind = ErrorKind.RECOVERABLE, attempts: int = 1, *, depth: int = 0
) -> Failure:
    """Turn an exception into what a history keeps: class, arguments, attributes, notes, text of the traceback, causes.

    At most five causes are followed; never raises, whatever the exception's own methods do.
    """
    cls: type[BaseException] = type(error)
    members = _members_of(error, kind, attempts, depth)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return Failure(
        type=f"{cls.__module__}.{cls.__qualname__}",
        message=_text_of(error),
        kind=kind,
        attempts=attempts,
        module=cls.__module__,
        qualname=cls.__qualname__,
        arguments=b"" if members else _encode(error.args),
        attributes=_attributes_of(error),
        notes=_notes_of(error),
        traceback=_traceback_of(error),
        cause=describe(cause, kind, attempts, depth=depth + 1) if cause is not None and depth < _CAUSES_KEPT else None,
        members=members,
    )


def _find_class(failure: Failure) -> type[Exception] | None:
    """The exception class of that name if its module is loaded already; nothing is ever imported from data.

    Names are looked up in namespaces, not by `getattr`, which could run code of a module or a class.
    """
    found: Any = sys.modules.get(failure.module)
    for part in failure.qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    if (found.__module__, found.__qualname__) != (failure.module, failure.qualname):
        return None
    if issubclass(found, StopIteration | StopAsyncIteration):
        return None  # cannot be set on a future (PEP 479)
    return found


def rebuild(failure: Failure) -> Exception:
    """Make the exception that workflow code sees: the same class where it can be had, else `ActionFailed`.

    Live and in replay both get it from here, so that the same ``except`` branch is taken. ``__init__`` is not called:
    keyword-only constructors would fail; ``args`` and ``__dict__`` are set instead.
    """
    if failure.type in ("asyncio.exceptions.CancelledError", "concurrent.futures._base.CancelledError"):
        return ActionCancelled(failure.message)
    cls = _find_class(failure)
    error: Exception
    if cls is None:
        error = ActionFailed(failure)
    elif failure.members and issubclass(cls, ExceptionGroup):
        error = ExceptionGroup(failure.message.rpartition(" (")[0], [rebuild(member) for member in failure.members])
    else:
        try:
            args: tuple[Any, ...] = tuple(msgspec.msgpack.decode(failure.arguments)) if failure.arguments else ()
            error = cls.__new__(cls, *args)
            error.args = args or ((failure.message,) if failure.message else ())
            if failure.attributes:
                error.__dict__.update(msgspec.msgpack.decode(failure.attributes))
        except Exception:  # noqa: BLE001 - the class's own __new__ and slots: what cannot be rebuilt is still told
            error = ActionFailed(failure)
    for note in failure.notes:
        error.add_note(note)
    if failure.cause is not None:
        error.__cause__ = rebuild(failure.cause)
    return error
