"""Calls that workflow code must not make, refused while it makes them, with what to write instead.

No sandbox: three thin nets over the same table that ``check`` reads (`app/forbidden.py`).

- Wrappers around functions of `time`, `random`, `uuid`, `os` and around `Thread.start`: also code that ``check`` cannot
  see, at any depth. A name imported from these modules before us (``from time import time``) escapes.
- An audit hook (https://docs.python.org/3/library/audit_events.html): files, sockets, processes, databases.
- For what is written in C and can be neither wrapped nor audited, ``datetime.now``: in tests a profile function, in
  workers what `clocks.py` can do.

All of them act only in the thread and only while a run's loop is the running one: actions, our own parts and other
threads are never touched. Logging, imports, tracebacks and warnings may read clocks and files also there.
"""

from __future__ import annotations

import datetime
import functools
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from workflow_worker.app.forbidden import Forbidden, why_forbidden
from workflow_worker.model.exceptions import UsageError
from workflow_worker.runtime import nesting
from workflow_worker.runtime.execution import current_execution

_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")
_WRAPPED: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (time, _CLOCKS),
    (random, tuple(name for name in random.__all__ if name[:1].islower() and name not in ("getstate", "setstate"))),
    (uuid, ("uuid1", "uuid4")),
    (os, ("urandom",)),
    (random, ("_urandom",)),  # what SystemRandom, and so `secrets`, took from os before us
)
_EVENTS = {
    "open": "open",
    "os.listdir": "os.listdir",
    "os.scandir": "os.scandir",
    "os.mkdir": "os.mkdir",
    "os.remove": "os.remove",
    "os.rename": "os.rename",
    "os.rmdir": "os.rmdir",
    "os.system": "os.system",
    "os.fork": "os.fork",
    "os.exec": "os.exec",
    "os.posix_spawn": "os.posix_spawn",
    "os.putenv": "os.putenv",
    "subprocess.Popen": "subprocess.Popen",
    "socket.__new__": "socket.socket",
    "socket.connect": "socket.connect",
    "socket.getaddrinfo": "socket.getaddrinfo",
    "socket.gethostname": "socket.gethostname",
    "sqlite3.connect": "sqlite3.connect",
    "tempfile.mkstemp": "tempfile.mkstemp",
    "tempfile.mkdtemp": "tempfile.mkdtemp",
    "urllib.Request": "urllib.request",
    "time.sleep": "time.sleep",
    "_thread.start_new_thread": "threading.Thread.start",
    "_thread.start_joinable_thread": "threading.Thread.start",
}
_EXCUSED = frozenset(
    {
        *("logging", "importlib", "linecache", "traceback", "warnings", "tokenize", "zipimport"),
        # What only watches the code: logs, spans, errors, coverage, debuggers, pytest's asserts.
        *("structlog", "loguru", "opentelemetry", "sentry_sdk", "ddtrace", "newrelic", "coverage", "pydevd", "_pytest"),
    }
)
_DEEPEST = 200
_NOT_NAMED = Forbidden("io", "is a side effect, or differs from replay to replay", "do it in an action")

_installed = False
_closely = 0


def install() -> None:
    """Put wrappers and audit hook into this process, once; neither can be taken out."""
    global _installed
    if _installed:
        return
    _installed = True
    for module, names in _WRAPPED:
        for name in names:
            original = getattr(module, name, None)
            if original is not None:
                setattr(module, name, _guarded(original, f"{module.__name__}.{name}"))
    threading.Thread.start = cast("Any", _guarded(threading.Thread.start, "threading.Thread.start"))
    sys.addaudithook(_hear)


@contextmanager
def watching_closely() -> Generator[None]:
    """Inside, calls of C functions are found too, at three to four times the cost of workflow code: for tests.

    Blocks may overlap, as those of several environments do.
    """
    global _closely
    _closely += 1
    nesting.profile = _profile
    try:
        yield
    finally:
        _closely -= 1
        if not _closely:
            nesting.profile = None


def _guarded(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if current_execution() is not None:
            refuse(name, sys._getframe(1))  # pyright: ignore[reportPrivateUsage] - documented, and no other way is cheap
        return original(*args, **kwargs)

    return guarded


def _hear(event: str, args: tuple[Any, ...]) -> None:
    del args
    if event in _EVENTS and current_execution() is not None:
        refuse(_EVENTS[event], sys._getframe(1))  # pyright: ignore[reportPrivateUsage] - see above


def _profile(frame: FrameType, event: str, argument: Any) -> None:
    name = clock_name(argument) if event == "c_call" else None
    if name is not None:
        refuse(name, frame)


def clock_name(called: object) -> str | None:
    """The qualified name of a method of `datetime` that reads the clock; None of anything else."""
    owner = getattr(called, "__self__", None)
    if not isinstance(owner, type) or not issubclass(owner, datetime.date):
        return None
    name = getattr(called, "__name__", "")
    kind = "datetime" if issubclass(owner, datetime.datetime) else "date"
    return f"datetime.{kind}.{name}" if name in ("now", "utcnow", "today") else None


def refuse(name: str, frame: FrameType) -> None:
    """Raise, unless something that may do this is between the caller and the workflow's code.

    Raises:
        UsageError: Workflow code called it; the message has the replacement.
    """
    if any(module.partition(".")[0] in _EXCUSED for module in _modules(frame)):
        return
    why = why_forbidden(name) or _NOT_NAMED
    raise UsageError(f"{name} in workflow code {why.reason}; instead: {why.replacement}")


def _modules(frame: FrameType | None) -> Iterator[str]:
    """Modules of the calls from here out to the run's loop."""
    for _ in range(_DEEPEST):
        if frame is None:
            return
        module = frame.f_globals.get("__name__", "")
        if isinstance(module, str):
            if module == "workflow_worker.runtime.loop":
                return
            yield module
        frame = frame.f_back
