"""Commands are packed as redis-py packs them, by hiredis where it can."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import DataError

from workflow_worker.store.redis.connection import connect
from workflow_worker.store.redis.packing import PackingConnection, PackingTlsConnection, packing


class _Word(enum.StrEnum):
    A = "a"


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "ä€😀"),
        (b"SCRIPT LOAD", "return 1"),
        ("SCRIPT LOAD", "return ' a  b '"),
        ("SET", b"\x00\r\n\xff", 1, 2.5, -(2**62)),
        ("SET", _Word.A, bytearray(b"ab"), memoryview(b"cd")),
        ("SET", "x", b"", ""),
        ("SET", "x", b"1" * 100_000, "2"),
    ],
)
def test_packed_as_the_library_packs(command: tuple[Any, ...]) -> None:
    ours, theirs = PackingConnection(), Connection()
    assert b"".join(ours.pack_command(*command)) == b"".join(theirs.pack_command(*command))
    pair = [command, ("PING",)]
    assert b"".join(ours.pack_commands(pair)) == b"".join(theirs.pack_commands(pair))


@pytest.mark.parametrize("value", [None, True, object(), ["x"]])
def test_what_is_no_argument_is_refused(value: Any) -> None:
    with pytest.raises(DataError):
        PackingConnection().pack_command("SET", "x", value)


@pytest.mark.parametrize("url", ["redis://h/1", "rediss://h", "unix:///x"])
def test_every_url_gets_a_connection_that_packs(url: str) -> None:
    kind = connect(url).connection_pool.connection_class
    assert issubclass(kind, (Connection, SSLConnection, UnixDomainSocketConnection))
    assert kind in {packing(Connection), PackingTlsConnection, packing(UnixDomainSocketConnection)}
