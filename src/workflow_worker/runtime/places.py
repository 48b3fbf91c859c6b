"""Where in the author's code something was asked for: kept cheaply, resolved to file and line only when printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

_frame_of_caller: Callable[[int], FrameType] = getattr(sys, "_getframe")  # noqa: B009 - underscored, yet documented
Place = tuple[CodeType, int]
"""A code object and the offset of an instruction in it."""

_PASSED_OVER = frozenset({"workflow_worker", "asyncio", "contextlib"})


def here() -> Place | None:
    """The innermost frame on the stack that is neither ours nor asyncio's."""
    frame: FrameType | None = _frame_of_caller(2)  # the one who asks is one of us
    while frame is not None:
        if not _is_passed_over(frame.f_globals.get("__name__", "")):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


@lru_cache(10_000)
def _is_passed_over(module: str) -> bool:
    return module.partition(".")[0] in _PASSED_OVER


def show(place: Place | None) -> str:
    """``orders.py:41``, or a word saying that it is not known."""
    if place is None:
        return "an unknown line"
    code, offset = place
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return f"{_short(code.co_filename)}:{line}"
    return f"{_short(code.co_filename)}:{code.co_firstlineno}"


def waiting_at(awaitable: Any) -> tuple[str, ...]:
    """The author's lines in a suspended chain of coroutines, outermost first: ``orders.py:41 in fulfil``."""
    lines: list[str] = []
    for _ in range(1_000):  # a chain is as deep as the code's calls; the limit only guards against strange objects
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        if frame is not None and not _is_passed_over(frame.f_globals.get("__name__", "")):
            lines.append(f"{_short(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
        if awaitable is None:
            break
    return tuple(lines)


def _short(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2] or path
