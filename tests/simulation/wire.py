"""A connection to a real server that answers before it returns: what makes a real server a subroutine.

`RedisStore` awaits nothing but its client, so a client that never suspends lets each verb run to its end in one step.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from workflow_worker.store.redis import errors
from workflow_worker.store.redis.replies import NOTHING, Argument, make_reader, pack

T = TypeVar("T")

TIMEOUT_S = 10.0
"""A server that says nothing for so long fails the test; nothing else here waits."""


class SynchronousClient:
    """A client for `RedisStore` over one Unix socket. Use it from one thread."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._reader = make_reader()
        self.calls = 0
        self.performed = False
        """Whether a script was executed since this was last set to false."""
        self._cut: tuple[int, bool] | None = None

    def cut(self, after: int, *, reply: bool) -> None:
        """Lose one command on its way, or only its reply: the one behind so many others. It is lost once."""
        self._cut = self.calls + after + 1, reply

    def mend(self) -> None:
        """Lose nothing any more."""
        self._cut = None

    async def execute_command(self, *arguments: Argument) -> Any:
        """One command, answered."""
        return self.command(*arguments)

    async def execute_followed(
        self, command: tuple[Argument, ...], then: asyncio.Future[T], follower: Callable[[T], tuple[Argument, ...]]
    ) -> tuple[Any, Any]:
        """A wait at the server, and what lies behind it: nobody may do so here."""
        raise AssertionError(f"this client never waits, not in {command[0]!r} either")

    async def listen(self, channel: str) -> AsyncGenerator[bytes]:
        """What a channel would bring: nobody may wait for it here."""
        raise AssertionError(f"this client never waits, not for {channel} either")
        yield b""

    async def aclose(self) -> None:
        """Close the connection."""
        self.close()

    def command(self, *arguments: Argument) -> Any:
        """One command, answered.

        Raises:
            RedisError: The server refused it.
        """
        self.calls += 1
        number, only_reply = self._cut or (0, False)
        if number == self.calls and not only_reply:
            raise errors.ConnectionFailed("the request was lost")
        self._socket.sendall(pack(arguments))
        reply = self._answer()
        if isinstance(reply, Exception):
            raise reply
        self.performed = self.performed or arguments[0] == "EVALSHA"
        if number == self.calls:
            raise errors.ConnectionFailed("the reply was lost")
        return reply

    def commands(self, many: Iterable[tuple[Argument, ...]]) -> list[Any]:
        """Several commands in one write; errors stand among the answers."""
        packed = [pack(arguments) for arguments in many]
        self._socket.sendall(b"".join(packed))
        return [self._answer() for _ in packed]

    def drain(self) -> list[Any]:
        """All that came unasked before now, such as the messages of a subscription."""
        self._socket.sendall(pack(("PING",)))
        found: list[Any] = []
        while (reply := self._answer()) != [b"pong", b""]:
            found.append(reply)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _answer(self) -> Any:
        while (reply := self._reader.gets()) is NOTHING:
            piece = self._socket.recv(65_536)
            if not piece:
                raise errors.ConnectionFailed("the server closed the connection")
            self._reader.feed(piece)
        return reply


def finish(verb: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end.

    Raises:
        AssertionError: It waits for something.
    """
    try:
        verb.send(None)
    except StopIteration as done:
        return done.value
    verb.close()
    raise AssertionError("a verb of the store waited for something else than its client")
