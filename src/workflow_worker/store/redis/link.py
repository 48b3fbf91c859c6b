"""What the store calls: `SharedLink` for short commands, `BlockingLink` for those that wait.

Both connect when they are first used, and again after any failure, each time to where the primary is then. Nothing is
ever sent twice: a command whose answer is lost may have been executed, and only who knows what it means may repeat it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from workflow_worker.store.redis.channels import SUBSCRIBED, listen
from workflow_worker.store.redis.dialing import Dialer
from workflow_worker.store.redis.errors import ConnectionFailed, ErrorReply, NoAnswer
from workflow_worker.store.redis.replies import Argument, pack
from workflow_worker.store.redis.wire import Wire

_PING_EVERY_S = 5.0
_PONG_WITHIN_S = 5.0
_CLOSE_WITHIN_S = 1.0
T = TypeVar("T")

_CLOSED = "the connection was closed by its owner"


class Client(Protocol):
    """What is needed of a connection to send commands."""

    async def execute_command(self, *arguments: Argument) -> Any:
        """The server's reply: bytes, a number, a list, or None.

        Raises:
            RedisError, OSError: No usable answer, or an error of the server.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class BlockingClient(Client, Protocol):
    """The same for commands that wait at the server, and for channels."""

    async def execute_followed(
        self, command: tuple[Argument, ...], then: asyncio.Future[T], follower: Callable[[T], tuple[Argument, ...]]
    ) -> tuple[Any, Any]:
        """See `BlockingLink`."""
        ...

    def listen(self, channel: str) -> AsyncGenerator[bytes]:
        """What is published on a channel from now on."""
        ...


class SharedLink:
    """One connection for all short commands of an event loop; those of one turn share a write.

    `within_s` is the deadline of an answer in seconds; None: the callers set one around each call.
    """

    def __init__(self, dialer: Dialer, within_s: float | None) -> None:
        self._dialer = dialer
        self._within_s = within_s
        self._wire: Wire | None = None
        self._open: set[Wire] = set()
        """The present one, and those given up whose last calls are still under way."""
        self._dialing: asyncio.Task[Wire] | None = None
        self._twins: list[SharedLink] = []
        self._closed = False

    async def execute_command(self, *arguments: Argument) -> Any:
        """See `Client`. Cancelled, the command may still be executed; its answer goes to nobody."""
        request = pack(arguments)
        wire = self._wire
        if wire is None or not wire.usable:
            wire = await self._connected()
        return await wire.send(request, self._within_s)

    async def execute_together(self, commands: Sequence[tuple[Argument, ...]], within_s: float) -> list[Any]:
        """The replies of commands that follow each other directly on the connection; an error of the server stands in
        its command's place.

        Raises:
            ConnectionFailed, NoAnswer, OSError: Not all were answered.
        """
        requests = [pack(command) for command in commands]
        wire = self._wire
        if wire is None or not wire.usable:
            wire = await self._connected()
        replies = await asyncio.gather(*wire.send_all(requests, within_s), return_exceptions=True)
        for reply in replies:
            if isinstance(reply, ConnectionFailed | NoAnswer):
                raise reply
        return replies

    def reconnect(self) -> None:
        """Let later commands go over a new connection, to the primary of that moment."""
        if self._wire is not None:
            self._wire.retire()

    def twin(self) -> SharedLink:
        """Another connection to the same server, closed with this one."""
        twin = SharedLink(self._dialer, self._within_s)
        self._twins.append(twin)
        return twin

    async def aclose(self) -> None:
        """Close for good; commands under way fail, and later ones too."""
        self._closed = True
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.wait((self._dialing,), timeout=_CLOSE_WITHIN_S)
        await _close(list(self._open))
        for twin in self._twins:
            await twin.aclose()
        await self._dialer.aclose()

    async def _connected(self) -> Wire:
        """One attempt to connect serves everybody who needs it, and outlives the one who began it."""
        if self._closed:
            raise ConnectionFailed(_CLOSED)
        dialing = self._dialing
        if dialing is None:
            dialing = self._dialing = asyncio.ensure_future(self._dial())
            dialing.add_done_callback(_seen)
        try:
            return await asyncio.shield(dialing)
        except asyncio.CancelledError:
            if dialing.cancelled() and self._closed:
                raise ConnectionFailed(_CLOSED) from None  # it was not the caller who was cancelled
            raise

    async def _dial(self) -> Wire:
        try:
            wire = self._wire = await self._dialer.dial()
            _keep(self._open, wire)
            return wire
        finally:
            self._dialing = None


