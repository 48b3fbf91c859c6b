"""`ask`: a question to a stranger's object, whose properties and methods may raise anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def ask(question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """The answer, or None where asking raised: an error in judging an error must not hide it."""
    try:
        return question(*args, **kwargs)
    except Exception:  # noqa: BLE001 - see the docstring
        return None
