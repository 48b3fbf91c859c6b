"""`Engine`: one worker without loops of its own: it works when it is told to, until there is nothing left to do.

It is put together from the worker's own parts (`Holdings`, `Performer`, the turns of committer and errands) on the
memory store. What a real worker does now and then by the clock, this one does in every turn, so a test never waits.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any

from workflow_worker.app.registry import App
from workflow_worker.client.client import Client
from workflow_worker.client.declaring import declare_schedules
from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.facts import Fact
from workflow_worker.model.ids import NO_COMMIT, RunRef, SessionId
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.runtime import ordering
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import Commit, CommitOutcome, Ingest, Ingested, Limits, Renewed
from workflow_worker.testing.clock import VirtualClock
from workflow_worker.testing.doubles import Doubles
from workflow_worker.worker import guards
from workflow_worker.worker.actions import Performer
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.committer import Committer
from workflow_worker.worker.errands import Errands
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.part import Patience
from workflow_worker.worker.planning import plan_intake

FOR_EVER_MS = 100 * 366 * 86_400_000
"""Leases and retention outlive every test: their ends are the store's own tests' business."""

_LIMITS = WorkerLimits(
    batch_size=200, concurrency_limit=100_000, lease_ttl_ms=FOR_EVER_MS, start_within_ms=FOR_EVER_MS, linger_ms=-1
)
_PATIENCE_S = 10.0
_VAIN_WAITS = 5_000


class Crash(BaseException):
    """The worker dies here. Not an `Exception`: nothing on the way may handle it."""


class CrashingStore(MemoryStore):
    """A memory store whose commits are counted, and which can lose the worker right after one of them is written."""

    def __init__(self, limits: Limits, now_ms: Callable[[], int]) -> None:
        super().__init__(limits, now_ms)
        self.commits = 0
        self.crash_after: Callable[[int], bool] = lambda number: False

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """See `Store.commit`; the answer is lost with the worker that waits for it.

        Raises:
            Crash: As `crash_after` wants it.
        """
        outcomes = await super().commit(commits)
        before, self.commits = self.commits, self.commits + len(commits)
        if any(self.crash_after(number) for number in range(before + 1, self.commits + 1)):
            raise Crash
        return outcomes


@dataclass
class Engine:
    """See the module. `app` is the author's with doubles for its actions; `committed` is told what was written."""

    app: App
    clock: VirtualClock
    doubles: Doubles
    max_retries: int = 3
    seed: int = 0
    cached_runs: int = 10_000
    committed: Callable[[RunRef], None] = lambda ref: None
    facts: list[Fact] = field(default_factory=list[Fact])

    def __post_init__(self) -> None:
        limits = Limits(lease_ttl_ms=FOR_EVER_MS, retention_ms=FOR_EVER_MS, retention_runs=10**9)
        self.store = CrashingStore(limits, self.clock.now_ms)
        self.signs = VitalSigns()
        self._random = random.Random(self.seed)
        self._ids = 0
        self._environment = Environment(
            monotonic=self.clock.monotonic,
            now_ms=self.clock.now_ms,
            sleep=_no_sleep,
            random=self._random,
            new_id=self._new_id,
            call_later=self.clock.call_later,
        )
        self.client = Client(self.store, replace(self._environment, sleep=self._client_waits))
        """A client of this engine's store. While it waits for something, the worker works and time passes."""
        self.started: dict[str, RunRef] = {}
        """The run that an event started, by the event's id; of several the newest."""
        self._turns = asyncio.Lock()
        self._waited_in_vain = 0
        self._holdings: Holdings | None = None
        self._mark = ""
        self._number = 0
        self._cursor = "0"
        self.crashes = 0

    # ------------------------------------------------------------------------------------------------ a worker's life

    async def begin(self) -> None:
        """A worker starts."""
        ordering.install()
        guards.install()
        registration = self.app.registration()
        self._mark = registration.mark
        await self.store.register(registration)
        await declare_schedules(self.store, self.app)
        await self._open()

    async def crash(self) -> None:
        """The worker dies with all it has in memory, and another takes its runs over at once."""
        async with self._turns:
            await self._crash()
            await self._settle()

    async def _crash(self) -> None:
        self.crashes += 1
        session = self._held.session
        await self._drop()
        while not await self.store.close(session, died=True):
            pass
        await self._open()

    async def end(self) -> None:
        """Close every run in memory and wait for its attempts to end; what the store has stays."""
        if self._holdings is not None:
            await self._drop()

    def forget(self) -> None:
        """Close every run in memory."""
        if self._holdings is not None:
            self._holdings.abandon_all()
            self._holdings.cache.clear()

    async def _open(self) -> None:
        limits = replace(_LIMITS, max_retries=self.max_retries, cached_runs=self.cached_runs, detail=True)
        clock = ServerClock(self._environment)
        holdings = Holdings(
            worker="test",
            app=self.app,
            limits=limits,
            release="",
            environment=self._environment,
            clock=clock,
            signs=self.signs,
            emit=self.facts.append,
        )
        holdings.performer = Performer(
            self.app, self._environment, holdings, _Inline(), None, 1, self.max_retries, clock.now_ms, self.store.run
        )
        holdings.session = SessionId(f"test.{self._new_id()}")
        self._number, self._cursor = 0, "0"
        await self.store.open(holdings.session)
        patience = Patience("test", self._environment, self.signs, self.facts.append)
        self._committer = Committer(self.store, holdings, patience, clock, self._environment)
        self._errands = Errands(self.store, holdings, patience, clock)
        self._holdings = holdings

    async def _drop(self) -> None:
        holdings = self._held
        performer = holdings.performer
        assert performer is not None
        self.forget()
        running = performer.running
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1)
        self.doubles.hanging.clear()

    @property
    def _held(self) -> Holdings:
        if self._holdings is None:
            raise UsageError("this TestEnv has not begun: await one of its methods first")
        return self._holdings

    # --------------------------------------------------------------------------------------------------------- working

    async def settle(self) -> None:
        """Work until nothing can happen before the clock is moved or something is sent.

        Raises:
            TimeoutError: An attempt really takes long; fake it, or let it hang on purpose.
        """
        async with self._turns:
            await self._settle()

    async def _settle(self) -> None:
        with guards.watching_closely():
            while True:
                try:
                    while await self._turn():
                        pass
                    if not await self._attempt_ends():
                        return
                except Crash:
                    await self._crash()

    async def advance_to(self, instant_ms: int) -> None:
        """Move the clock, from one thing that is due to the next, working in between."""
        async with self._turns:
            await self._settle()
            while True:
                due = await self._next_due()
                if due is None or due > instant_ms:
                    break
                self.clock.move_to(due)
                self.clock.fire()
                await self._settle()
            self.clock.move_to(instant_ms)
            await self._settle()

    async def next_due(self) -> int | None:
        """When the next thing happens by itself."""
        async with self._turns:
            await self._settle()
            return await self._next_due()

    async def _client_waits(self, seconds: float) -> None:
        performer = self._held.performer
        if performer is not None and asyncio.current_task() in performer.running:
            await asyncio.sleep(0)  # an action's client: the worker is at work around it, and waits for the action
            return
        if await self.next_due() is None:
            self._waited_in_vain += 1
            if self._waited_in_vain > _VAIN_WAITS:
                self._waited_in_vain = 0
                raise AssertionError("a client of this TestEnv waits for ever: nothing is due any more")
        else:
            self._waited_in_vain = 0
        await self.advance_to(self.clock.now_ms() + max(1, math.ceil(seconds * 1000)))

    async def _next_due(self) -> int | None:
        ticked = await self.store.tick()
        found = [due for due in (ticked.next_due, self.clock.next_due) if due is not None]
        # What is due and yet still there (an early event without a taker in this instant) must not stop the clock.
        return max(min(found), self.clock.now_ms() + 1) if found else None

    async def _turn(self) -> bool:
        """One round of all that a worker does; whether anything moved."""
        holdings = self._held
        moved = self.clock.fire()
        moved = (await self.store.tick()).moved > 0 or moved
        moved = await self._ingest() or moved
        moved = await self._errands.turn() or moved
        await asyncio.sleep(0)
        if self._mail_came(holdings):
            renewed = await self.store.renew(holdings.session, holdings.pairs())
            if isinstance(renewed, Renewed):
                holdings.reconcile(renewed.lost, renewed.mail)
        for ref in await self._committer.turn():
            self.committed(ref)
            moved = True
        return moved

    def _mail_came(self, holdings: Holdings) -> bool:
        runs = self.store.partition.state.runs
        return any(ref not in runs or runs[ref].mailbox for ref, _ in holdings.pairs())

    async def _ingest(self) -> bool:
        holdings, state = self._held, self.store.partition.state
        if not state.events and not state.ready:
            self._cursor = "0"
            return False  # a test has thousands of such turns
        if not plan_intake(holdings.load(), holdings.limits).room:
            return False
        self._number += 1
        request = Ingest(holdings.session, self._number, 200, self._mark, self._cursor)
        outcome = await self.store.ingest(request)
        if not isinstance(outcome, Ingested):
            raise AssertionError(f"the store refused an ingest: {outcome}")
        self._cursor = outcome.cursor
        for leased in outcome.runs:
            if leased.start is not None and leased.cid == NO_COMMIT:
                self.started[leased.start.event.id] = leased.ref
        holdings.accept(outcome.runs)
        return bool(outcome.runs or outcome.read) or outcome.cursor != "0"

    async def _attempt_ends(self) -> bool:
        """Wait for an attempt that really runs; False when there is none that anybody should wait for."""
        performer = self._held.performer
        assert performer is not None
        running = [task for task in performer.running if task not in self.doubles.hanging]
        if not running:
            return False
        for _ in range(3):  # most attempts end within a turn or two of the loop
            await asyncio.sleep(0)
            if any(task.done() for task in running):
                return True
        if any(task in self.doubles.hanging for task in running):
            return True  # it has only now begun to hang: look again
        done, _ = await asyncio.wait(running, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError(
                f"{len(running)} attempts have been running for {_PATIENCE_S:g} s of real time: fake their actions, or"
                " let them hang on purpose (env.fake(…, hangs=True)) and advance the clock to their time limit"
            )
        return True

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:012x}"


async def _no_sleep(seconds: float) -> None:
    """Nothing of the worker's own sleeps here."""
    del seconds
    await asyncio.sleep(0)


class _Inline(Executor):
    """Sync actions run where they are called."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - what a thread pool does too
            future.set_exception(error)
        return future
