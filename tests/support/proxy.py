"""A TCP proxy on the loopback that does to a server's connections what networks do, when it is told to.

It knows nothing of Redis but that a client speaks first and the server answers. Bytes of a stream are never dropped
from its middle, because no network does that: a black hole *holds* them, and what was held arrives when the hole is
gone, also when the client has long given up and closed. So a request may be executed long after it was given up, which
is what a fencing token must stand.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from tests.support.proxy_link import FAIR, ClientEnd, Cut, Link, ServerEnd, Weather

__all__ = ["FAIR", "Cut", "FaultProxy", "Weather"]

T = TypeVar("T")

_ANSWER_WITHIN_S = 5.0


@dataclass(slots=True)
class _Order:
    """The next requests that contain `match` lose their connection."""

    cut: Cut
    left: int
    match: bytes


class FaultProxy:
    """Listens on a free loopback port and passes on to `upstream`; runs on a thread of its own.

    Methods may be called from any thread; each returns when the proxy has done what it says.

    Args:
        upstream: A server's unix socket, or its host and port.
        seed: Of the jitter.
    """

    def __init__(self, upstream: Path | tuple[str, int], seed: int = 0) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.AbstractServer | None = None
        self._links: set[Link] = set()
        self._orders: list[_Order] = []
        self._numbers = 0
        self._weather = FAIR
        self.counts = Counter[str]()
        """What it did: connections, refused, half-open, held chunks, each kind of `Cut`, resets …"""
        self.on_cut: Callable[[Cut, bytes], None] = lambda cut, request: None
        """Told of each cut and the beginning of its request; on the proxy's thread."""
        self.port = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where a Redis client connects."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        self._ask(self._listen())
        return self

    def stop(self) -> None:
        """Break all connections and end the thread."""
        if not self._thread.is_alive():
            return
        self._ask(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_WITHIN_S)
        self._loop.close()

    def set(self, weather: Weather, connection: int | None = None) -> None:
        """Change the weather of all connections, those to come included, or of one that there is (`connections`).

        Raises:
            LookupError: There is no such connection.
        """
        self._ask(self._change(weather, connection))

    def clear(self) -> None:
        """Fair weather everywhere; what was held goes on its way, and no ordered cut is left."""
        self._ask(self._clear())

    def connections(self) -> list[int]:
        """Numbers of the connections that there are."""
        return self._ask(self._numbered())

    def cut(self, cut: Cut, count: int = 1, match: bytes = b"") -> None:
        """Break the connections of the next `count` requests that contain `match`, each once."""
        self._ask(self._order(_Order(cut, count, match)))

    def cancel_cuts(self) -> None:
        """Forget the ordered cuts that no request has met."""
        self._ask(self._cancel_cuts())

    def outstanding(self) -> int:
        """Ordered cuts that no request has met yet."""
        return sum(order.left for order in list(self._orders))

    def reset(self, connection: int | None = None) -> int:
        """Break all connections now, or one; how many there were."""
        return self._ask(self._reset(connection))

    # ------------------------------------------------------------------------------------------ on the proxy's thread

    def _ask(self, request: Coroutine[Any, Any, T]) -> T:
        answer: Future[T] = asyncio.run_coroutine_threadsafe(request, self._loop)
        return answer.result(_ANSWER_WITHIN_S)

    async def _listen(self) -> None:
        server: Any = await self._loop.create_server(lambda: ClientEnd(self), "127.0.0.1", self.port, backlog=512)
        self._server, self.port = server, server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._close_server()
        await self._reset(None)
        await asyncio.sleep(0)  # the lost connections are told of on the next turn

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _change(self, weather: Weather, connection: int | None) -> None:
        if connection is not None:
            link = next((link for link in self._links if link.number == connection), None)
            if link is None:
                raise LookupError(f"no connection {connection}")
            link.set(weather)
            return
        self._weather = weather
        for link in self._links:
            link.set(weather)
        if weather.refuse:
            self._close_server()
        elif self._server is None:
            await self._listen()

    async def _cancel_cuts(self) -> None:
        self._orders.clear()

    async def _clear(self) -> None:
        self._orders.clear()
        await self._change(FAIR, None)

    async def _numbered(self) -> list[int]:
        return sorted(link.number for link in self._links)

    async def _order(self, order: _Order) -> None:
        self._orders.append(order)

    async def _reset(self, connection: int | None) -> int:
        chosen = [link for link in self._links if connection in (None, link.number)]
        for link in chosen:
            link.abort()
        self.counts["reset"] += len(chosen)
        return len(chosen)

    # ------------------------------------------------------------------------------------------------ from its links

    def admit(self, link: Link) -> None:
        """A client has connected."""
        self._numbers += 1
        link.number = self._numbers
        self.counts["connections"] += 1
        self._links.add(link)
        link.set(self._weather)
        if self._weather.half_open:
            self.counts["half-open"] += 1
        else:
            link.opening = self._loop.create_task(self._serve(link))

    async def _serve(self, link: Link) -> None:
        try:
            if isinstance(self._upstream, Path):
                await self._loop.create_unix_connection(lambda: ServerEnd(link), str(self._upstream))
            else:
                await self._loop.create_connection(lambda: ServerEnd(link), *self._upstream)
        except OSError:
            self.counts["server away"] += 1
            link.abort()

    def forget(self, link: Link) -> None:
        """Both ends of it are closed."""
        self._links.discard(link)

    def due_cut(self, request: bytes) -> Cut | None:
        """The cut that was ordered for this request."""
        for order in self._orders:
            if order.match in request:
                order.left -= 1
                if not order.left:
                    self._orders.remove(order)
                self.counts[order.cut] += 1
                self.on_cut(order.cut, request[:512])
                return order.cut
        return None

    def draw_delay_s(self, weather: Weather) -> float:
        """How long one chunk takes."""
        return (weather.delay_ms + self._random.random() * weather.jitter_ms) / 1000
