"""Is a server fit for the guarantees? Asked at the start, and refused then: not after the first write is lost."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.store.redis import errors
from workflow_worker.store.redis.durable import Durability
from workflow_worker.store.redis.failures import unavailable
from workflow_worker.store.redis.link import Client
from workflow_worker.store.redis.replies import word_of

OLDEST_SERVER = (6, 2)
_WITH_WAITAOF = (7, 2)
_CONFIG = ("maxmemory-policy", "appendonly", "appendfsync", "min-replicas-to-write")


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
    replicas: int | None
    min_replicas: int | None
    """The server's ``min-replicas-to-write``."""
    warnings: tuple[str, ...] = ()
    """What works and still wants a person's look, one sentence each."""


async def check_server(
    client: Client, *, allow_eviction: bool = False, durability: Durability = "relaxed"
) -> ServerInfo:
    """Ask the server what it is, and refuse one on which the guarantees cannot hold.

    A server that forbids INFO or CONFIG (managed ones do) is taken as it is.

    Raises:
        ConfigurationError: Older than 6.2, evicts keys (without `allow_eviction`), cannot give `durability`, or refuses
            us.
        StoreUnavailable: It does not answer.
    """
    facts = await _ask(client, "INFO", _info)
    config = await _ask(client, "CONFIG", _config)
    version = facts.get("valkey_version") or facts.get("redis_version", "")
    numbers = _numbers(facts)
    if numbers and numbers < OLDEST_SERVER:
        raise ConfigurationError(f"REDIS_URL names a server of version {version}: Redis 6.2, or Valkey, is needed")
    policy = config.get("maxmemory-policy") or facts.get("maxmemory_policy")
    if policy is not None and policy != "noeviction" and not allow_eviction:
        raise ConfigurationError(
            f"the server of REDIS_URL has maxmemory-policy {policy}: it would delete events when memory runs short."
            " Set maxmemory-policy noeviction there, or accept the loss with ALLOW_EVICTION=1"
        )
    _judge_durability(facts, durability)
    appendonly = config.get("appendonly") or {"1": "yes", "0": "no"}.get(facts.get("aof_enabled", ""))
    replicas, minimum = _number(facts.get("connected_slaves")), _number(config.get("min-replicas-to-write"))
    return ServerInfo(
        product="valkey" if "valkey_version" in facts else "redis",
        version=version,
        eviction=policy,
        appendonly=None if appendonly is None else appendonly == "yes",
        appendfsync=config.get("appendfsync"),
        cluster=facts.get("cluster_enabled") == "1",
        replicas=replicas,
        min_replicas=minimum,
        warnings=tuple(_warnings(durability, appendonly, replicas, minimum)),
    )


async def check_durability(client: Client, durability: Durability) -> None:
    """Only whether the server can give what DURABILITY asks for, in one round trip.

    Raises:
        ConfigurationError: It cannot.
        StoreUnavailable: It does not answer.
    """
    if durability == "fsync":
        _judge_durability(await _ask(client, "INFO", _info), durability)


def _judge_durability(facts: dict[str, str], durability: Durability) -> None:
    if durability != "fsync":
        return
    if (numbers := _numbers(facts)) and numbers < _WITH_WAITAOF:
        raise ConfigurationError(
            f"DURABILITY=fsync cannot be had from a server of version {facts['redis_version']}: it needs Redis 7.2 or"
            " Valkey (WAITAOF)"
        )
    if facts.get("aof_enabled") == "0":
        raise ConfigurationError(
            "DURABILITY=fsync cannot be had from this server: it writes no file. Set appendonly yes there"
        )


def _warnings(
    durability: Durability, appendonly: str | None, replicas: int | None, minimum: int | None
) -> Iterator[str]:
    if durability == "relaxed" and appendonly == "no":
        yield (
            "the server keeps no append-only file: if it crashes, events and steps that it acknowledged are lost. Set"
            " appendonly yes there"
        )
    if durability == "replicated" and replicas == 0:
        yield "DURABILITY=replicated, and no replica is connected: no write will count until one is"
    if durability == "replicated" and minimum == 0:
        yield (
            "DURABILITY=replicated, and the server has min-replicas-to-write 0: an old primary that has been cut off"
            " takes writes of others than us until it learns of the new one. Set min-replicas-to-write 1 there, with"
            " two replicas"
        )


async def _ask(client: Client, command: str, ask: Callable[[Client], Awaitable[dict[str, str]]]) -> dict[str, str]:
    try:
        return await ask(client)
    except (errors.RedisError, OSError, TimeoutError) as error:
        ours = None if word_of(str(error)) == "NOPERM" else unavailable(error)
        if ours is not None:
            raise ours from error
        if isinstance(error, errors.ErrorReply):
            return {}  # forbidden or renamed away
        raise StoreUnavailable(f"the server does not answer {command} usefully: {error}") from error


async def _info(client: Client) -> dict[str, str]:
    text: bytes = await client.execute_command("INFO")
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


async def _config(client: Client) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _CONFIG:
        flat: Any = await client.execute_command("CONFIG", "GET", name)
        found |= {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}
    return found


def _numbers(facts: dict[str, str]) -> tuple[int, ...]:
    """Valkey, too, says here which Redis it is compatible with."""
    return tuple(int(number) for number in re.findall(r"\d+", facts.get("redis_version", ""))[:2])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
