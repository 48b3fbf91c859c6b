"""What other systems' codes mean: HTTP statuses, SQLSTATE, errno, gRPC, AWS, Redis replies."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

from workflow_worker.errors.verdict import Judgement
from workflow_worker.model.failure import ErrorKind

TRANSIENT = Judgement(ErrorKind.TRANSIENT)
RECOVERABLE = Judgement(ErrorKind.RECOVERABLE)
PERMANENT = Judgement(ErrorKind.PERMANENT)

_HTTP_RETRY = frozenset({408, 425, 429})

# Class or whole code → meaning; the whole code wins. https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES = {
    "40001": TRANSIENT,  # serialization_failure
    "40P01": TRANSIENT,  # deadlock_detected
    "40": RECOVERABLE,
    "08": RECOVERABLE,  # connection exceptions
    "53": RECOVERABLE,  # insufficient resources
    "55P03": RECOVERABLE,  # lock_not_available
    "55006": RECOVERABLE,  # object_in_use
    "57P01": RECOVERABLE,  # admin_shutdown
    "57P02": RECOVERABLE,  # crash_shutdown
    "57P03": RECOVERABLE,  # cannot_connect_now
    "57P05": RECOVERABLE,  # idle_session_timeout
    "57014": RECOVERABLE,  # query_canceled: statement_timeout
    "58": RECOVERABLE,  # system error
    "25006": RECOVERABLE,  # read_only_sql_transaction: a failover is under way
    "25P03": RECOVERABLE,  # idle_in_transaction_session_timeout
    "HY000": RECOVERABLE,  # MySQL's general error
    "0A": PERMANENT,  # feature not supported
    "21": PERMANENT,  # cardinality violation
    "22": PERMANENT,  # data exception
    "23": PERMANENT,  # integrity constraint violation
    "25": PERMANENT,  # invalid transaction state
    "28": PERMANENT,  # invalid authorization
    "2B": PERMANENT,
    "3D": PERMANENT,  # no such database
    "3F": PERMANENT,  # no such schema
    "42": PERMANENT,  # syntax error or access rule violation
    "44": PERMANENT,
    "54": PERMANENT,  # program limit exceeded
    "55": PERMANENT,
    "P0": PERMANENT,  # raised by PL/pgSQL
}

# https://dev.mysql.com/doc/mysql-errors/8.4/en/
_MYSQL = {
    1205: TRANSIENT,  # lock wait timeout
    1213: TRANSIENT,  # deadlock
    2002: TRANSIENT,  # cannot connect
    2003: TRANSIENT,
    2006: TRANSIENT,  # server has gone away
    2013: TRANSIENT,  # lost connection
    2055: TRANSIENT,
    1040: RECOVERABLE,  # too many connections
    1203: RECOVERABLE,
    1290: RECOVERABLE,  # read only: a failover is under way
    1836: RECOVERABLE,
    3024: RECOVERABLE,  # query exceeded its time
    1044: PERMANENT,  # access denied
    1045: PERMANENT,
    1049: PERMANENT,  # unknown database
    1054: PERMANENT,  # unknown column
    1064: PERMANENT,  # syntax
    1146: PERMANENT,  # no such table
}

# Primary result codes, https://www.sqlite.org/rescode.html
_SQLITE = {
    5: TRANSIENT,  # BUSY: database is locked
    6: TRANSIENT,  # LOCKED: table is locked
    9: RECOVERABLE,  # INTERRUPT
    10: RECOVERABLE,  # IOERR
    13: RECOVERABLE,  # FULL
    14: RECOVERABLE,  # CANTOPEN
    15: TRANSIENT,  # PROTOCOL: lost a race for a lock
    17: TRANSIENT,  # SCHEMA changed
}

_ERRNOS = {
    **dict.fromkeys(
        (errno.EAGAIN, errno.EINTR, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE), TRANSIENT
    ),
    **dict.fromkeys(
        (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOMEM,
            errno.ENOBUFS,
            errno.EBUSY,
            errno.ETXTBSY,
            errno.EIO,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.ENETDOWN,
            errno.ENETUNREACH,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.EADDRINUSE,
            errno.EADDRNOTAVAIL,
        ),
        RECOVERABLE,
    ),
    **dict.fromkeys(
        (
            errno.ENOENT,
            errno.EACCES,
            errno.EPERM,
            errno.EISDIR,
            errno.ENOTDIR,
            errno.EEXIST,
            errno.ENOTEMPTY,
            errno.ENAMETOOLONG,
            errno.EINVAL,
            errno.EROFS,
            errno.EBADF,
            errno.ENOEXEC,
            errno.EXDEV,
            errno.ELOOP,
            errno.EFBIG,
        ),
        PERMANENT,
    ),
}

# https://grpc.io/docs/guides/status-codes/
_GRPC = {
    "UNAVAILABLE": TRANSIENT,
    "ABORTED": TRANSIENT,
    "RESOURCE_EXHAUSTED": RECOVERABLE,
    "DEADLINE_EXCEEDED": RECOVERABLE,
    "INTERNAL": RECOVERABLE,
    "UNKNOWN": RECOVERABLE,
    "CANCELLED": RECOVERABLE,
    "INVALID_ARGUMENT": PERMANENT,
    "NOT_FOUND": PERMANENT,
    "ALREADY_EXISTS": PERMANENT,
    "PERMISSION_DENIED": PERMANENT,
    "UNAUTHENTICATED": PERMANENT,
    "FAILED_PRECONDITION": PERMANENT,
    "OUT_OF_RANGE": PERMANENT,
    "UNIMPLEMENTED": PERMANENT,
    "DATA_LOSS": PERMANENT,
}

# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_AWS_RETRY = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "ServiceUnavailable",
        "ExpiredToken",
        "ExpiredTokenException",
    }
)

# First word of an error reply: what the server's state explains. https://redis.io/docs/latest/develop/reference/protocol-spec/
_REDIS_TRANSIENT = frozenset({"TRYAGAIN", "MOVED", "ASK"})
_REDIS_RECOVERABLE = frozenset(
    {
        "LOADING",
        "READONLY",
        "OOM",
        "MISCONF",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "BUSY",
        "UNBLOCKED",
        "NOSCRIPT",
    }
)


def by_http_status(status: object, headers: object, now_ms: int) -> Judgement | None:
    """408, 425, 429 and 5xx: time helps, and Retry-After says how much (RFC 9110, 10.2.3). Other 4xx: it does not."""
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    if status < 500 and status not in _HTTP_RETRY:
        return PERMANENT
    return Judgement(ErrorKind.RECOVERABLE, retry_after_ms(headers, now_ms))


def retry_after_ms(headers: object, now_ms: int) -> int | None:
    """What a Retry-After header asks for: seconds, or an HTTP date; None where it is absent or nonsense."""
    if not isinstance(headers, Mapping):
        get = getattr(headers, "get", None)
        text: Any = get("Retry-After") if callable(get) else None
    else:
        found = {name.lower(): value for name, value in cast("Mapping[str, Any]", headers).items()}
        text = found.get("retry-after")
    if not isinstance(text, str) or not text.strip() or len(text) > 64:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text[:12]) * 1000
    try:
        due = parsedate_to_datetime(text).timestamp() * 1000
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0, round(due) - now_ms)


def by_sqlstate(code: object) -> Judgement | None:
    """A five-character SQLSTATE, by itself or by its class (the first two)."""
    if not isinstance(code, str) or len(code) != 5:
        return None
    return _SQLSTATES.get(code) or _SQLSTATES.get(code[:2])


def by_mysql_code(code: object) -> Judgement | None:
    """An error number of MySQL or MariaDB."""
    return _MYSQL.get(code) if isinstance(code, int) else None


def by_sqlite_code(code: object) -> Judgement | None:
    """A result code of SQLite, extended or primary (its lowest byte)."""
    return _SQLITE.get(code & 0xFF) if isinstance(code, int) else None


def by_errno(code: object) -> Judgement | None:
    """A system call's error number."""
    return _ERRNOS.get(code) if isinstance(code, int) else None


def by_grpc_status(name: object) -> Judgement | None:
    """A gRPC status, by name."""
    return _GRPC.get(name) if isinstance(name, str) else None


def by_aws_code(code: object) -> Judgement | None:
    """An AWS error code that means throttling, a time-out or an expired token, which the next attempt renews."""
    return RECOVERABLE if code in _AWS_RETRY else None


def by_redis_reply(text: str) -> Judgement:
    """An error reply: of the server's state, or of the command, which stays wrong."""
    word = text.partition(" ")[0]
    if word in _REDIS_TRANSIENT:
        return TRANSIENT
    return RECOVERABLE if word in _REDIS_RECOVERABLE else PERMANENT
