"""`SwitchWatch`: hears from the sentinels that another primary was chosen, and leaves the old one at once.

An old primary that was frozen, or cut off from the sentinels alone, goes on answering on the connections that it has,
and what it acknowledges then is lost when it is told (seconds later). So nobody waits for it to be told.
https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from workflow_worker.store.redis.address import Place
from workflow_worker.store.redis.channels import SUBSCRIBED, listen
from workflow_worker.store.redis.errors import RedisError
from workflow_worker.store.redis.sentinel import Sentinels
from workflow_worker.store.redis.wire import Wire

_CHANNEL = "+switch-master"
_ASK_EVERY_S = 2.0
_ANSWER_WITHIN_S = 1.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0


class SwitchWatch:
    """Watches while there are connections to keep; `dial` connects to one sentinel."""

    def __init__(self, sentinels: Sentinels, dial: Callable[[Place, Callable[[bytes], None]], Awaitable[Wire]]) -> None:
        self._sentinels = sentinels
        self._dial = dial
        self._wires: dict[Wire, Place] = {}
        self._task: asyncio.Task[None] | None = None

    def keep(self, wire: Wire, place: Place) -> None:
        """End this connection when the primary is not at `place` any more."""
        self._wires[wire] = place
        wire.closed.add_done_callback(lambda _: self._forget(wire))
        if self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _forget(self, wire: Wire) -> None:
        self._wires.pop(wire, None)
        if not self._wires and self._task is not None:
            self._task.cancel()
            self._task = None  # the next connection gets a watch of its own, also in this turn of the loop

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            begin = loop.time()
            for sentinel in self._sentinels.places():
                with contextlib.suppress(RedisError, OSError):  # the next one will tell, or this one later
                    await self._hear(sentinel)
            heard = loop.time() - begin > _LONGEST_PAUSE_S
            pause_s = _FIRST_PAUSE_S if heard else min(_LONGEST_PAUSE_S, pause_s * 2)
            await asyncio.sleep(pause_s)

    async def _hear(self, sentinel: Place) -> None:
        """What one sentinel says, until it falls silent."""
        hearing = listen(
            functools.partial(self._dial, sentinel), _CHANNEL, ask_every_s=_ASK_EVERY_S, within_s=_ANSWER_WITHIN_S
        )
        async with aclosing(hearing) as messages:
            async for message in messages:
                if message == SUBSCRIBED:  # what was announced before that, it still knows
                    self._leave_all_but(await self._sentinels.ask(sentinel))
                elif (
                    len(words := message.decode(errors="replace").split()) == 5 and words[0] == self._sentinels.service
                ):
                    self._leave_all_but(Place(words[3], int(words[4])))

    def _leave_all_but(self, primary: Place | None) -> None:
        for wire, place in list(self._wires.items()):
            if primary is not None and place != primary:
                wire.abort("another primary was chosen")
