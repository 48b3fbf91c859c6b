"""Entering a run's loop inside the worker's, in the same thread, and leaving everything as it was.

The only place that touches asyncio's underscored switches; `tests/unit/runtime/test_nesting.py` holds them to what we
need on every Python version. Around a run: the worker's current task is left (from 3.14 on it is kept per thread), the
run's loop is the running one, async generators are finalised by the run, and the garbage collector is off, so that no
stranger's ``__del__`` runs at a point that differs from replay to replay.
"""

from __future__ import annotations

import gc
import sys
from asyncio import AbstractEventLoop, Task, current_task
from asyncio import _get_running_loop as get_running  # pyright: ignore[reportPrivateUsage] - see the module's docstring
from asyncio import _set_running_loop as set_running  # pyright: ignore[reportPrivateUsage] - see the module's docstring
from asyncio.tasks import _enter_task as enter_task  # pyright: ignore[reportPrivateUsage] - see the module's docstring
from asyncio.tasks import _leave_task as leave_task  # pyright: ignore[reportPrivateUsage] - see the module's docstring
from collections.abc import AsyncGenerator, Callable
from typing import Any

Outer = tuple[Any, Any, Any, bool]
"""What was in force before: running loop, current task, hooks for async generators, garbage collection."""


inside: Any = None
"""The run's loop whose code executes now, for a watchdog in another thread; None in between."""
profile: Any = None
"""In tests: a function for `sys.setprofile` while a run's code executes."""


def running() -> object | None:
    """The running loop of this thread, whatever it is."""
    return get_running()


def enter(loop: AbstractEventLoop, finalizer: Callable[[AsyncGenerator[Any, Any]], None] | None) -> Outer:
    """Make `loop` the running one; what comes back goes to `leave`, in a ``finally``."""
    global inside
    previous: Any = get_running()
    hooks = sys.get_asyncgen_hooks()
    task: Task[Any] | None = None
    if previous is not None:
        task = current_task(previous)
        if task is not None:
            leave_task(previous, task)
    collecting = gc.isenabled()
    if collecting:
        gc.disable()
    sys.set_asyncgen_hooks(None, finalizer)
    set_running(loop)
    inside = loop
    if profile is not None:
        sys.setprofile(profile)
    return previous, task, hooks, collecting


def leave(outer: Outer) -> None:
    """Put back what `enter` found."""
    global inside
    inside = None
    previous, task, hooks, collecting = outer
    if profile is not None:
        sys.setprofile(None)
    set_running(previous)
    sys.set_asyncgen_hooks(*hooks)
    if task is not None:
        enter_task(previous, task)
    if collecting:
        gc.enable()
