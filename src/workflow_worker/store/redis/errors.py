"""What can go wrong between us and a server: one small hierarchy, for code inside `store/redis` alone.

Our own and not redis-py's, whose import takes 50 ms and some memory of each process for these few classes.
`failures.py` says what each means for the rest of the program.
"""

from __future__ import annotations


class RedisError(Exception):
    """A command has no usable answer."""


class ConnectionFailed(RedisError):
    """The connection is gone, or could not be made. A command under way may have been executed."""


class Misconfigured(ConnectionFailed):
    """No connection for a reason that the operator must mend; the text says it in one sentence."""


class NoAnswer(RedisError):
    """Nothing came in time. The command may have been executed."""


class NoProtocol(RedisError):
    """What came is not the Redis protocol."""


class DataError(RedisError):
    """A command cannot be sent: an argument is neither bytes nor text nor a number."""


class ErrorReply(RedisError):
    """The server answered with an error; the text is its own, with the word with which it began."""


class LoadingError(ErrorReply):
    """LOADING: it reads its data from the disk."""


class AuthenticationError(ErrorReply):
    """NOAUTH, WRONGPASS: it wants another login."""


class NoPermissionError(ErrorReply):
    """NOPERM: the user may not do this."""


class NoScriptError(ErrorReply):
    """NOSCRIPT: it does not have the script any more."""


class OutOfMemoryError(ErrorReply):
    """OOM: its memory is at the limit."""
