"""`MemoryStore`: the machine behind the `Store` protocol, shared by any number of workers of one process."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import islice

from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.run import RunView
from workflow_worker.store.memory.machine import arrivals, operations, progress, ticking, views
from workflow_worker.store.memory.machine.audit import audit
from workflow_worker.store.memory.machine.facts import Hint, MachineFact, Work
from workflow_worker.store.memory.machine.state import Partition
from workflow_worker.store.transitions import (
    Audit,
    Commit,
    CommitOutcome,
    Depth,
    Ingest,
    IngestOutcome,
    Limits,
    Loaded,
    OperatorAct,
    OperatorWord,
    Publish,
    Published,
    Recorded,
    Registration,
    Renewed,
    RunPage,
    RunQuery,
    SessionLost,
    Ticked,
)

_HINTS_KEPT = 1_000
"""Hints that wait for a slow listener; more are lost, as a subscriber of Redis loses them."""


class MemoryStore:
    """A Store whose state lives in this object and dies with it.

    Users may share it across event loops and threads (a worker renews from a thread of its own): a lock makes each
    transition one step, and whoever sleeps is woken on its own loop. Verbs and refusals: `Store`.
    """

    def __init__(self, limits: Limits, now_ms: Callable[[], int], *, off: frozenset[str] = frozenset()) -> None:
        self.partition = Partition(limits, off, self._hear)
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._unwoken = 0
        self._sleepers: deque[_Sleeper] = deque()
        self._listeners: dict[SessionId, list[_Listener]] = {}

    @contextmanager
    def _transition(self) -> Generator[int]:
        with self._lock:
            yield self._now_ms()

    def _hear(self, fact: MachineFact) -> None:
        """Runs under the lock: only flags and thread-safe wake-ups here."""
        match fact:
            case Work():
                self._unwoken += 1
                while self._sleepers:
                    if self._sleepers.popleft().wake():
                        self._unwoken -= 1
                        break
            case Hint(session, ref):
                for listener in self._listeners.get(session, ()):
                    listener.hint(ref)
            case _:
                return

    # ---- producers and declarations
    async def register(self, registration: Registration) -> None:
        """See `Store.register`."""
        with self._transition() as now:
            arrivals.register(self.partition, registration, now)

    async def publish(self, items: Sequence[Publish]) -> list[Published]:
        """See `Store.publish`."""
        with self._transition() as now:
            return arrivals.publish(self.partition, items, now)

    def add_raw(self, fields: Sequence[bytes]) -> str:
        """What any program's plain XADD does: append an entry with these flat fields; returns its id.

        Raises:
            ValueError: There is no field, or a name without a value.
        """
        if not fields or len(fields) % 2:
            raise ValueError(f"{len(fields)} parts are no fields: give name, value, name, value")
        with self._transition() as now:
            return self.partition.add(tuple(fields), now)

    # ---- sessions
    async def open(self, session: SessionId) -> str:
        """See `Store.open`."""
        with self._transition() as now:
            return progress.open_session(self.partition, session, now)

    async def close(self, session: SessionId, died: bool = False) -> bool:
        """See `Store.close`."""
        with self._transition() as now:
            return progress.close_session(self.partition, session, died, now)

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        """See `Store.renew`."""
        with self._transition() as now:
            return progress.renew(self.partition, session, known, now)

    # ---- runs
    async def ingest(self, request: Ingest) -> IngestOutcome:
        """See `Store.ingest`."""
        with self._transition() as now:
            return arrivals.ingest(self.partition, request, now)

    async def load(self, session: SessionId, held: Sequence[tuple[RunRef, int]]) -> list[Loaded | None]:
        """See `Store.load`."""
        with self._transition() as now:
            return progress.load(self.partition, session, held, now)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """See `Store.commit`."""
        with self._transition() as now:
            return progress.commit(self.partition, commits, now)

    async def hand_back(self, session: SessionId, ref: RunRef, token: int, delay_ms: int = 0) -> bool:
        """See `Store.hand_back`."""
        with self._transition() as now:
            return progress.hand_back(self.partition, session, ref, token, delay_ms, now)

    async def tick(self, limit: int = 200) -> Ticked:
        """See `Store.tick`."""
        with self._transition() as now:
            return ticking.tick(self.partition, limit, now)

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool | IngestOutcome:
        """See `Store.wait_for_work`. An entry that came while nobody slept wakes the next sleeper at once, unless it
        is gone by then."""
        woken = await self._sleep(timeout_ms)
        if then is None or not then.done() or then.cancelled():
            return woken
        return await self.ingest(then.result())

    async def _sleep(self, timeout_ms: int) -> bool:
        with self._lock:
            state = self.partition.state
            self._unwoken = min(self._unwoken, len(state.events) + len(state.ready))
            if self._unwoken:
                self._unwoken -= 1
                return True
            sleeper = _Sleeper()
            self._sleepers.append(sleeper)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await sleeper.woken
        except TimeoutError:
            return sleeper.spent
        finally:
            with self._lock:
                if not sleeper.spent:
                    sleeper.spent = True
                    self._sleepers.remove(sleeper)
        return True

    async def hints(self, session: SessionId) -> AsyncIterator[RunRef]:
        """See `Store.hints`."""
        listener = _Listener()
        with self._lock:
            self._listeners.setdefault(session, []).append(listener)
        try:
            while True:
                yield await listener.queue.get()
        finally:
            with self._lock:
                self._listeners[session].remove(listener)
                if not self._listeners[session]:
                    del self._listeners[session]

    # ---- operators
    async def cancel(self, ref: RunRef, by: str, reason: str) -> OperatorWord:
        """See `Store.cancel`."""
        with self._transition() as now:
            return operations.cancel(self.partition, ref, by, reason, now)

    async def resume(self, ref: RunRef, record: bytes, by: str) -> OperatorWord:
        """See `Store.resume`."""
        with self._transition() as now:
            return operations.resume(self.partition, ref, record, by, now)

    async def redrive(self, dead_id: str, by: str) -> OperatorWord:
        """See `Store.redrive`."""
        with self._transition() as now:
            return operations.redrive(self.partition, dead_id, by, now)

    async def drop(self, dead_id: str, by: str) -> OperatorWord:
        """See `Store.drop`."""
        with self._transition() as now:
            return operations.drop(self.partition, dead_id, by, now)

    async def drop_letters(
        self, reason_prefix: str, type: str | None, before_ms: int | None, limit: int, by: str
    ) -> int:
        """See `Store.drop_letters`."""
        with self._transition() as now:
            return operations.drop_letters(self.partition, reason_prefix, type, before_ms, limit, by, now)

    async def note(self, by: str, act: str, on: str, more: str = "") -> OperatorWord:
        """See `Store.note`."""
        with self._transition() as now:
            return operations.note(self.partition, OperatorAct(now, by, act, on, more))

    async def operator_log(self, limit: int = 100) -> list[OperatorAct]:
        """See `Store.operator_log`."""
        with self._lock:
            return [*islice(reversed(self.partition.state.acts), max(0, limit))]

    # ---- views
    async def run(self, ref: RunRef) -> RunView | None:
        """See `Store.run`."""
        with self._lock:
            return views.view_run(self.partition, ref)

    async def runs(self, query: RunQuery) -> RunPage:
        """See `Store.runs`."""
        with self._lock:
            return views.view_runs(self.partition, query)

    async def find_runs(self, run_id: str) -> list[RunRef]:
        """See `Store.find_runs`."""
        with self._lock:
            return views.find_runs(self.partition, run_id)

    async def history(self, ref: RunRef) -> list[bytes]:
        """See `Store.history`; empty when there is no such run."""
        with self._lock:
            run = self.partition.state.runs.get(ref)
            return [] if run is None else list(run.history)

    async def recorded(self, ref: RunRef) -> Recorded | None:
        """See `Store.recorded`."""
        with self._lock:
            return views.recorded(self.partition, ref)

    async def start_event(self, ref: RunRef) -> tuple[str, ...] | None:
        """See `Store.start_event`."""
        with self._lock:
            return views.start_event(self.partition, ref)

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """See `Store.dead_letters`."""
        with self._lock:
            return views.dead_letters(self.partition, limit, after)

    async def dead_letter(self, dead_id: str) -> DeadLetter | None:
        """See `Store.dead_letter`."""
        with self._lock:
            return views.dead_letter(self.partition, dead_id)

    async def depth(self) -> Depth:
        """See `Store.depth`."""
        with self._lock:
            return views.depth(self.partition)

    async def audit(self) -> Audit:
        """See `Store.audit`."""
        with self._lock:
            return audit(self.partition)

    async def aclose(self) -> None:
        """Nothing to close: other users of this object go on, and so does its state."""


class _Sleeper:
    """One `wait_for_work`: a future on the loop that waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.woken: asyncio.Future[None] = self._loop.create_future()
        self.spent = False

    def wake(self) -> bool:
        """Wake it from any thread; False when its loop is gone, then the next one must wake."""
        self.spent = True
        return _call(self._loop, self._set)

    def _set(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class _Listener:
    """One listener of hints, on its own loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[RunRef] = asyncio.Queue()

    def hint(self, ref: RunRef) -> None:
        """Pass a hint on from any thread; lost when its loop is gone or it does not keep up."""
        _call(self._loop, lambda: self._put(ref))

    def _put(self, ref: RunRef) -> None:
        if self.queue.qsize() < _HINTS_KEPT:
            self.queue.put_nowait(ref)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False  # the loop was closed while its user still slept here
    return True
