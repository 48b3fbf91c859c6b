"""Locks by name across runs: ``async with wf.lock("sku-1")``, kept by one internal run for each name.

A holder asks the keeper by mail and is granted by mail; both are in histories, so no crash loses or doubles a lock.
Requests are served in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

import msgspec

from workflow_worker.model import internal
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import ContinueAsNew, UsageError
from workflow_worker.model.ids import MAX_NAME_BYTES, RunRef
from workflow_worker.model.internal import LockBook, LockGrant, LockRequest
from workflow_worker.runtime.futures import Mailed
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.outbox import Outbox
from workflow_worker.runtime.places import here

HISTORY_KEPT = 1_000
"""A keeper that nobody leaves alone begins a new history after so many records."""


class LockWait(Mailed[None]):
    """One request for a lock, until it is granted."""

    __slots__ = ("key",)

    key: str

    def __str__(self) -> str:
        return f"lock '{self.key}' (#{self.number})"


class Lock:
    """An asynchronous context manager: inside the block at most `limit` runs of the namespace hold this name."""

    def __init__(self, locks: Locks, key: str, limit: int) -> None:
        self._locks = locks
        self._key = key
        self._limit = limit
        self._waits: list[LockWait] = []

    async def __aenter__(self) -> None:
        wait = self._locks.ask(self._key, self._limit)
        try:
            await wait
        except BaseException:
            self._locks.give_back(wait)
            raise
        self._waits.append(wait)

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._locks.give_back(self._waits.pop())


class Locks:
    """What one run holds and waits for; in the run that keeps a lock, the requests that came."""

    def __init__(self, loop: Loop, outbox: Outbox, ref: RunRef, tag: int) -> None:
        self._loop = loop
        self._outbox = outbox
        self._ref = ref
        self._tag = tag
        self._asked: dict[LockWait, None] = {}
        self._requests: deque[LockRequest] = deque()
        self._idle: asyncio.Future[None] | None = None

    # the holder's side

    def make(self, key: str, limit: int) -> Lock:
        """A lock by its name.

        Raises:
            UsageError: Name or limit is not usable.
        """
        if not key or len(key.encode()) > MAX_NAME_BYTES:
            raise UsageError(f"wf.lock needs a name of 1 to {MAX_NAME_BYTES} bytes, not {key!r}")
        if limit < 1:
            raise UsageError(f"wf.lock({key!r}, limit={limit}): at least one run must be able to hold it")
        return Lock(self, key, limit)

    def ask(self, key: str, limit: int) -> LockWait:
        """Get in line; the answer is awaited.

        Raises:
            Evicted: The run is being destroyed in memory.
        """
        loop = self._loop
        wait = LockWait(loop=loop)
        wait.ledger, wait.key, wait.number, wait.place = loop.ledger, key, 0, None
        if loop.dead:
            loop.refuse()
            return wait
        wait.place = here()
        loop.ledger.add_mailed(wait)
        self._asked[wait] = None
        self._send(LockRequest(self._ref, self._tag, wait.number, limit), key)
        return wait

    def give_back(self, wait: LockWait) -> None:
        """Leave the lock, or the line; once is enough."""
        if self._loop.dead or wait not in self._asked:
            return
        del self._asked[wait]
        self._send(LockRequest(self._ref, self._tag, wait.number, release=True), wait.key)

    def granted(self, grant: LockGrant) -> None:
        """The keeper's answer; one for a line that was left is void, as the keeper will hear."""
        step = self._loop.ledger.pending.get(grant.number)
        if grant.tag == self._tag and type(step) is LockWait:
            del self._loop.ledger.pending[grant.number]
            if not step.done():
                step.set_result(None)

    def leave(self) -> None:
        """The run is over without its code: give back what it held or waited for."""
        for wait in list(self._asked):
            self.give_back(wait)

    def _send(self, request: LockRequest, key: str) -> None:
        event = Event("", internal.LOCK, data=msgspec.json.encode(request))
        self._outbox.post(event, workflow=internal.LOCK_WORKFLOW, run=key)

    # the keeper's side

    def requested(self, request: LockRequest) -> None:
        """A request came to the keeper."""
        self._requests.append(request)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def next_request(self) -> LockRequest:
        """The oldest request that the keeper has not looked at."""
        while not self._requests:
            self._idle = self._loop.create_future()
            await self._idle
        return self._requests.popleft()

    @property
    def has_requests(self) -> bool:
        """Whether there are requests that the keeper has not looked at."""
        return bool(self._requests)

    @property
    def keeping(self) -> bool:
        """Whether the keeper's code waits for requests: then the run is not deadlocked."""
        return self._idle is not None and not self._idle.done()

    def forward(self, waiting: list[LockRequest]) -> None:
        """Send requests to the keeper's next incarnation, because this one ends."""
        key = self._ref.partition(":")[2]
        for request in waiting:
            self._send(request, key)

    def take_requests(self) -> list[LockRequest]:
        """All requests that the keeper has not looked at."""
        late, self._requests = list(self._requests), deque[LockRequest]()
        return late

    def grant(self, request: LockRequest) -> None:
        """Tell a holder that it has the lock."""
        workflow, _, run_id = request.holder.partition(":")
        data = msgspec.json.encode(LockGrant(request.tag, request.number))
        self._outbox.post(Event("", internal.GRANT, data=data), workflow=workflow, run=run_id)


async def keep_lock(locks: Locks, data: bytes, records: Callable[[], int]) -> None:
    """The keeper's whole life: grant in order, until nobody holds the lock or waits for it.

    A person who cancels the keeper breaks the lock: its holder is forgotten, those in line come to the next keeper.

    Args:
        locks: The keeper's mail.
        data: The request that it was made for, or the book of the history before.
        records: How long its history is.
    """
    held: dict[tuple[str, int, int], None] = {}
    line: dict[tuple[str, int, int], LockRequest] = {}
    found = _first.decode(data)
    if isinstance(found, LockBook):
        held = dict.fromkeys(found.held)
        line = {_who(request): request for request in found.line}
    for request in found.requests if isinstance(found, LockBook) else (found,):
        locks.requested(request)
    try:
        while held or line or locks.has_requests:
            if records() > HISTORY_KEPT:
                book = LockBook(held=tuple(held), line=tuple(line.values()), requests=tuple(locks.take_requests()))
                raise ContinueAsNew(msgspec.json.encode(book))
            request = await locks.next_request()
            if request.release:
                held.pop(_who(request), None)
                line.pop(_who(request), None)
            elif _who(request) not in held:
                line[_who(request)] = request
            while line and len(held) < next(iter(line.values())).limit:
                granted = line.pop(next(iter(line)))
                held[_who(granted)] = None
                locks.grant(granted)
    except asyncio.CancelledError:
        locks.forward(list(line.values()))
        raise


def _who(request: LockRequest) -> tuple[str, int, int]:
    return request.holder, request.tag, request.number


_first: msgspec.json.Decoder[LockRequest | LockBook] = msgspec.json.Decoder(LockRequest | LockBook)
