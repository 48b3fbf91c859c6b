"""Commands are packed as redis-py packs them, and error replies become exceptions of their word's class."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import Connection

from workflow_worker.store.redis import errors
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
    with pytest.raises(errors.DataError):
        pack(("SET", "x", value))


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        ("LOADING Redis is loading", errors.LoadingError, "LOADING"),
        ("READONLY You can't", errors.ErrorReply, "READONLY"),
        ("MASTERDOWN Link", errors.ErrorReply, "MASTERDOWN"),
        ("OOM command", errors.OutOfMemoryError, "OOM"),
        ("NOSCRIPT No", errors.NoScriptError, "NOSCRIPT"),
        ("NOAUTH Authentication", errors.AuthenticationError, "NOAUTH"),
        ("WRONGPASS invalid", errors.AuthenticationError, "WRONGPASS"),
        ("NOPERM this user", errors.NoPermissionError, "NOPERM"),
        ("CLUSTERDOWN Hash", errors.ErrorReply, "CLUSTERDOWN"),
        ("TRYAGAIN Multiple", errors.ErrorReply, "TRYAGAIN"),
        ("MOVED 1 1.2.3.4:6379", errors.ErrorReply, "MOVED"),
        (
            "ERR Error running script (call to f_a): @user_script:1: -OOM command not",
            errors.OutOfMemoryError,
            "OOM",
        ),
        ("ERR unknown", errors.ErrorReply, "ERR"),
        ("no word at all", errors.ErrorReply, ""),
        ("", errors.ErrorReply, ""),
    ],
)
def test_error_replies(text: str, kind: type[Exception], word: str) -> None:
    error = error_reply(text)
    assert type(error) is kind
    assert str(error) == text
    assert word_of(text) == word
