"""Bytes to user values and back: the only encoder and decoder of them. JSON for what people and other languages read
(event data, results of runs, published state), msgpack for what only we read (arguments and results of actions)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from workflow_worker.model.exceptions import UsageError

T = TypeVar("T")

MAX_VALUE_BYTES = 16_777_216
"""Largest encoded value; the upper bound of MAX_EVENT_BYTES. A run's history is read whole, so keep values small."""
MAX_DEPTH = 100
"""Deepest nesting that is decoded. A decoder's own limit is Python's stack, which differs from caller to caller."""

_BRACKETS = re.compile(rb'[\[{\]}]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_PATH = re.compile(r" - at `([^`]*)`")


class Unreadable(ValueError):
    """Bytes do not fit the type that is asked for; the message says where."""


class JsonType(Generic[T]):
    """Reads JSON as one type, which is looked at when the object is made.

    Raises:
        UsageError: The type cannot be decoded to, for example because it is none of data.
    """

    __slots__ = ("_decoder",)

    def __init__(self, of: Any) -> None:
        self._decoder: msgspec.json.Decoder[T] = _made(msgspec.json.Decoder, of)

    def decode(self, raw: bytes) -> T:
        """The value.

        Raises:
            Unreadable: Not JSON, too big, nested too deep, or not of the type.
        """
        check_json(raw)
        return _read(self._decoder.decode, raw)


class PackedType(Generic[T]):
    """Reads msgpack as one type, see `JsonType`."""

    __slots__ = ("_decoder",)

    def __init__(self, of: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = _made(msgspec.msgpack.Decoder, of)

    def decode(self, raw: bytes | msgspec.Raw) -> T:
        """The value.

        Raises:
            Unreadable: Not msgpack, nested too deep, or not of the type.
        """
        return _read(self._decoder.decode, raw)


def packed_decoder(of: type[T]) -> msgspec.msgpack.Decoder[T]:
    """msgspec's own decoder of msgpack for a type: its errors are msgspec's.

    Raises:
        UsageError: The type cannot be decoded to.
    """
    return _made(msgspec.msgpack.Decoder, of)


def check_json(raw: bytes) -> None:
    """Refuse, before any decoding, what is too big or nested too deep.

    Raises:
        Unreadable: It is.
    """
    if len(raw) > MAX_VALUE_BYTES:
        raise Unreadable(f"{len(raw)} bytes are more than the {MAX_VALUE_BYTES} allowed")
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _BRACKETS.finditer(raw):
        token = found.group()
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
        elif token in b"]}":
            depth -= 1


def encode_json(value: Any) -> bytes:
    """A value as JSON text in UTF-8.

    Raises:
        UsageError: It holds something that has no JSON form, or is too big.
    """
    return _written(_json_encoder.encode, value)


def encode_packed(value: Any) -> bytes:
    """A value as msgpack.

    Raises:
        UsageError: It holds something that cannot be encoded, or is too big.
    """
    return _written(_packed_encoder.encode, value)


def _written(encode: Callable[[Any], bytes], value: Any) -> bytes:
    try:
        raw = encode(value)
    except RecursionError:
        raise UsageError("cannot be stored: nested too deep or contains itself") from None  # a useless stack
    except OverflowError as error:
        raise UsageError(f"cannot be stored: a number does not fit 64 bits ({error}); pass it as text") from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"cannot be stored: {error}. Use dataclasses, msgspec structs, pydantic models, dicts,"
            " lists, tuples, sets, str, int, float, bool, bytes, None, datetime, Decimal, UUID, enums"
        ) from error
    if len(raw) > MAX_VALUE_BYTES:
        raise UsageError(
            f"cannot be stored: {len(raw)} bytes are more than {MAX_VALUE_BYTES}; keep it elsewhere and pass its name"
        )
    return raw


def _read(decode: Callable[[Any], T], raw: bytes | msgspec.Raw) -> T:
    try:
        return decode(raw)
    except RecursionError:
        raise Unreadable("nested too deep") from None  # a thousand equal frames help nobody
    except msgspec.ValidationError as error:
        raise Unreadable(_readable(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"cannot be read: {error}") from error


def _made(decoder: Callable[..., Any], of: Any) -> Any:
    try:
        return decoder(of, dec_hook=_from_plain)
    except (TypeError, NameError, AttributeError, RecursionError) as error:
        raise UsageError(f"{_shown_type(of)} cannot be stored: {error}") from error


def _to_plain(value: object) -> Any:
    """A pydantic model (recognised by its methods, never imported) becomes what it dumps to."""
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        raise TypeError(f"there is no stored form of {type(value).__qualname__}")
    return dump(value, mode="json")


def _from_plain(of: type, value: Any) -> Any:
    if of is object:
        return value  # whatever it is, it is one: like Any
    validate = getattr(of, "model_validate", None)
    if validate is None:
        raise TypeError(f"there is no stored form of {of.__qualname__}")
    return validate(value)


def _readable(text: str) -> str:
    """``total: expected `int`, got `str``` instead of ``Expected `int`, got `str` - at `$.total```."""
    found = _PATH.search(text)
    if found is None:
        return text[:1].lower() + text[1:]
    path = found.group(1).removeprefix("$").removeprefix(".")
    reason = text[: found.start()] + text[found.end() :]
    return f"{path}: {reason[:1].lower()}{reason[1:]}" if path else reason[:1].lower() + reason[1:]


def _shown_type(of: Any) -> str:
    return of.__qualname__ if isinstance(of, type) else str(of)


_json_encoder = msgspec.json.Encoder(enc_hook=_to_plain)
_packed_encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)
