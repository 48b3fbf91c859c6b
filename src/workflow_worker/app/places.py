"""Where in the author's source something was declared, for messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def place_of(declared: Callable[..., Any] | type) -> str:
    """``path:line`` of a function; the module and name of a class, whose line is not kept anywhere."""
    code = getattr(inspect.unwrap(declared), "__code__", None)
    if code is None:
        return f"{declared.__module__}.{declared.__qualname__}"
    return f"{code.co_filename}:{code.co_firstlineno}"
