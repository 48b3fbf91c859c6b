"""What workflow code must not call, with the replacement: a table of qualified names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Why a call is refused: a code for filters, the reason, and what to write instead."""

    code: str
    reason: str
    replacement: str


_CLOCK = Forbidden("clock", "reads the machine's clock, so a replay sees another time", "wf.now() or wf.time()")
_RANDOM = Forbidden("random", "draws randomness that a replay draws anew", "wf.random()")
_IDENTIFIER = Forbidden("random", "makes an identifier that a replay makes anew", "wf.uuid4()")
_SLEEP = Forbidden("blocking", "blocks the worker, and is not durable", "await asyncio.sleep(…)")
_ENVIRONMENT = Forbidden(
    "environment", "differs from worker to worker and from day to day", "pass it in the event, or read it in an action"
)
_IO = Forbidden("io", "is a side effect that every replay repeats", "do it in an action")
_THREAD = Forbidden("thread", "leaves the deterministic loop", "make it a sync action; those run in threads")
_ORDER = Forbidden("order", "depends on memory addresses or on the hash seed", "a list, or sorted(…)")
_BLOCKING = Forbidden("blocking", "blocks the worker", "do it in an action")

_BY_NAME: dict[str, Forbidden] = {
    **dict.fromkeys(
        (
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
            *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter")),
            *(f"time.{name}" for name in ("perf_counter_ns", "process_time", "localtime", "gmtime", "ctime")),
        ),
        _CLOCK,
    ),
    "time.sleep": _SLEEP,
    **dict.fromkeys(("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"), _IDENTIFIER),
    **dict.fromkeys(("os.urandom", "os.getrandom", "random.SystemRandom"), _RANDOM),
    **dict.fromkeys(("os.environ", "os.environb", "os.getenv", "os.getpid", "os.getcwd"), _ENVIRONMENT),
    **dict.fromkeys(("socket.gethostname", "platform.node"), _ENVIRONMENT),
    **dict.fromkeys(("builtins.open", "io.open", "pathlib.Path.cwd", "pathlib.Path.home"), _IO),
    **dict.fromkeys(("builtins.id", "builtins.hash", "asyncio.all_tasks"), _ORDER),
    "builtins.input": _BLOCKING,
    **dict.fromkeys(("asyncio.to_thread", "asyncio.run", "concurrent.futures.ThreadPoolExecutor"), _THREAD),
    "concurrent.futures.ProcessPoolExecutor": _THREAD,
    **dict.fromkeys(
        (
            "asyncio.open_connection",
            "asyncio.start_server",
            "asyncio.create_subprocess_exec",
            "asyncio.create_subprocess_shell",
        ),
        _IO,
    ),
}

_BY_MODULE: dict[str, Forbidden] = {
    "random": _RANDOM,
    "secrets": _RANDOM,
    "numpy.random": _RANDOM,
    "os": _IO,
    "shutil": _IO,
    "socket": _IO,
    "subprocess": _IO,
    "sqlite3": _IO,
    "smtplib": _IO,
    "tempfile": _IO,
    "urllib.request": _IO,
    "http.client": _IO,
    "requests": _IO,
    "httpx": _IO,
    "aiohttp": _IO,
    "boto3": _IO,
    "redis": _IO,
    "threading": _THREAD,
    "multiprocessing": _THREAD,
    "weakref": _ORDER,
}

_ALLOWED = frozenset({"random.Random", "os.fspath", "os.fsencode", "os.fsdecode"})
_ALLOWED_MODULES = ("os.path", "posixpath", "ntpath")


def why_forbidden(name: str) -> Forbidden | None:
    """What is wrong with calling this qualified name; None if nothing is known against it."""
    if name in _ALLOWED or name.startswith(_ALLOWED_MODULES):
        return None
    found = _BY_NAME.get(name)
    stem = name
    while found is None and "." in stem:
        stem = stem.rpartition(".")[0]
        found = _BY_MODULE.get(stem)
    return found


def is_environment(name: str) -> bool:
    """Whether merely reading this name is refused, called or not."""
    return name in ("os.environ", "os.environb")
