"""The built-in rules, as a table: qualified name of a class → what its errors mean. Nothing in it is ever imported.

An error is looked up by its class, then by each base in the order of its MRO, so the most exact name wins. Where a
function cannot tell (it returns None), the search goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_worker.errors import codes
from workflow_worker.errors.asking import ask
from workflow_worker.errors.codes import PERMANENT, RECOVERABLE, TRANSIENT
from workflow_worker.errors.verdict import Judgement

Judge = Callable[[Any, int], Judgement | None]
"""From an error, and now in milliseconds since 1970, to what it means."""


def look_up(error: BaseException, now_ms: int, *, as_cause: bool = False) -> tuple[str, Judgement] | None:
    """What the table knows of an error, with the name it was found by; None where it knows nothing.

    With `as_cause`, programming errors count for nothing: whoever wraps a ``KeyError`` in an error of their own has
    said what it means.
    """
    for each in type(error).__mro__:
        name = f"{each.__module__}.{each.__qualname__}"
        if as_cause and name in _PROGRAMMING:
            continue
        entry = TABLE.get(name)
        judgement = ask(entry, error, now_ms) if callable(entry) else entry
        if judgement is not None:
            return name.removeprefix("builtins."), judgement
    return None


# ------------------------------------------------------------------------------------------------- what to ask an error


def _os_error(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_errno(error.errno)


def _response(error: Any, now_ms: int) -> Judgement | None:
    response = error.response
    return codes.by_http_status(response.status_code, response.headers, now_ms)


def _own_status(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_http_status(error.status, error.headers, now_ms)


def _own_code(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_http_status(error.code, error.headers, now_ms)


def _url_error(error: Any, now_ms: int) -> Judgement | None:
    found = look_up(error.reason, now_ms) if isinstance(error.reason, Exception) else None
    return found[1] if found else RECOVERABLE


def _dbapi(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_sqlstate(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None))


def _mysql(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_mysql_code(error.args[0] if error.args else None)


def _sqlite(error: Any, now_ms: int) -> Judgement | None:
    found = codes.by_sqlite_code(getattr(error, "sqlite_errorcode", None))
    return found or (TRANSIENT if "is locked" in str(error) else None)


def _sqlalchemy(error: Any, now_ms: int) -> Judgement | None:
    """The driver's own error knows best; a connection that SQLAlchemy gave up is a matter of time."""
    original = getattr(error, "orig", None)
    found = look_up(original, now_ms, as_cause=True) if isinstance(original, Exception) else None
    if found is not None:
        return found[1]
    sqlstate = _dbapi(original, now_ms)
    return sqlstate or (RECOVERABLE if getattr(error, "connection_invalidated", False) else None)


