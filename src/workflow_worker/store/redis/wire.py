"""`Wire`: one connection that many callers share: requests go out in order, replies come back in the same order.

A call costs a future and nothing else: no task, no timer, no lock. The requests of one turn of the event loop leave in
one write. What keeps an answer from ever reaching the wrong caller: a request has its place in the queue before it is
written, a reply always takes the head of the queue, whether its caller still waits or not, and a stream on which this
cannot be trusted any more (nothing was asked, no protocol, no answer in time) is closed with all that it holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from workflow_worker.store.redis.errors import ConnectionFailed, NoAnswer, NoProtocol, RedisError
from workflow_worker.store.redis.replies import NOTHING, make_reader, word_of

_LOOK_AGAIN_S = 0.02
"""A deadline that has passed counts only if this much later there is still no answer. An event loop that stood still
runs its timers before it reads what has been lying in the socket all the time."""

_FOR_EVER_S = 30 * 86_400.0


class Wire(asyncio.Protocol):
    """Made by `asyncio`'s `create_connection`; `closed` is done when the connection is gone.

    `on_message` takes what comes on a subscribed channel; such messages answer no call.
    """

    def __init__(self, on_message: Callable[[bytes], None] | None = None) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._reader = make_reader()
        self._on_message = on_message
        self._calls: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._broken: tuple[type[RedisError], str] | None = None
        self._retiring = False

    @property
    def usable(self) -> bool:
        """Whether new calls may go this way."""
        return self._broken is None and not self._retiring

    @property
    def idle(self) -> bool:
        """Whether everything sent has been answered."""
        return not self._calls

    def send(self, request: bytes, within_s: float | None) -> asyncio.Future[Any]:
        """Send one packed command; the future brings its reply, or raises what the server answered.

        Args:
            request: Made by `replies.pack`; several packed commands must go by `send_all`.
            within_s: Deadline of the answer. When it passes, the whole connection is given up, because replies come in
                order. None: no deadline.

        Raises (by the future):
            NoAnswer: No answer in time. The command may have been executed.
            ConnectionFailed: The connection has failed. The same.
            ErrorReply: What the server answered.
        """
        answer = self._expect(within_s)
        self._put(request)
        return answer

    def send_all(self, requests: list[bytes], within_s: float | None) -> list[asyncio.Future[Any]]:
        """Send commands next to each other: nobody else's gets between them."""
        answers = [self._expect(within_s) for _ in requests]
        self._put(b"".join(requests))
        return answers

    def retire(self) -> None:
        """Take no more calls; close when those under way are answered."""
        self._retiring = True
        if not self._calls:
            self.abort("the connection was given up")

    def abort(self, reason: str) -> None:
        """Close at once; what is not answered fails."""
        self._fail(ConnectionFailed, reason)

    # ------------------------------------------------------------------------------------------- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from it

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        reader, calls = self._reader, self._calls
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not NOTHING:
                if self._on_message is not None and _is_message(reply):
                    self._on_message(reply[2])
                    continue
                if not calls:
                    self._fail(ConnectionFailed, f"the server sent what nobody had asked for{_quoted(reply)}")
                    return
                answer, _ = calls.popleft()
                if isinstance(reply, RedisError):
                    self._retiring = self._retiring or _other_server(reply)
                    if not answer.done():
                        answer.set_exception(reply)
                elif not answer.done():
                    answer.set_result(reply)
        except NoProtocol as error:
            self._fail(ConnectionFailed, f"the server does not speak the Redis protocol: {error}")
            return
        if self._retiring and not calls:
            self.abort("the connection was given up")

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        self._fail(ConnectionFailed, f"the connection broke: {exc}" if exc else "the server closed the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    # ------------------------------------------------------------------------------------------------------- our own

    def _expect(self, within_s: float | None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._broken is not None:
            kind, reason = self._broken
            answer.set_exception(kind(reason))
            return answer
        deadline = self._loop.time() + (_FOR_EVER_S if within_s is None else within_s)
        self._calls.append((answer, deadline))
        if self._timer is None or deadline < self._timer_at:
            self._arm(deadline)
        return answer

    def _put(self, request: bytes) -> None:
        if self._broken is not None:
            return
        if not self._unsent:
            # Writing at once when nothing is under way was measured too: it saves a lone call no more than 1 µs of 20,
            # and costs ten calls of one turn a second write, 20 of 65.
            self._loop.call_soon(self._flush)
        self._unsent.append(request)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._broken is None and self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._look), at

    def _look(self) -> None:
        """The one timer: looks at the oldest call, whose answer must come first."""
        self._timer = None
        if not self._calls:
            return
        now, deadline = self._loop.time(), self._calls[0][1]
        if now < deadline:
            self._arm(deadline)
        elif self._timer_at < deadline + _LOOK_AGAIN_S:
            self._arm(now + _LOOK_AGAIN_S)
        else:
            self._fail(NoAnswer, "no answer in time")

    def _fail(self, kind: type[RedisError], reason: str) -> None:
        if self._broken is not None:
            return
        self._broken = kind, reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        calls = list(self._calls)
        self._calls.clear()
        self._unsent.clear()
        for answer, _ in calls:
            if not answer.done():
                answer.set_exception(kind(reason))


def _is_message(reply: Any) -> bool:
    return isinstance(reply, list) and reply[:1] == [b"message"]


def _other_server(error: RedisError) -> bool:
    """Whether a new connection may reach a server that answers better: another primary."""
    return word_of(str(error)) in ("READONLY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED", "NOAUTH")


def _quoted(reply: Any) -> str:
    """An error that the server sent by itself says why it closes; anything else may be somebody's data."""
    return f": {reply}" if isinstance(reply, RedisError) else ""
