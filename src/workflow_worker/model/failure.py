"""Errors as histories and dead letters keep them."""

from __future__ import annotations

import sys
import traceback
from enum import StrEnum
from typing import Any, cast

import msgspec

from workflow_worker.model.exceptions import ActionCancelled, ActionFailed

_CAUSES_KEPT = 5
_TEXT_KEPT = 4_000
_TRACEBACK_KEPT = 8_000


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
        return msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return b""


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT_KEPT]
    except Exception as unprintable:  # noqa: BLE001 - a stranger's __str__ may do anything
        return f"<{type(error).__qualname__} whose __str__ raised {type(unprintable).__qualname__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, chain=False))[-_TRACEBACK_KEPT:]
    except Exception:  # noqa: BLE001 - formatting calls the stranger's __str__ and __repr__ too
        return "".join(traceback.format_tb(error.__traceback__))[-_TRACEBACK_KEPT:]


def _members_of(error: BaseException, kind: ErrorKind, attempts: int, depth: int) -> tuple[Failure, ...]:
    if not isinstance(error, BaseExceptionGroup) or depth >= _CAUSES_KEPT:
        return ()
    group = cast("BaseExceptionGroup[BaseException]", error)
    return tuple(describe(member, kind, attempts, depth=depth + 1) for member in group.exceptions)


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
        attributes=_encode({k: v for k, v in vars(error).items() if k != "__notes__"}) if vars(error) else b"",
        notes=tuple(str(note) for note in getattr(error, "__notes__", ())),
        traceback=_traceback_of(error),
        cause=describe(cause, kind, attempts, depth=depth + 1) if cause is not None and depth < _CAUSES_KEPT else None,
        members=members,
    )


def _find_class(failure: Failure) -> type[Exception] | None:
    """The exception class of that name if its module is loaded already; nothing is ever imported from data."""
    found: Any = sys.modules.get(failure.module)
    for part in failure.qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not issubclass(found, Exception):
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
        except (TypeError, ValueError, msgspec.DecodeError):
            error = ActionFailed(failure)
    for note in failure.notes:
        error.add_note(note)
    if failure.cause is not None:
        error.__cause__ = rebuild(failure.cause)
    return error
