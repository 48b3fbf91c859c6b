"""Commands are packed as redis-py packs them, and error replies become its exceptions, with their word."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions
from redis.connection import Connection

from workflow_worker.store.redis.replies import error_reply, pack, word_of


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("GET", "ä€😀"),
        ("SCRIPT", "LOAD", "return ' a  b '"),
        ("SET", b"\x00\r\n\xff", 1, 2.5, -(2**62)),
        ("SET", "x", b"", ""),
        ("SET", "x", b"1" * 100_000, "2"),
        ("EVALSHA", "f" * 40, 1, "p", *range(5_000)),
    ],
)
def test_packed_as_the_library_packs(command: tuple[Any, ...]) -> None:
    theirs: Any = Connection()
    assert pack(command) == b"".join(theirs.pack_command(*command))


@pytest.mark.parametrize("value", [None, object(), ["x"], {"x": 1}])
def test_what_is_no_argument_is_refused(value: Any) -> None:
    with pytest.raises(exceptions.DataError):
        pack(("SET", "x", value))


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        ("LOADING Redis is loading", exceptions.BusyLoadingError, "LOADING"),
        ("READONLY You can't", exceptions.ReadOnlyError, "READONLY"),
        ("MASTERDOWN Link", exceptions.MasterDownError, "MASTERDOWN"),
        ("OOM command", exceptions.OutOfMemoryError, "OOM"),
        ("NOSCRIPT No", exceptions.NoScriptError, "NOSCRIPT"),
        ("NOAUTH Authentication", exceptions.AuthenticationError, "NOAUTH"),
        ("WRONGPASS invalid", exceptions.AuthenticationError, "WRONGPASS"),
        ("NOPERM this user", exceptions.NoPermissionError, "NOPERM"),
        ("CLUSTERDOWN Hash", exceptions.ClusterDownError, "CLUSTERDOWN"),
        ("TRYAGAIN Multiple", exceptions.TryAgainError, "TRYAGAIN"),
        ("MOVED 1 1.2.3.4:6379", exceptions.ResponseError, "MOVED"),
        (
            "ERR Error running script (call to f_a): @user_script:1: -OOM command not",
            exceptions.OutOfMemoryError,
            "OOM",
        ),
        ("ERR unknown", exceptions.ResponseError, "ERR"),
        ("no word at all", exceptions.ResponseError, ""),
        ("", exceptions.ResponseError, ""),
    ],
)
def test_error_replies(text: str, kind: type[Exception], word: str) -> None:
    error = error_reply(text)
    assert type(error) is kind
    assert str(error) == text
    assert word_of(text) == word
