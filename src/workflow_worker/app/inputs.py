"""`Inputs`: the arguments of a workflow that no event starts, as JSON and back, by its signature and annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from workflow_worker.model.codec import JsonType, Unreadable, encode_json
from workflow_worker.model.exceptions import EventRejected, UsageError

_named: JsonType[dict[str, msgspec.Raw]] = JsonType(dict[str, msgspec.Raw])


class Inputs:
    """Arguments are kept by name, those that the caller gave. `hints` gives the resolved annotations."""

    def __init__(self, fn: Callable[..., Any], where: str, hints: Callable[[], Mapping[str, Any]]) -> None:
        self._signature = inspect.signature(fn)
        self._where = where
        self._hints = hints

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Arguments as a JSON object.

        Raises:
            UsageError: They do not fit the signature, or one cannot be stored.
        """
        try:
            return encode_json(self._signature.bind(*args, **kwargs).arguments)
        except (TypeError, UsageError) as error:
            raise UsageError(f"input of workflow {self._where}: {error}") from error

    def decode(self, raw: bytes) -> dict[str, Any]:
        """Arguments by name, each of its declared type.

        Raises:
            EventRejected: One does not fit, is not known, or is missing.
        """
        try:
            given = _named.decode(raw if raw.strip() not in (b"", b"null") else b"{}")
            found = {name: self._types[name].decode(bytes(value)) for name, value in given.items()}
            self._signature.bind(**found)
        except KeyError as error:
            raise EventRejected(f"input of workflow {self._where}: it takes no {error.args[0]!r}") from error
        except (TypeError, Unreadable) as error:
            raise EventRejected(f"input of workflow {self._where}: {error}") from error
        return found

    def check(self) -> None:
        """Look at all annotations now.

        Raises:
            UsageError: One cannot be resolved, or cannot be stored.
        """
        _ = self._types

    @cached_property
    def _types(self) -> dict[str, JsonType[Any]]:
        hints = self._hints()
        found: dict[str, JsonType[Any]] = {}
        for name in self._signature.parameters:
            try:
                found[name] = JsonType(hints.get(name, Any))
            except UsageError as error:
                raise UsageError(f"parameter {name!r} of workflow {self._where}: {error}") from error
        return found
