"""One connection through the fault proxy: two directions, each a queue of chunks with the time of their arrival."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, cast

_MOST_HELD = 4 * 1024 * 1024
"""Bytes that one direction of a link holds before its source is not read any more, as a full socket buffer would."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to everything that passes, until it is changed. Spans are milliseconds."""

    delay_ms: float = 0
    jitter_ms: float = 0
    """Evenly drawn on top of `delay_ms`; order within one direction of a connection is kept."""
    bytes_per_s: int = 0
    """Of each direction of each connection; 0 is no limit."""
    hold_requests: bool = False
    hold_replies: bool = False
    half_open: bool = False
    """New connections are accepted and never served."""
    refuse: bool = False
    """New connections are refused: nobody listens."""


FAIR = Weather()


class Cut(StrEnum):
    """Where a connection breaks, seen from a request."""

    BEFORE = "before the request"
    MID_REQUEST = "within the request"
    AFTER = "after the server executed"
    MID_REPLY = "within the reply"


class Keeper(Protocol):
    """What a link needs of the proxy that it belongs to; all on the proxy's thread."""

    counts: Counter[str]

    def admit(self, link: Link) -> None:
        """A client has connected."""
        ...

    def forget(self, link: Link) -> None:
        """Both ends of it are closed."""
        ...

    def due_cut(self, request: bytes) -> Cut | None:
        """The cut that was ordered for this request."""
        ...

    def draw_delay_s(self, weather: Weather) -> float:
        """How long one chunk takes."""
        ...


class Pipe:
    """One direction of a link: chunks, each with the time before which it does not arrive."""

    def __init__(self, proxy: Keeper, counted_as: str) -> None:
        self._proxy = proxy
        self._counted_as = counted_as
        self._queue: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ending = False
        self.holding = False
        self.weather = FAIR
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def put(self, chunk: bytes) -> None:
        """Bytes have come from the source."""
        weather = self.weather
        fair = not (self.holding or weather.delay_ms or weather.jitter_ms or weather.bytes_per_s)
        if fair and not self._queue and self.sink is not None:
            self.sink.write(chunk)
            return
        now = asyncio.get_running_loop().time()
        due = max(self._last_due, now + self._proxy.draw_delay_s(weather))
        if weather.bytes_per_s:
            due = max(due, self._last_due) + len(chunk) / weather.bytes_per_s
        self._last_due = due
        self._queue.append((due, chunk))
        self._size += len(chunk)
        if self.holding:
            self._proxy.counts[f"held {self._counted_as}"] += 1
        elif not fair:
            self._proxy.counts[f"delayed {self._counted_as}"] += 1
        if self._size > _MOST_HELD and self.source is not None:
            self.source.pause_reading()
        self.pump()

    def end(self) -> None:
        """The source has closed; the sink is closed behind the last chunk."""
        self._ending = True
        self.pump()

    def pump(self) -> None:
        """Pass on what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.sink is None or self.holding:
            return
        loop = asyncio.get_running_loop()
        while self._queue:
            due, chunk = self._queue[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.pump)
                return
            self._queue.popleft()
            self._size -= len(chunk)
            self.sink.write(chunk)
        if self.source is not None and not self.source.is_closing():
            self.source.resume_reading()
        if self._ending:
            self.sink.close()

    def stop(self) -> None:
        """Nothing more arrives."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: Keeper) -> None:
        self.number = 0
        self.opening: asyncio.Task[None] | None = None
        self._proxy = proxy
        self._requests = Pipe(proxy, "requests")
        self._replies = Pipe(proxy, "replies")
        self._reply_cut: Cut | None = None
        self._client_gone = False
        self._server_gone = False

    def set(self, weather: Weather) -> None:
        """Change what happens to it from now on."""
        for pipe, holding in ((self._requests, weather.hold_requests), (self._replies, weather.hold_replies)):
            pipe.weather, pipe.holding = weather, holding
            pipe.pump()

    def client_connected(self, transport: asyncio.Transport) -> None:
        """The client's end is there."""
        self._requests.source = self._replies.sink = transport
        self._proxy.admit(self)
        self._server_gone = self.opening is None  # half open: there will be none

    def server_connected(self, transport: asyncio.Transport) -> None:
        """The server's end is there; what a client that has gone meanwhile had sent still arrives."""
        self._requests.sink = self._replies.source = transport
        self._requests.pump()

    def request(self, chunk: bytes) -> None:
        """The client said something."""
        cut = self._proxy.due_cut(chunk)
        match cut:
            case None:
                self._requests.put(chunk)
            case Cut.BEFORE:
                self.abort()
            case Cut.MID_REQUEST:
                self._requests.put(chunk[: len(chunk) // 2])
                self._break_off(self._requests)
            case _:
                self._reply_cut = cut
                self._requests.put(chunk)

    def reply(self, chunk: bytes) -> None:
        """The server said something."""
        if self._client_gone:
            return
        match self._reply_cut:
            case None:
                self._replies.put(chunk)
            case Cut.MID_REPLY:
                self._replies.put(chunk[: len(chunk) // 2])
                self._break_off(self._replies)
            case _:
                self.abort()

    def client_lost(self) -> None:
        """The client has closed, or its connection broke: what it sent still arrives."""
        self._client_gone = True
        self._requests.source = self._replies.sink = None
        self._replies.stop()
        self._requests.end()
        self._forget_if_over()

    def server_lost(self) -> None:
        """The server has closed: what it sent still arrives."""
        self._server_gone = True
        self._requests.sink = self._replies.source = None
        self._requests.stop()
        self._replies.end()
        self._forget_if_over()

    def abort(self) -> None:
        """Break both ends at once."""
        for pipe in (self._requests, self._replies):
            pipe.stop()
        for transport in (self._requests.source, self._requests.sink):
            if transport is not None:
                transport.abort()
        if self.opening is not None and self._requests.sink is None:
            self.opening.cancel()
            self._server_gone = True
        self._forget_if_over()

    @staticmethod
    def _break_off(pipe: Pipe) -> None:
        """The piece arrives, then the end; nothing more is read from its source."""
        pipe.end()
        if pipe.source is not None:
            pipe.source.abort()

    def _forget_if_over(self) -> None:
        if self._client_gone and self._server_gone:
            self._proxy.forget(self)


class ClientEnd(asyncio.Protocol):
    """The end of a link at which the client is."""

    def __init__(self, proxy: Keeper) -> None:
        self._link = Link(proxy)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._link.client_connected(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """A request, or a piece of one."""
        self._link.request(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._link.client_lost()


class ServerEnd(asyncio.Protocol):
    """The end of a link at which the server is."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._link.server_connected(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """A reply, or a piece of one."""
        self._link.reply(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._link.server_lost()