class BlockingLink:
    """Connections for commands that wait at the server: each command has one to itself.

    A command that is given up (cancelled, or over its deadline of `within_s` seconds) takes its connection with it: a
    reader that is not there any more must not be handed what would have woken another.
    """

    def __init__(self, dialer: Dialer, within_s: float | None) -> None:
        self._dialer = dialer
        self._within_s = within_s
        self._free: list[Wire] = []
        self._open: set[Wire] = set()
        self._closed = False

    async def execute_command(self, *arguments: Argument) -> Any:
        """See `Client`."""
        request = pack(arguments)
        wire = self._take_free() or await self._dial()
        try:
            return await wire.send(request, self._within_s)
        finally:
            if wire.usable and wire.idle:
                self._free.append(wire)
            else:
                wire.abort("its command was given up")

    async def execute_followed(
        self, command: tuple[Argument, ...], then: asyncio.Future[T], follower: Callable[[T], tuple[Argument, ...]]
    ) -> tuple[Any, Any]:
        """The replies of a command that waits at the server and of another that follows it on the connection: sent as
        soon as `then` brings what `follower` makes it of, executed at the moment in which the first is over.

        An error of the server stands in its command's place; None in the second's: `then` brought nothing in time.

        Raises:
            ConnectionFailed, NoAnswer, OSError: As from `Client`; either may have been executed.
        """
        request = pack(command)
        wire = self._take_free() or await self._dial()
        followed: list[asyncio.Future[Any]] = []

        def follow(brought: asyncio.Future[T]) -> None:
            if not brought.cancelled() and not first.done():
                followed.append(wire.send(pack(follower(brought.result())), self._within_s))

        first = wire.send(request, self._within_s)
        try:
            if then.done():
                follow(then)  # both in one write
            else:
                then.add_done_callback(follow)
            return await _reply_or_error(first), await _reply_or_error(followed[0]) if followed else None
        finally:
            then.remove_done_callback(follow)
            for answer in followed:
                if not answer.cancel() and not answer.cancelled():
                    answer.exception()  # the first call's failure told of it
            if wire.usable and wire.idle:
                self._free.append(wire)
            else:
                wire.abort("its command was given up")

    async def listen(self, channel: str) -> AsyncGenerator[bytes]:
        """What is published on a channel from now on.

        Raises:
            ConnectionFailed, NoAnswer, OSError: The connection is gone, or its server.
        """
        listening = listen(self._dial, channel, ask_every_s=_PING_EVERY_S, within_s=_PONG_WITHIN_S)
        async with aclosing(listening) as messages:
            async for message in messages:
                if message != SUBSCRIBED:
                    yield message

    async def aclose(self) -> None:
        """Close for good; commands under way fail, and later ones too."""
        self._closed = True
        await _close(list(self._open))
        await self._dialer.aclose()

    def _take_free(self) -> Wire | None:
        while self._free:
            wire = self._free.pop()
            if wire.usable:
                return wire
        return None

    async def _dial(self, on_message: Callable[[bytes], None] | None = None) -> Wire:
        if self._closed:
            raise ConnectionFailed(_CLOSED)
        wire = await self._dialer.dial(on_message)
        if self._closed:
            wire.abort(_CLOSED)
        _keep(self._open, wire)
        return wire


async def _reply_or_error(answer: asyncio.Future[Any]) -> Any:
    """What the server answered, an error as a value; the connection's own failures are raised."""
    try:
        return await answer
    except ErrorReply as error:
        return error


def _keep(wires: set[Wire], wire: Wire) -> None:
    """Among `wires` while it is open."""
    wires.add(wire)
    wire.closed.add_done_callback(lambda _: wires.discard(wire))


async def _close(wires: Iterable[Wire]) -> None:
    closing = [wire.closed for wire in wires]
    for wire in wires:
        wire.abort(_CLOSED)
    if closing:
        await asyncio.wait(closing, timeout=_CLOSE_WITHIN_S)


def _seen(task: asyncio.Task[Wire]) -> None:
    """A failure that all who waited for it have turned away from is nobody's any more."""
    if not task.cancelled():
        task.exception()
