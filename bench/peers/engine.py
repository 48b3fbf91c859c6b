"""What the programs of the engines have in common: callers, rates, idle times, servers of their own.

Standard library only: this module is imported in the peers' environments.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path

from bench.load import command, report

IDLE = 100
_WARM_UP = 10
_READY_WITHIN_S = 40.0


async def drive(workflow: Callable[[int], Awaitable[object]], callers: int) -> None:
    """``workflows N``: N workflows from so many callers, then some one at a time; reports both."""
    _, n = command()
    for number in range(_WARM_UP):
        await workflow(number)
    left = iter(range(n))

    async def caller() -> None:
        for number in left:
            await workflow(number)

    begun = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(callers)])
    rate = n / (time.perf_counter() - begun)
    idle: list[float] = []
    for number in range(min(IDLE, n)):
        begun = time.perf_counter()
        await workflow(number)
        idle.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(0.005)
    tell(rate, idle)


def tell(rate: float, idle_ms: Sequence[float]) -> None:
    """Report an engine's figures; memory is that of this process and all that it has started."""
    report(workflows_per_s=rate, idle_ms=list(idle_ms), rss_mib=_tree_kib() / 1024)


def _tree_kib() -> int:
    """Memory of this process and its descendants, from proc(5), with what several share counted once (PSS); of this
    process alone where there is no such file system."""
    if not Path("/proc/self/smaps_rollup").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    tree, added = {os.getpid()}, True
    while added:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
        added = bool(found)
    return sum(_pss_kib(pid) for pid in tree)


def _pss_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def free_port() -> int:
    """A port on the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(ready: Callable[[], bool], what: str) -> None:
    """Wait for a fact.

    Raises:
        TimeoutError: It did not come about.
    """
    deadline = time.monotonic() + _READY_WITHIN_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {_READY_WITHIN_S:.0f} s: no")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this port of the loopback address."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, user: str | None = None
) -> Generator[None]:
    """Start a server and stop it in the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
            cwd=log.parent,
            user=user,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def running_postgres() -> Generator[str]:
    """A PostgreSQL of our own with its defaults (fsync on); yields its address.

    Raises:
        LookupError: We are root, as whom PostgreSQL does not start, and there is no user ``postgres``.
        TimeoutError: It did not come up.
    """
    user = None
    if os.geteuid() == 0:
        user = "postgres"
        pwd.getpwnam(user)
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    assert initdb is not None, "the registry lists both programs"
    assert postgres is not None, "the registry lists both programs"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        initialise = [initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(initialise, check=True, capture_output=True, cwd=folder, user=user)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"]
        with running([postgres, "-D", str(data), "-p", str(port), *options], folder / "log", user=user):
            until(lambda: listens(port), "PostgreSQL came up")
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
