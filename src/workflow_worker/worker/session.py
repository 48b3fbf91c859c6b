"""`SessionKeeper`: renews the worker's session on a thread, loop and connection of its own.

A busy event loop must not cost the lease, so renewal does not depend on it; but a loop that stands still for
STALL_LIMIT_MS is not kept alive for ever: then renewal stops, others take the runs over, and the supervisor replaces
the worker. A worker that could not renew in time stops by itself, before the expiry, by its monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Renewed, SessionLost
from workflow_worker.worker.limits import WorkerLimits

Pairs = list[tuple[RunRef, int]]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """How the keeper speaks to the worker; each is called on the worker's loop."""

    renewed: Callable[[Renewed], None]
    lost: Callable[[SessionId, str], None]
    failed: Callable[[Exception], None]
    ended: Callable[[Exception], None]
    """Nobody renews any more: the worker must end."""


class SessionKeeper:
    """Renewal as a coroutine: a thread runs it in production, a simulation runs it as one more task."""

    def __init__(
        self,
        *,
        open_store: Callable[[], Awaitable[Store]],
        pairs: Callable[[], Pairs],
        limits: WorkerLimits,
        environment: Environment,
        signs: VitalSigns,
        callbacks: Callbacks,
        on_worker_loop: Callable[..., object],
    ) -> None:
        self._open_store = open_store
        self._pairs = pairs
        self._limits = limits
        self._environment = environment
        self._signs = signs
        self._callbacks = callbacks
        self._on_worker_loop = on_worker_loop
        self._session: SessionId | None = None
        self._renewed_at = 0.0
        self._unknown: set[tuple[RunRef, int]] = set()
        self._stopped = False

    def watch(self, session: SessionId, opened_at: float) -> None:
        """Keep this session from now on; `opened_at` is when its opening was *sent* (monotonic seconds)."""
        self._renewed_at = opened_at
        self._unknown = set()
        self._session = session

    def forget(self) -> None:
        """Keep no session."""
        self._session = None

    def stop(self) -> None:
        """End `run` at its next turn."""
        self._stopped = True
        self._session = None

    async def run(self) -> None:
        """Renew every fifth of the lease until stopped; an error that nobody foresaw ends the worker."""
        try:
            await self._run()
        except Exception as error:  # noqa: BLE001 - on a thread of its own nobody else would hear of it
            self._session = None
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed: it has ended already
                self._on_worker_loop(self._callbacks.ended, error)

    async def _run(self) -> None:
        store = await self._open_store()
        interval_s = self._limits.lease_ttl_ms / 5_000
        try:
            while not self._stopped:
                session = self._session
                if session is not None:
                    await self._keep(store, session)
                await self._environment.sleep(self._pause_s(interval_s))
        finally:
            await store.aclose()

    def _pause_s(self, interval_s: float) -> float:
        """Until the next renewal, or until it is known that there was none in time."""
        if self._session is None:
            return min(interval_s, 0.02)
        return min(interval_s, max(0.001, self._left_s()))

    def _left_s(self) -> float:
        """For how long the session may be taken for ours without another renewal."""
        ttl_s = self._limits.lease_ttl_ms / 1000
        return self._renewed_at + ttl_s * 2 / 3 - ttl_s / 20 - self._environment.monotonic()

    async def _keep(self, store: Store, session: SessionId) -> None:
        now = self._environment.monotonic()
        left_s = self._left_s()
        if left_s <= 0:
            self._lose(session, "could not renew in time")
            return
        if int(now * 1000) - self._signs.loop_at > self._limits.stall_limit_ms:
            return  # the loop stands still: the lease must not outlive the worker
        try:
            if self._environment.fault is not None:
                self._environment.fault("renew.before")
            # A store that hangs may answer later than the lease lasts; the attempts must not go on until then.
            async with asyncio.timeout(left_s):
                answer = await store.renew(session, self._pairs())
        except (StoreUnavailable, TimeoutError):
            self._signs.store_errors += 1
            return
        except Exception as error:  # noqa: BLE001 - a keeper that ends would lose every lease from then on
            self._signs.store_errors += 1
            self._on_worker_loop(self._callbacks.failed, error)
            return
        if session != self._session:
            return
        if isinstance(answer, SessionLost):
            self._lose(session, "reaped by another worker")
            return
        self._renewed_at = max(self._renewed_at, now)
        self._signs.renewed_at = int(now * 1000)
        await self._give_up_unknown(store, session, answer)
        self._on_worker_loop(self._callbacks.renewed, answer)

    async def _give_up_unknown(self, store: Store, session: SessionId, answer: Renewed) -> None:
        """Hand back what the session holds and the worker does not know, twice in a row (a lost ingest reply)."""
        held = set(self._pairs())
        unknown = {pair for pair in answer.unknown if pair not in held}
        for ref, token in unknown & self._unknown:
            try:
                await store.hand_back(session, ref, token)
            except StoreUnavailable:
                self._signs.store_errors += 1
                break
        self._unknown = unknown

    def _lose(self, session: SessionId, reason: str) -> None:
        if self._session == session:
            self._session = None
        self._on_worker_loop(self._callbacks.lost, session, reason)


class KeeperTask:
    """Runs a `SessionKeeper` on the worker's own loop: for simulations and for stores that know one loop only."""

    def __init__(self, keeper: SessionKeeper) -> None:
        self._keeper = keeper
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._task = asyncio.create_task(self._keeper.run())

    def stop(self, within_s: float) -> None:
        """End the task; nothing has to be waited for."""
        self._keeper.stop()
        if self._task is not None:
            self._task.cancel()


class KeeperThread:
    """Runs a `SessionKeeper` on a thread with an event loop of its own."""

    def __init__(self, keeper: SessionKeeper) -> None:
        self._keeper = keeper
        self._thread = threading.Thread(target=self._main, name="session-keeper", daemon=True)
        self._stop: Callable[[], object] = keeper.stop

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self, within_s: float) -> None:
        """End the thread; it is a daemon, so one that hangs in a dead connection does not hold the process."""
        self._keeper.stop()
        self._stop()
        self._thread.join(within_s)

    def _main(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._run())

    async def _run(self) -> None:
        task = asyncio.ensure_future(self._keeper.run())
        loop = asyncio.get_running_loop()

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the keeper has ended already
                loop.call_soon_threadsafe(task.cancel)

        self._stop = stop  # ends the sleep between two renewals, which may be seconds long
        await task
