"""From REDIS_URL to clients, what a server must be like, and what its errors mean.

redis-py repeats commands by itself unless told not to (its default policy put one ``xadd`` into the stream eleven
times through a lossy link), and its default read timeout cuts longer blocking reads. So every client comes from here:
no retries, no health checks, explicit deadlines. Who wants to repeat does it above the store, with equal arguments.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.model.settings import without_password
from workflow_worker.store.redis.packing import packing

OLDEST_SERVER = (6, 2)
CONNECT_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 5.0
BLOCKING_MARGIN_S = 2.0
"""How much longer than its block time a blocking read may take: servers answer late when others are served first."""

_ALLOWED = "redis://[user:password@]host[:port][/db], rediss://… for TLS, or unix:///path"
_OPTIONS = frozenset({"db", "username", "password", "client_name"})
_TLS_OPTION = re.compile(r"ssl_[a-z_]+\Z")

_REFUSALS = {
    "LOADING": "the server is loading its data",
    "READONLY": "the server is a read-only replica",
    "MASTERDOWN": "the server is a replica that lost its primary",
    "NOREPLICAS": "the server has fewer replicas than it needs to accept writes (min-replicas-to-write)",
    "OOM": "the server is out of memory (maxmemory)",
    "BUSY": "the server is busy with a script",
    "MISCONF": "the server cannot save to its disk and refuses writes",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is moving these keys",
    "UNBLOCKED": "the server ended the blocking read",
}
_DENIALS = {
    "NOAUTH": "the server wants a password, and REDIS_URL has none",
    "WRONGPASS": "the server refuses the user or password of REDIS_URL",
    "NOPERM": "the user of REDIS_URL may not run a command that is needed",
}
_WORDS: dict[type[Exception], str] = {
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.NoPermissionError: "NOPERM",
}
"""redis-py takes the error's word away where it has a class for it."""

_SCRIPT_ERROR = re.compile(r"Error running script.*?-([A-Z]+) ", re.DOTALL)
"""Servers before 7.0 wrap what a command inside a script answered."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself; None or empty where it does not let us know."""

    product: str
    """``redis`` or ``valkey``."""
    version: str
    eviction: str | None
    """The server's ``maxmemory-policy``."""
    appendonly: bool | None
    appendfsync: str | None
    cluster: bool


def connect(url: str, *, name: str = "workflow-worker", timeout_s: float | None = COMMAND_TIMEOUT_S) -> Redis:
    """A client for short commands; opens connections when they are needed, answers bytes.

    Args:
        url: As in REDIS_URL.
        name: Shown by ``CLIENT LIST``.
        timeout_s: Deadline of one answer, in seconds; a frozen server keeps its TCP connections alive. None only for
            callers that set a deadline around each call.

    Raises:
        ConfigurationError: The URL cannot be used; the message shows no password.
    """
    arguments = _arguments(url)
    arguments.setdefault("client_name", name)
    arguments["connection_class"] = packing(arguments.get("connection_class"))
    pool = ConnectionPool(
        **arguments,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        health_check_interval=0,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        # RESP2 and no CLIENT SETINFO: a new connection costs no round trips but AUTH, SELECT and its name.
        protocol=2,
        driver_info=None,
    )
    return Redis.from_pool(pool)