def _grpc(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_grpc_status(error.code().name)


def _aws(error: Any, now_ms: int) -> Judgement | None:
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    status = codes.by_http_status(metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders"), now_ms)
    known = codes.by_aws_code(error.response.get("Error", {}).get("Code"))
    if known is not None and status is not None and status.retry_after_ms is not None:
        return Judgement(known.kind, status.retry_after_ms)
    return known or status


def _redis_reply(error: Any, now_ms: int) -> Judgement | None:
    return codes.by_redis_reply(str(error))


def _smtp(error: Any, now_ms: int) -> Judgement | None:
    """RFC 5321, 4.2.1: 4yz is a transient negative reply, 5yz a permanent one."""
    return PERMANENT if 500 <= error.smtp_code <= 599 else RECOVERABLE


# ------------------------------------------------------------------------------------------------------------ the table


def _all(prefix: str, meaning: Judgement | Judge, names: str) -> dict[str, Judgement | Judge]:
    return {f"{prefix}.{name}": meaning for name in names.split()}


_PROGRAMMING = frozenset(
    _all(
        "builtins",
        PERMANENT,
        "ArithmeticError AssertionError AttributeError ImportError LookupError NameError NotImplementedError"
        " RecursionError StopAsyncIteration StopIteration SyntaxError TypeError ValueError",
    )
)
"""Mistakes in code: the same call makes the same mistake. Subclasses (KeyError, UnicodeError …) are covered."""

_STDLIB: dict[str, Judgement | Judge] = {
    **dict.fromkeys(_PROGRAMMING, PERMANENT),
    **_all("builtins", TRANSIENT, "ConnectionError BlockingIOError InterruptedError"),
    **_all("builtins", RECOVERABLE, "TimeoutError MemoryError EOFError"),
    **_all("builtins", PERMANENT, "FileNotFoundError FileExistsError IsADirectoryError NotADirectoryError"),
    **_all("builtins", PERMANENT, "PermissionError SystemExit"),
    "builtins.OSError": _os_error,
    "socket.gaierror": RECOVERABLE,
    "ssl.SSLCertVerificationError": PERMANENT,
    "ssl.SSLError": RECOVERABLE,
    # What is not JSON is most often the error page of a proxy in between; a ValueError it is only by inheritance.
    "json.decoder.JSONDecodeError": RECOVERABLE,
    "asyncio.exceptions.IncompleteReadError": TRANSIENT,
    "concurrent.futures._base.BrokenExecutor": RECOVERABLE,
    "http.client.RemoteDisconnected": TRANSIENT,
    "http.client.HTTPException": RECOVERABLE,
    "urllib.error.HTTPError": _own_code,
    "urllib.error.URLError": _url_error,
    "smtplib.SMTPServerDisconnected": TRANSIENT,
    "smtplib.SMTPResponseException": _smtp,
    "sqlite3.OperationalError": _sqlite,
    **_all("sqlite3", PERMANENT, "DatabaseError InterfaceError"),
}

_OURS: dict[str, Judgement | Judge] = {
    **_all(
        "workflow_worker.model.exceptions", PERMANENT, "UsageError ConfigurationError EventRejected NotFound Failed"
    ),
    **_all("workflow_worker.model.exceptions", RECOVERABLE, "StoreUnavailable ActionTimeout"),
}

_REDIS: dict[str, Judgement | Judge] = {
    **_all("redis.exceptions", TRANSIENT, "ConnectionError WatchError TryAgainError AskError"),
    **_all("redis.exceptions", RECOVERABLE, "TimeoutError BusyLoadingError MaxConnectionsError ReadOnlyError"),
    **_all("redis.exceptions", RECOVERABLE, "OutOfMemoryError ClusterError SlotNotCoveredError LockError"),
    **_all("redis.exceptions", RECOVERABLE, "InvalidResponse NoScriptError"),
    **_all("redis.exceptions", PERMANENT, "AuthenticationError AuthorizationError NoPermissionError DataError"),
    **_all("redis.exceptions", PERMANENT, "ClusterCrossSlotError CrossSlotTransactionError"),
    "redis.exceptions.ResponseError": _redis_reply,
    **_all("redis.sentinel", RECOVERABLE, "MasterNotFoundError SlaveNotFoundError"),
}

_HTTPX: dict[str, Judgement | Judge] = {
    f"{module}.{name}": meaning
    for module in ("httpx", "httpx._exceptions")
    for name, meaning in {
        "ConnectError": TRANSIENT,  # nothing was sent yet
        "ConnectTimeout": TRANSIENT,
        "PoolTimeout": TRANSIENT,
        "RemoteProtocolError": TRANSIENT,  # the server closed a kept connection
        "TransportError": RECOVERABLE,
        "DecodingError": RECOVERABLE,
        "LocalProtocolError": PERMANENT,
        "UnsupportedProtocol": PERMANENT,
        "TooManyRedirects": PERMANENT,
        "InvalidURL": PERMANENT,
        "CookieConflict": PERMANENT,
        "StreamError": PERMANENT,
        "HTTPStatusError": _response,
    }.items()
}

_REQUESTS: dict[str, Judgement | Judge] = {
    **_all("requests.exceptions", TRANSIENT, "ConnectionError ConnectTimeout"),
    **_all("requests.exceptions", RECOVERABLE, "Timeout ChunkedEncodingError ContentDecodingError SSLError"),
    **_all("requests.exceptions", RECOVERABLE, "JSONDecodeError RetryError"),
    **_all("requests.exceptions", PERMANENT, "InvalidURL MissingSchema InvalidSchema InvalidHeader TooManyRedirects"),
    **_all("requests.exceptions", PERMANENT, "UnrewindableBodyError StreamConsumedError InvalidJSONError"),
    "requests.exceptions.HTTPError": _response,
    "requests.exceptions.RequestException": RECOVERABLE,
    **_all("urllib3.exceptions", RECOVERABLE, "HTTPError"),
    **_all("urllib3.exceptions", PERMANENT, "LocationValueError"),
}

_AIOHTTP: dict[str, Judgement | Judge] = {
    **_all("aiohttp.client_exceptions", TRANSIENT, "ClientConnectionError"),
    **_all("aiohttp.client_exceptions", RECOVERABLE, "ClientPayloadError ServerTimeoutError ClientError"),
    **_all("aiohttp.client_exceptions", PERMANENT, "ClientConnectorCertificateError InvalidURL TooManyRedirects"),
    "aiohttp.client_exceptions.ClientResponseError": _own_status,
    # A 200 of the wrong type is a proxy's page, see JSONDecodeError.
    "aiohttp.client_exceptions.ContentTypeError": RECOVERABLE,
}

_DBAPI_PERMANENT = "IntegrityError DataError ProgrammingError NotSupportedError"
_DBAPI_RECOVERABLE = "OperationalError InterfaceError InternalError"


def _driver(module: str, judge: Judge) -> dict[str, Judgement | Judge]:
    """A DB-API driver (PEP 249): its code first, else what its classes mean."""

    def of_class(meaning: Judgement) -> Judge:
        return lambda error, now_ms: judge(error, now_ms) or meaning

    return {
        **_all(module, of_class(PERMANENT), _DBAPI_PERMANENT),
        **_all(module, of_class(RECOVERABLE), _DBAPI_RECOVERABLE),
        **_all(module, judge, "DatabaseError Error"),
    }


_DATABASES: dict[str, Judgement | Judge] = {
    **_driver("sqlalchemy.exc", _sqlalchemy),
    "sqlalchemy.exc.DBAPIError": _sqlalchemy,
    "sqlalchemy.exc.TimeoutError": RECOVERABLE,  # no connection in the pool
    "sqlalchemy.exc.StatementError": PERMANENT,
    "sqlalchemy.exc.ArgumentError": PERMANENT,
    "sqlalchemy.exc.InvalidRequestError": PERMANENT,
    "sqlalchemy.exc.CompileError": PERMANENT,
    "sqlalchemy.orm.exc.StaleDataError": TRANSIENT,  # another transaction changed the row
    **_driver("psycopg", _dbapi),
    **_driver("psycopg.errors", _dbapi),
    **_driver("psycopg2", _dbapi),
    "psycopg_pool.PoolTimeout": RECOVERABLE,
    "asyncpg.exceptions._base.PostgresError": _dbapi,
    "asyncpg.exceptions._base.InterfaceError": RECOVERABLE,  # most often: the connection is closed
    **_driver("pymysql.err", _mysql),
    **_driver("MySQLdb", _mysql),
    **_driver("MySQLdb._exceptions", _mysql),
    **_driver("mysql.connector.errors", _mysql),
}

_REMOTE: dict[str, Judgement | Judge] = {
    "grpc.RpcError": _grpc,
    "grpc.aio._call.AioRpcError": _grpc,
    "botocore.exceptions.ClientError": _aws,
    **_all("botocore.exceptions", TRANSIENT, "EndpointConnectionError ConnectionClosedError ConnectTimeoutError"),
    **_all("botocore.exceptions", RECOVERABLE, "ConnectionError HTTPClientError ReadTimeoutError"),
    **_all("botocore.exceptions", RECOVERABLE, "CredentialRetrievalError MetadataRetrievalError IncompleteReadError"),
    **_all("botocore.exceptions", PERMANENT, "ParamValidationError NoCredentialsError NoRegionError ValidationError"),
    **_all("botocore.exceptions", PERMANENT, "UnknownServiceError PartialCredentialsError ProfileNotFound"),
}

TABLE: dict[str, Judgement | Judge] = {
    **_STDLIB,
    **_OURS,
    **_REDIS,
    **_HTTPX,
    **_REQUESTS,
    **_AIOHTTP,
    **_DATABASES,
    **_REMOTE,
}
