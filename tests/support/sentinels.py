"""A primary with replicas and three Sentinels on loopback: what it takes to see a real failover."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.servers import RunningServer, free_port

SERVICE = "shop"
DOWN_AFTER_MS = 1_000
_FORMED_WITHIN_S = 20.0
_STOP_WITHIN_S = 5.0


class Sentinel:
    """One Sentinel process: a server binary called with ``--sentinel``."""

    def __init__(self, binary: Path, folder: Path, primary: int, password: str = "") -> None:
        self.port = free_port()
        self._binary, self._folder = binary, folder
        self._config = (
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\nsentinel parallel-syncs {SERVICE} 2\n"
            + (f"requirepass {password}\n" if password else "")
        )
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Begin; `Replicated` waits until all know each other. Started again, it knows what it had learnt."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "sentinel.conf"
        if not config.exists():
            config.write_text(self._config)
        self._process = subprocess.Popen(
            [self._binary, config, "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_WITHIN_S)

    def ask(self, *arguments: str) -> list[str]:
        """One command and its answer as flat lines without their types; empty while it does not answer."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as link:
            link.settimeout(1)
            login = f"AUTH {self._password}\r\n" if self._password else ""
            link.sendall(f"{login}{' '.join(arguments)}\r\nPING\r\n".encode())
            answer = b""
            while b"+PONG" not in answer:
                piece = link.recv(65_536)
                if not piece:
                    break
                answer += piece
            lines = answer.decode(errors="replace").splitlines()[1 if login else 0 :]
            return [line for line in lines if line[:1] not in ("*", "$", "+")]
        return []

    def knows(self) -> dict[str, str]:
        """What it says of the primary."""
        lines = self.ask("SENTINEL", "MASTER", SERVICE)
        return dict(zip(lines[::2], lines[1::2], strict=False))


class Replicated:
    """A primary, its replicas and the sentinels over them; a context manager that stops all of them."""

    def __init__(
        self, binary: Path, folder: Path, *, replicas: int = 2, sentinel_password: str = "", **options: str | int | bool
    ) -> None:
        settings: dict[str, Any] = {
            "repl_diskless_sync_delay": 0,
            "repl_ping_replica_period": 1,
            **options,
        }
        self.servers = [
            RunningServer(binary, folder / f"server-{number}", port=free_port(), **settings)
            for number in range(replicas + 1)
        ]
        self._by_port = {server.port: server for server in self.servers}
        self.sentinels = [
            Sentinel(binary, folder / f"sentinel-{number}", self.servers[0].port, sentinel_password)
            for number in range(3)
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """As in REDIS_URL."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/{SERVICE}"

    def primary(self) -> RunningServer:
        """The server that at least two sentinels call the primary at this moment."""
        answers = [sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for sentinel in self.sentinels]
        (port, count), *_ = Counter(lines[1] for lines in answers if len(lines) == 2).most_common(1) or [("", 0)]
        assert count >= 2, f"the sentinels do not agree: {answers}"
        return self._by_port[int(port)]

    def __enter__(self) -> Self:
        try:
            first, *others = [self._stack.enter_context(server) for server in self.servers]
            for replica in others:
                assert replica.command("REPLICAOF", "127.0.0.1", str(first.port)) == "+OK"
            for sentinel in self.sentinels:
                self._stack.callback(sentinel.kill)
                sentinel.start()
            self.wait_until_formed()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait_until_formed(self) -> None:
        """Until every sentinel knows the others and all replicas, and these follow the primary."""
        deadline = time.monotonic() + _FORMED_WITHIN_S
        replicas = str(len(self.servers) - 1)
        while (
            not all(
                (known := sentinel.knows()).get("num-other-sentinels") == "2" and known.get("num-slaves") == replicas
                for sentinel in self.sentinels
            )
            or self.linked() < len(self.servers) - 1
        ):
            assert time.monotonic() < deadline, f"not formed: {[each.knows() for each in self.sentinels]}"
            time.sleep(0.05)

    def linked(self) -> int:
        """How many replicas have caught up with the primary."""
        with suppress(OSError, AssertionError):
            reached = self.primary().command("WAIT", str(len(self.servers) - 1), "500")
            return int(reached[1:]) if reached.startswith(":") else 0
        return 0
