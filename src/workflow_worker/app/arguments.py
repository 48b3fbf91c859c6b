"""`Arguments`: the arguments of a call as bytes and back, by the signature and the annotations of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from workflow_worker.model.codec import PackedType, Unreadable, encode_packed, packed_decoder
from workflow_worker.model.exceptions import UsageError

_KINDS = inspect.Parameter
_BY_POSITION = (_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD)


class Arguments:
    """Arguments are kept by name, in the order of the signature, and only those that the caller gave: whether one is
    passed by position or by name makes no difference to a history, nor does a new parameter with a default.

    `hints` gives the resolved annotations; it is asked at the first decoding.
    """

    def __init__(self, signature: inspect.Signature, hints: Callable[[], Mapping[str, Any]]) -> None:
        parameters = signature.parameters.values()
        self._signature = signature
        self._hints = hints
        self._names = tuple(signature.parameters)
        self._is_simple = all(each.kind in _BY_POSITION for each in parameters)
        self._is_plain = all(each.kind is _KINDS.POSITIONAL_OR_KEYWORD for each in parameters)
        self._has_star = any(each.kind is _KINDS.VAR_POSITIONAL for each in parameters)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Arguments as msgpack.

        Raises:
            TypeError: They do not fit the signature.
            UsageError: One of them cannot be stored.
        """
        if self._is_simple and not kwargs and len(args) == len(self._names):
            given = dict(zip(self._names, args, strict=True))
        else:
            given = self._signature.bind(*args, **kwargs).arguments
        try:
            return encode_packed(given)
        except UsageError:
            for name, value in given.items():
                _check_storable(name, value)
            raise

    def decode(self, raw: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments as the function takes them, each of its declared type.

        Raises:
            Unreadable: One does not fit its type, is not known any more, or is missing; the message names it.
        """
        if self._whole is not None:
            try:
                found = self._whole.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # one is left out, which may be right, or does not fit: the way below finds out which, and says so
            else:
                return (), msgspec.structs.asdict(found)
        return self._decode_each(raw)

    def _decode_each(self, raw: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = _named.decode(raw)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, parameter in self._signature.parameters.items():
            if name not in given:
                continue
            value = self._value(name, given.pop(name))
            if parameter.kind is _KINDS.VAR_POSITIONAL:
                args += value
            elif parameter.kind is _KINDS.VAR_KEYWORD:
                kwargs |= value
            elif parameter.kind is _KINDS.POSITIONAL_ONLY or (self._has_star and parameter.kind in _BY_POSITION):
                args.append(value)
            else:
                kwargs[name] = value
        if given:
            raise Unreadable(f"{', '.join(given)}: given by the call, but no parameter any more")
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Unreadable(str(error)) from error
        return tuple(args), kwargs

    @cached_property
    def types(self) -> dict[str, PackedType[Any]]:
        """How each parameter is decoded.

        Raises:
            UsageError: One cannot be; the message names it.
        """
        hints = self._hints()
        found: dict[str, PackedType[Any]] = {}
        for name, parameter in self._signature.parameters.items():
            hint = hints.get(name, Any)
            if parameter.kind is _KINDS.VAR_POSITIONAL:
                hint = list[hint]
            elif parameter.kind is _KINDS.VAR_KEYWORD:
                hint = dict[str, hint]
            try:
                found[name] = PackedType(hint)
            except UsageError as error:
                raise UsageError(f"parameter {name!r}: {error}") from error
        return found

    @cached_property
    def _whole(self) -> msgspec.msgpack.Decoder[msgspec.Struct] | None:
        """Reads all arguments at once, for a tenth of what one after the other and ``Signature.bind`` cost; None where
        the signature is more than names, or its types are such that a struct cannot have them all."""
        if not self._is_plain or not self._names:
            return None
        fields = [(name, self._hints().get(name, Any)) for name in self.types]
        try:
            return packed_decoder(msgspec.defstruct("Arguments", fields, forbid_unknown_fields=True))
        except (UsageError, TypeError, NameError):
            return None

    def _value(self, name: str, raw: msgspec.Raw) -> Any:
        try:
            return self.types[name].decode(raw)
        except Unreadable as error:
            raise Unreadable(f"{name}: {error}") from error


def _check_storable(name: str, value: Any) -> None:
    try:
        encode_packed(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


_named: PackedType[dict[str, msgspec.Raw]] = PackedType(dict[str, msgspec.Raw])
