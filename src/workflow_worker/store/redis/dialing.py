"""`Dialer`: from an address to a connection that has said who it is, found through sentinels where there are any.

A new connection costs one round trip: login, database and name go out together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
from collections.abc import Callable
from typing import Any

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.store.redis.address import Address, Login, Place
from workflow_worker.store.redis.errors import (
    AuthenticationError,
    ErrorReply,
    LoadingError,
    Misconfigured,
    NoAnswer,
    NoPermissionError,
)
from workflow_worker.store.redis.replies import pack
from workflow_worker.store.redis.sentinel import Sentinels
from workflow_worker.store.redis.switches import SwitchWatch
from workflow_worker.store.redis.wire import Wire

CONNECT_WITHIN_S = 3.0
SENTINEL_WITHIN_S = 1.0
"""A sentinel that does not answer stands between us and those that do."""
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""Seconds, seconds, probes: so that a peer that vanished is noticed also by a connection that only listens."""

_Greeting = list[tuple[str, bytes]]
"""Commands by their first word, packed."""


class Dialer:
    """Makes connections to one address. After a failure the next one waits: longer each time, at most half a second,
    and jittered. A server that comes back must not be met by everybody at once and again in every millisecond."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = address.client_name or name
        self._failures = 0
        self._not_before = 0.0
        self._sentinels: Sentinels | None = None
        self._switches: SwitchWatch | None = None
        if address.service:
            self._sentinels = Sentinels(address.places, address.service, self._dial_sentinel)
            self._switches = SwitchWatch(self._sentinels, self._dial_sentinel)

    async def dial(self, on_message: Callable[[bytes], None] | None = None) -> Wire:
        """A new connection to the server that is the primary at this moment.

        Raises:
            NoAnswer: Nobody answers.
            ConnectionFailed, OSError: Nobody is there.
            ErrorReply: The server refuses us.
            Misconfigured: A file of the TLS options cannot be used, or no sentinel knows such a primary.
        """
        loop = asyncio.get_running_loop()
        await _sleep_until(self._not_before)
        try:
            wire = await self._dial(on_message)
        except Exception:
            self._failures = min(self._failures + 1, 10)
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._failures)
            self._not_before = loop.time() + pause * (0.5 + random.random() / 2)
            raise
        self._failures, self._not_before = 0, 0.0
        return wire

    async def aclose(self) -> None:
        """End what was begun for the connections; these are their owners' to close."""
        if self._switches is not None:
            await self._switches.aclose()

    async def _dial(self, on_message: Callable[[bytes], None] | None) -> Wire:
        address = self._address
        greeting = _greeting(address.login, address.database, self._name)
        make = functools.partial(Wire, on_message)
        if self._sentinels is None:
            return await self._connect(address.places[0], greeting, make)
        wire, place = await self._sentinels.primary(lambda place: self._connect(place, greeting, make))
        assert self._switches is not None
        self._switches.keep(wire, place)
        return wire

    async def _dial_sentinel(self, place: Place, on_message: Callable[[bytes], None] | None = None) -> Wire:
        greeting = _greeting(self._address.sentinel_login, 0, self._name)
        return await self._connect(place, greeting, functools.partial(Wire, on_message), SENTINEL_WITHIN_S)

    async def _connect(
        self, place: Place, greeting: _Greeting, make: Callable[[], Wire], within_s: float | None = None
    ) -> Wire:
        within_s = within_s or CONNECT_WITHIN_S
        try:
            async with asyncio.timeout(within_s):
                wire = await self._open(place, make)
                try:
                    await _greet(wire, greeting)
                except BaseException:
                    wire.abort("the greeting failed")
                    raise
                return wire
        except TimeoutError as error:
            raise NoAnswer(f"{place} did not take a connection within {within_s:.0f} s") from error

    async def _open(self, place: Place, make: Callable[[], Wire]) -> Wire:
        loop = asyncio.get_running_loop()
        if place.path:
            _, wire = await loop.create_unix_connection(make, place.path)
            return wire
        security: dict[str, Any] = {}
        if self._address.tls is not None:
            # Read anew for each connection, so that renewed certificates are used; in a thread, because it takes 20 ms.
            try:
                context = await asyncio.to_thread(self._address.tls.context)
            except ConfigurationError as error:
                raise Misconfigured(str(error)) from error
            security = {"ssl": context, "server_hostname": place.host}
        transport, wire = await loop.create_connection(make, place.host, place.port, **security)
        link: Any = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # a system without these options still works
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                if hasattr(socket, option):
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return wire


async def _sleep_until(instant: float) -> None:
    left_s = instant - asyncio.get_running_loop().time()
    if left_s > 0:
        await asyncio.sleep(left_s)


def _greeting(login: Login, database: int, name: str) -> _Greeting:
    greeting: _Greeting = []
    if login.password is not None:
        who = (login.username, login.password) if login.username else (login.password,)
        greeting.append(("AUTH", pack(("AUTH", *who))))
    if database:
        greeting.append(("SELECT", pack(("SELECT", database))))
    if name:
        shown = "".join(each if "!" <= each <= "~" else "-" for each in name)
        greeting.append(("CLIENT", pack(("CLIENT", "SETNAME", shown))))
    return greeting


async def _greet(wire: Wire, greeting: _Greeting) -> None:
    if not greeting:
        return
    requests = [request for _, request in greeting]
    answers = await asyncio.gather(*wire.send_all(requests, CONNECT_WITHIN_S), return_exceptions=True)
    for (command, _), answer in zip(greeting, answers, strict=True):
        if not isinstance(answer, BaseException) or (command == "CLIENT" and _only_the_name(answer)):
            continue
        if command == "AUTH" and isinstance(answer, ErrorReply) and not isinstance(answer, LoadingError):
            raise AuthenticationError(str(answer)) from answer
        raise answer


def _only_the_name(error: BaseException) -> bool:
    """The name is for people who look at the server: one that does not allow it is good enough."""
    return isinstance(error, NoPermissionError) or str(error).startswith("ERR unknown")