def connect_blocking(url: str, block_ms: int | None = None, *, name: str = "workflow-worker-blocking") -> Redis:
    """A client for reads that block at most `block_ms`; each such read holds a connection of its own.

    Without `block_ms` the caller sets a deadline around each read (block time and `BLOCKING_MARGIN_S`).

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    return connect(url, name=name, timeout_s=None if block_ms is None else block_ms / 1000 + BLOCKING_MARGIN_S)


def _arguments(url: str) -> dict[str, Any]:
    shown = without_password(url)
    refused = f"REDIS_URL={shown[:100]!r} is not usable: allowed is {_ALLOWED}"
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
        options = parse_qs(parts.query)
        # Not annotated as a mapping of these keys by redis-py's own types.
        arguments = cast("dict[str, Any]", dict(parse_url(url)))
    except ValueError:
        # Not chained: such messages quote pieces of the URL, perhaps of the password.
        raise ConfigurationError(refused) from None
    has_place = bool(parts.path.strip("/")) if parts.scheme == "unix" else bool(parts.hostname)
    if not port_is_number or not has_place or parts.fragment:
        raise ConfigurationError(refused)
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d{0,5}", parts.path):
        raise ConfigurationError(f"{refused}; the database is a number, not {parts.path[:30]!r}")
    strange = sorted(option for option in options if option not in _OPTIONS and not _TLS_OPTION.match(option))
    if strange:
        raise ConfigurationError(f"{refused}; the option {strange[0]!r} is not supported")
    return arguments


async def check_server(client: Redis, *, allow_eviction: bool = False) -> ServerInfo:
    """Ask the server what it is, and refuse one on which the guarantees cannot hold.

    A server that forbids INFO or CONFIG (managed ones do) is taken as it is.

    Raises:
        ConfigurationError: Older than 6.2, evicts keys (without `allow_eviction`), or refuses us.
        StoreUnavailable: It does not answer.
    """
    facts = await _ask(client, "INFO", _info)
    config = await _ask(client, "CONFIG", _config)
    version = facts.get("valkey_version") or facts.get("redis_version", "")
    numbers = tuple(int(number) for number in re.findall(r"\d+", facts.get("redis_version", ""))[:2])
    if numbers and numbers < OLDEST_SERVER:
        raise ConfigurationError(f"REDIS_URL names a server of version {version}: Redis 6.2, or Valkey, is needed")
    policy = config.get("maxmemory-policy") or facts.get("maxmemory_policy")
    if policy is not None and policy != "noeviction" and not allow_eviction:
        raise ConfigurationError(
            f"the server of REDIS_URL has maxmemory-policy {policy}: it would delete events when memory runs short."
            " Set maxmemory-policy noeviction there, or accept the loss with ALLOW_EVICTION=1"
        )
    appendonly = config.get("appendonly") or {"1": "yes", "0": "no"}.get(facts.get("aof_enabled", ""))
    return ServerInfo(
        product="valkey" if "valkey_version" in facts else "redis",
        version=version,
        eviction=policy,
        appendonly=None if appendonly is None else appendonly == "yes",
        appendfsync=config.get("appendfsync"),
        cluster=facts.get("cluster_enabled") == "1",
    )


async def _ask(client: Redis, command: str, ask: Callable[[Redis], Awaitable[dict[str, str]]]) -> dict[str, str]:
    try:
        return await ask(client)
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        forbidden = isinstance(error, exceptions.NoPermissionError) or _word(error) == "NOPERM"
        ours = None if forbidden else unavailable(error)
        if ours is not None:
            raise ours from error
        if isinstance(error, exceptions.ResponseError):
            return {}  # forbidden or renamed away
        raise StoreUnavailable(f"the server does not answer {command} usefully: {error}") from error


async def _info(client: Redis) -> dict[str, str]:
    parsed: dict[str, object] = await _execute(client, "INFO")
    return {name: str(value) for name, value in parsed.items()}


async def _config(client: Redis) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("maxmemory-policy", "appendonly", "appendfsync"):
        pairs: dict[bytes | str, bytes | str] = await _execute(client, "CONFIG GET", name)
        found |= {_text(key): _text(value) for key, value in pairs.items()}
    return found


async def _execute(client: Redis, *arguments: str) -> Any:
    return await cast("Any", client).execute_command(*arguments)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def unavailable(error: BaseException) -> StoreUnavailable | ConfigurationError | None:
    """What an error of a command means for us, as an exception to raise from it.

    Returns:
        `StoreUnavailable` where repeating later can help, `ConfigurationError` where the operator must act first, None
        where the error says that the command itself is wrong. No text holds a secret or a payload.
    """
    if isinstance(error, exceptions.ConnectionError) and isinstance(error.__cause__, exceptions.RedisError):
        return unavailable(error.__cause__)  # what the server said to a new connection, wrapped by redis-py
    word = _word(error)
    if word in _DENIALS:
        return ConfigurationError(f"{_DENIALS[word]} ({word})")
    if word in _REFUSALS:
        return StoreUnavailable(f"{_REFUSALS[word]} ({word})")
    if isinstance(error, exceptions.AuthenticationError):
        # redis-py has taken the word away, so wrong and missing look alike.
        return ConfigurationError(
            "the server refuses the user or password of REDIS_URL, or wants one that is not there"
        )
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return StoreUnavailable("the server did not answer in time")
    if isinstance(error, exceptions.MaxConnectionsError):
        return StoreUnavailable("all connections to the server are in use")
    if isinstance(error, exceptions.ConnectionError | asyncio.IncompleteReadError | OSError):
        refused = _refused(error)
        detail = without_password(str(error))[:200].rstrip(". ") or type(error).__name__
        return StoreUnavailable(f"{'connection refused' if refused else 'the connection failed'}: {detail}")
    return None


def _refused(error: BaseException) -> bool:
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(each, ConnectionRefusedError | FileNotFoundError) for each in causes)


def _word(error: BaseException) -> str:
    """The word with which the server's answer began, also where redis-py or an old server's script hides it."""
    for kind, word in _WORDS.items():
        if isinstance(error, kind):
            return word
    if not isinstance(error, exceptions.RedisError):
        return ""
    text = str(error)
    inner = _SCRIPT_ERROR.search(text)
    if inner is not None:
        return inner.group(1)
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return first if first.isupper() else ""
