"""Connections that pack commands with hiredis instead of Python, and can be cancelled at any moment.

redis-py packs the commands of its asyncio connections in pure Python: more than 10 µs of client time for each event of
a batch, the largest single cost of publishing. Its synchronous connections use hiredis for it; these classes do too.
It writes each command in a task of its own under ``asyncio.wait_for``, which before Python 3.12 forgets a cancellation
that comes in the same turn of the loop as the end of that task: the caller lives on as if nobody had cancelled it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.typing import EncodableT

_pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] - its stub leaves the result open


class _Packing(AbstractConnection):
    """What the three kinds of connection have in common."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """One command as the protocol wants it. A name of several words (``SCRIPT LOAD``) goes as several arguments.

        What hiredis does not take (a memoryview, a subclass of str or int) redis-py packs, or refuses.

        Raises:
            redis.exceptions.DataError: An argument is neither bytes nor text nor a number.
        """
        name = args[0]
        if (isinstance(name, str) and " " in name) or (isinstance(name, bytes) and b" " in name):
            args = (*name.split(), *args[1:])
        try:
            return [_pack(args)]
        except TypeError:
            return super().pack_command(*args)

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write a packed command within the connection's deadline.

        Raises:
            redis.exceptions.TimeoutError: The server did not read it in time.
            redis.exceptions.ConnectionError: The connection has failed.
        """
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        if isinstance(command, str):
            command = command.encode()
        writer = self._writer
        assert writer is not None
        done = False
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
            done = True
        except TimeoutError:
            raise RedisTimeoutError("Timeout writing to socket") from None
        except OSError as error:
            raise RedisConnectionError(f"writing to the socket failed: {error}") from error
        finally:
            if not done:  # half a command may be on its way: nobody can use this connection any more
                await self.disconnect(nowait=True)

    def pack_commands(self, commands: Iterable[Iterable[EncodableT]]) -> list[bytes]:
        """A pipeline as one piece: it is written at once."""
        return [b"".join([piece for command in commands for piece in self.pack_command(*command)])]


class PackingConnection(_Packing, Connection):
    """TCP."""


class PackingTlsConnection(_Packing, SSLConnection):
    """TCP with TLS."""


class PackingSocketConnection(_Packing, UnixDomainSocketConnection):
    """A Unix socket."""


_KINDS: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: PackingConnection,
    SSLConnection: PackingTlsConnection,
    UnixDomainSocketConnection: PackingSocketConnection,
}


def packing(kind: type[AbstractConnection] | None) -> type[AbstractConnection]:
    """Our form of one of redis-py's classes; None stands for TCP."""
    return _KINDS[kind or Connection]
