"""`Group`: events published by many callers at the same time travel together.

A call of the store costs the same for one event as for twenty. A lone caller is sent at once; what others publish while
that call is under way goes into the next one. So the size of the batches follows the load by itself, as the worker's
commits do, and nobody waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable

from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.store.transitions import Publish, Published

Send = Callable[[list[Publish]], Awaitable[list[Published]]]


class Group:
    """Publishes single events for any number of tasks of one event loop.

    A caller that is cancelled while its event waits for its turn leaves it behind: it is sent all the same.
    """

    def __init__(self, send: Send, most: int) -> None:
        self._send = send
        self._most = most
        self._waiting: deque[tuple[Publish, asyncio.Future[Published]]] = deque()
        self._busy = False
        self._sending: asyncio.Task[None] | None = None

    async def publish(self, item: Publish) -> Published:
        """One event; the store's answer to it.

        Raises:
            StoreUnavailable: As `send` raises it, to every caller whose event was in that call.
        """
        if self._busy:
            answer: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
            self._waiting.append((item, answer))
            return await answer
        self._busy = True
        try:
            return (await self._send([item]))[0]
        finally:
            self._go_on()

    def _go_on(self) -> None:
        """The call has ended, somehow: the next is for those who came meanwhile."""
        if self._waiting:
            self._sending = asyncio.get_running_loop().create_task(self._send_waiting())
        else:
            self._busy = False

    async def _send_waiting(self) -> None:
        batch: list[tuple[Publish, asyncio.Future[Published]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                await self._send_batch(batch)
        except asyncio.CancelledError:  # the event loop is being closed
            _fail([*batch, *self._waiting], StoreUnavailable("the event was not sent: its event loop was closed"))
            self._waiting.clear()
            raise
        finally:
            self._busy = False

    async def _send_batch(self, batch: list[tuple[Publish, asyncio.Future[Published]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is the callers' error: each gets it
            if len(batch) == 1 or isinstance(error, StoreUnavailable):
                _fail(batch, error)
                return
            for each in batch:  # one of them is refused: only its own caller shall hear of it
                await self._send_batch([each])
            return
        for (_, answer), published in zip(batch, answers, strict=True):
            if not answer.done():
                answer.set_result(published)


def _fail(batch: list[tuple[Publish, asyncio.Future[Published]]], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            own = copy.copy(error)  # one object raised to many callers would collect all their tracebacks
            own.__cause__ = error
            answer.set_exception(own)
