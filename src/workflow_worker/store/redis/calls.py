"""`Caller`: one script call on the wire, with its errors translated and, where asked for, its durability awaited."""

from __future__ import annotations

from typing import Any

from workflow_worker.model.exceptions import ConfigurationError, Refused, StoreUnavailable
from workflow_worker.store.redis.durable import Durability, DurableLink
from workflow_worker.store.redis.errors import NoScriptError, RedisError
from workflow_worker.store.redis.failures import translate, translate_at_work, unavailable
from workflow_worker.store.redis.fitness import check_durability
from workflow_worker.store.redis.link import Client, SharedLink
from workflow_worker.store.redis.replies import Argument
from workflow_worker.store.redis.scripts import load_scripts

WAIT_MS = 2_000
"""How long a write may take to reach where DURABILITY wants it, in milliseconds."""


class Caller:
    """Calls scripts by their hash. `client` must not retry by itself: repeating is the caller's, with equal arguments.

    Raises (from every call):
        StoreUnavailable: No usable answer.
        Refused: The script itself failed on what it found; nothing was written.
        ConfigurationError: The server cannot be used with this URL or DURABILITY; nothing was written. Once a call was
            answered, a server that refuses us is `StoreUnavailable`: the address was right, the server must be mended.
    """

    def __init__(self, client: Client, prefix: str, durability: Durability, wait_ms: int = WAIT_MS) -> None:
        self._client = client
        self._prefix = prefix
        self._durability: Durability = durability
        self._wait_ms = wait_ms
        self._scripts = load_scripts()
        self._answered = False
        self._durable: DurableLink | None = None
        self._checked = False
        if durability != "relaxed":
            assert isinstance(client, SharedLink), "DURABILITY other than relaxed needs a connection of its own"
            self._durable = DurableLink(client, _wait_command(durability, wait_ms), wait_ms)

    def command(self, name: str, *args: Argument) -> tuple[Argument, ...]:
        """The call of a script as a command, for who sends it another way."""
        return ("EVALSHA", self._scripts[name].sha, 1, self._prefix, *args)

    async def call(self, name: str, *args: Argument) -> Any:
        """The script's reply. A server that does not know the script (restart, failover) is given it, once."""
        script = self._scripts[name]
        try:
            try:
                reply = await self._client.execute_command("EVALSHA", script.sha, 1, self._prefix, *args)
            except NoScriptError:
                await self._client.execute_command("SCRIPT", "LOAD", script.text)
                reply = await self._client.execute_command("EVALSHA", script.sha, 1, self._prefix, *args)
        except (RedisError, OSError) as error:
            raise self._translated(error) from error
        self._answered = True
        return reply

    async def call_durably(self, name: str, *args: Argument) -> Any:
        """The same, answered only when the write has reached what DURABILITY names."""
        durable = self._durable
        if durable is None:
            return await self.call(name, *args)
        script = self._scripts[name]
        command = self.command(name, *args)
        try:
            if not self._checked:  # before the first write: a server that cannot keep the promise gets none
                await check_durability(self._client, self._durability)
                self._checked = True
            reply, reached = await durable.execute_command(*command)
            if isinstance(reply, NoScriptError):
                await self._client.execute_command("SCRIPT", "LOAD", script.text)
                reply, reached = await durable.execute_command(*command)
        except (RedisError, OSError) as error:
            raise self._translated(error) from error
        if isinstance(reply, RedisError):
            raise self._translated(reply) from reply
        if isinstance(reached, RedisError):
            raise self._no_durability(reached) from reached
        if (reached[0] if isinstance(reached, list) else reached) < 1:
            durable.reconnect()  # an old primary has no replicas any more: those of the new one will do
            raise StoreUnavailable(
                f"written, but not within {self._wait_ms} ms to where DURABILITY={self._durability} wants it"
            )
        self._answered = True
        return reply

    async def read(self, *command: Argument) -> Any:
        """One plain reading command."""
        try:
            reply = await self._client.execute_command(*command)
        except (RedisError, OSError) as error:
            raise self._translated(error) from error
        self._answered = True
        return reply

    def _translated(self, error: BaseException) -> StoreUnavailable | ConfigurationError | Refused:
        return translate_at_work(error) if self._answered else translate(error)

    def _no_durability(self, error: RedisError) -> StoreUnavailable | ConfigurationError:
        """WAITAOF was refused although the check before the first write found nothing: the server has changed."""
        ours = unavailable(error)
        if ours is not None:
            return ours
        return ConfigurationError(f"written, but DURABILITY={self._durability} cannot be had from this server: {error}")


def _wait_command(durability: Durability, wait_ms: int) -> tuple[Argument, ...]:
    """https://redis.io/docs/latest/commands/waitaof/ and .../wait/"""
    return ("WAITAOF", 1, 0, wait_ms) if durability == "fsync" else ("WAIT", 1, wait_ms)
