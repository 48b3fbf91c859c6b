"""`Caller`: one script call on the wire, with its errors translated and, where asked for, its durability awaited."""

from __future__ import annotations

from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.store.redis.connection import unavailable
from workflow_worker.store.redis.encoding import Argument
from workflow_worker.store.redis.failures import translate
from workflow_worker.store.redis.scripts import load_scripts

Durability = Literal["relaxed", "fsync", "replicated"]
WAIT_MS = 2_000
"""How long a write may take to reach where DURABILITY wants it, in milliseconds."""


class Caller:
    """Calls scripts by their hash. `client` must not retry by itself: repeating is the caller's, with equal arguments.

    Raises (from every call):
        StoreUnavailable: No usable answer.
        Refused: The script itself failed on what it found; nothing was written.
        ConfigurationError: The server cannot do what DURABILITY wants. What was to be written is written.
    """

    def __init__(self, client: Redis, prefix: str, durability: Durability, wait_ms: int = WAIT_MS) -> None:
        self._client: Any = client  # redis-py leaves the types of its commands open
        self._prefix = prefix
        self._wait: tuple[str | int, ...] | None = {
            "relaxed": None,
            "fsync": ("WAITAOF", 1, 0, wait_ms),
            "replicated": ("WAIT", 1, wait_ms),
        }[durability]
        self._durability, self._wait_ms = durability, wait_ms
        self._scripts = load_scripts()

    async def call(self, name: str, *args: Argument) -> Any:
        """The script's reply. A server that does not know the script (restart, failover) is given it, once."""
        script = self._scripts[name]
        try:
            try:
                return await self._client.execute_command("EVALSHA", script.sha, 1, self._prefix, *args)
            except NoScriptError:
                await self._client.script_load(script.text)
                return await self._client.execute_command("EVALSHA", script.sha, 1, self._prefix, *args)
        except (RedisError, OSError) as error:
            raise translate(error) from error

    async def call_durably(self, name: str, *args: Argument) -> Any:
        """The same, answered only when the write has reached what DURABILITY names. Both go out in one write on one
        connection, because WAIT speaks of its own connection's writes: https://redis.io/docs/latest/commands/wait/"""
        if self._wait is None:
            return await self.call(name, *args)
        script = self._scripts[name]
        try:
            reply, reached = await self._call_and_wait(script.sha, args)
            if isinstance(reply, NoScriptError):
                await self._client.script_load(script.text)
                reply, reached = await self._call_and_wait(script.sha, args)
        except (RedisError, OSError) as error:
            raise translate(error) from error
        if isinstance(reply, RedisError):
            raise translate(reply) from reply
        if isinstance(reached, RedisError):
            raise self._no_durability(reached) from reached
        if (reached[0] if isinstance(reached, list) else reached) < 1:
            raise StoreUnavailable(
                f"written, but not within {self._wait_ms} ms to where DURABILITY={self._durability} wants it"
            )
        return reply

    def _no_durability(self, error: RedisError) -> StoreUnavailable | ConfigurationError:
        ours = unavailable(error)
        if ours is not None:
            return ours
        return ConfigurationError(
            f"DURABILITY={self._durability} cannot be had from this server: {error}. fsync needs Redis 7.2 or Valkey,"
            " with appendonly yes"
        )

    async def _call_and_wait(self, sha: str, args: tuple[Argument, ...]) -> tuple[Any, Any]:
        assert self._wait is not None
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.execute_command("EVALSHA", sha, 1, self._prefix, *args)
            pipe.execute_command(*self._wait)
            reply, reached = await pipe.execute(raise_on_error=False)
        return reply, reached

    async def read(self, *command: Argument) -> Any:
        """One plain reading command."""
        try:
            return await self._client.execute_command(*command)
        except (RedisError, OSError) as error:
            raise translate(error) from error
