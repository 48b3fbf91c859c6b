"""`DurableLink`: commands that count as answered only when their writes have reached a disk or a replica.

WAIT and WAITAOF hold up their connection and speak of its writes, so these commands have connections of their own.
The commands that came together, or while all connections waited, are a group with one WAIT behind it: what a disk or a
replica takes in at once is waited for at once. https://redis.io/docs/latest/commands/wait/
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from workflow_worker.store.redis.link import SharedLink
from workflow_worker.store.redis.replies import Argument

Durability = Literal["relaxed", "fsync", "replicated"]
"""What an acknowledged write has reached: the server's memory, its disk, or a replica."""

_LARGEST_GROUP = 64
_CONNECTIONS = 4
"""A disk that is synced each second is waited for up to a second: what comes meanwhile need not wait for two."""
_MARGIN_S = 5.0


class DurableLink:
    """`wait` is the command that follows each group; it answers within `wait_ms`, satisfied or not. `client` gives the
    connections to the same server, and closes them."""

    def __init__(self, client: SharedLink, wait: tuple[Argument, ...], wait_ms: int) -> None:
        self._client = client
        self._wait = wait
        self._within_s = wait_ms / 1000 + _MARGIN_S
        self._links: list[SharedLink] = []
        self._free: list[SharedLink] = []
        self._gathering: list[tuple[tuple[Argument, ...], asyncio.Future[tuple[Any, Any]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = False

    async def execute_command(self, *arguments: Argument) -> tuple[Any, Any]:
        """The command's reply and what WAIT said behind it; either may be an error of the server, as a value.

        Raises:
            ConnectionFailed, NoAnswer, OSError: The command may have been executed.
        """
        answer: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
        self._gathering.append((arguments, answer))
        if not self._starting and (link := self._free_link()) is not None:
            self._starting = True  # the rest of this turn joins the group
            task = asyncio.create_task(self._drive(link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    def reconnect(self) -> None:
        """Let later commands, the client's too, go to the primary of that moment."""
        for link in (self._client, *self._links):
            link.reconnect()

    def _free_link(self) -> SharedLink | None:
        if self._free:
            return self._free.pop()
        if len(self._links) == _CONNECTIONS:
            return None
        self._links.append(self._client.twin())
        return self._links[-1]

    async def _drive(self, link: SharedLink) -> None:
        self._starting = False
        try:
            while self._gathering:
                group = self._gathering[:_LARGEST_GROUP]
                del self._gathering[:_LARGEST_GROUP]
                commands = [*(arguments for arguments, _ in group), self._wait]
                try:
                    *replies, reached = await link.execute_together(commands, self._within_s)
                except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait for the answers
                    for _, answer in group:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, answer), reply in zip(group, replies, strict=True):
                    if not answer.done():
                        answer.set_result((reply, reached))
        finally:
            self._free.append(link)
