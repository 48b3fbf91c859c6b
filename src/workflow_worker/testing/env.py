"""`TestEnv`: an author's app, a worker and a clock in one object, for tests."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from workflow_worker.app.actions import Action
from workflow_worker.app.registry import App
from workflow_worker.client.client import Client
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.facts import Fact
from workflow_worker.model.ids import RunRef, run_ref
from workflow_worker.model.instants import from_ms, to_ms
from workflow_worker.model.record import EventReceived, decode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine import entries
from workflow_worker.store.transitions import RunQuery
from workflow_worker.testing.clock import VirtualClock
from workflow_worker.testing.doubles import NOTHING, Call, Doubles, Script, Spy, name_of, script_of
from workflow_worker.testing.elsewhere import ELSEWHERE, importable_name
from workflow_worker.testing.engine import Engine
from workflow_worker.testing.histories import read_histories, to_lines
from workflow_worker.testing.replaying import replay
from workflow_worker.testing.run import TestRun
from workflow_worker.worker import guards

_MORNING = datetime(2030, 1, 1, 9, tzinfo=UTC)


class TestEnv:
    """Everything a test of workflows needs, in process and without waiting.

    Nothing happens between two calls: each method lets the worker do all that can be done at the present virtual time.
    Actions that are not faked run as they are. Close it with `aclose`, or use it as ``async with``.

    Args:
        app: The author's app; several environments may share it.
        now: Where the clock begins; with a time zone.
        paranoid: After every commit of a run, execute its whole history again and compare; keep no run in memory
            between two events, so that each goes on from its history; at the end replay all in another process.
        strict: An action that is not faked is an error.
        max_retries: As MAX_RETRIES.
        seed: Of the worker's randomness, such as the jitter of retries.

    Raises:
        UsageError: `now` has no time zone.
    """

    __test__ = False  # pytest: no class of tests

    def __init__(
        self,
        app: App,
        *,
        now: datetime = _MORNING,
        paranoid: bool = False,
        strict: bool = False,
        max_retries: int = 3,
        seed: int = 0,
    ) -> None:
        self.app = app
        self.paranoid = paranoid
        self.doubles = Doubles(strict=strict)
        if now.tzinfo is None:
            raise UsageError(f"now={now!r} has no time zone: datetime(…, tzinfo=UTC)")
        self._start_ms = to_ms(now - from_ms(0))
        self._max_retries = max_retries
        self._seed = seed
        self._staged = app.with_actions(self.doubles.of)
        self._engine = self._make_engine()
        self._begun = False

    async def __aenter__(self) -> TestEnv:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.aclose()
        else:  # the test has failed already: no second error may hide the first
            await self._engine.end()

    async def aclose(self) -> None:
        """Close all runs in memory, and wait for attempts that are under way to end. See `close`."""
        try:
            self.close()
        finally:
            await self._engine.end()

    def close(self) -> None:
        """Close all runs in memory. With `paranoid` every history is executed once more, in a process with another
        hash seed (if the app belongs to a module).

        Raises:
            ReplayFailed: A history does not replay there.
        """
        try:
            name = importable_name(self.app) if self.paranoid else None
            for ref in self._engine.store.partition.state.runs if name is not None else ():
                ELSEWHERE.compare(self.app, str(name), TestRun(self.app, self._engine, ref).recorded)
        finally:
            self.discard()

    def discard(self) -> None:
        """Close all runs in memory and look at nothing any more: behind a test that has failed already."""
        self._engine.forget()

    # ------------------------------------------------------------------------------------------------------------ time

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return from_ms(self._engine.clock.now_ms())

    async def advance(self, span: timedelta | float) -> None:
        """Let time pass (a `timedelta`, or seconds), and all that happens meanwhile, timer by timer, in order."""
        await self._ready()
        await self._engine.advance_to(self._engine.clock.now_ms() + to_ms(span))

    async def settle(self) -> None:
        """Let the worker do all that can be done now. Other methods do so by themselves."""
        await self._ready()
        await self._engine.settle()

    # --------------------------------------------------------------------------------------------------------- sending

    async def publish(
        self,
        event: object,
        data: Any = None,
        *,
        subject: str | None = None,
        id: str | None = None,
        delay: float | timedelta = 0,
    ) -> TestRun:
        """Publish an event, as `Client.publish`, and let the worker take it in.

        Returns:
            The run that it started, else the first run that it reached (the others: `run`, `runs`). Without either (an
            early event, a dead letter) a `TestRun` that raises `NotFound` when it is asked for anything.
        """
        await self._ready()
        published = await self._engine.client.publish(event, data, subject=subject, id=id, delay=delay)
        return await self._reached(self._engine, published.id)

    async def start(self, workflow: object, *args: Any, id: str, subject: str | None = None, **kwargs: Any) -> TestRun:
        """Start a run under an id of your choice, with its event or its arguments, as `Client.start`."""
        await self._ready()
        handle = await self._engine.client.start(workflow, *args, id=id, subject=subject, **kwargs)
        await self._engine.settle()
        return TestRun(self.app, self._engine, handle.ref)

    @property
    def client(self) -> Client:
        """A client of the same store, for whatever else one does with one; call `settle` afterwards."""
        return self._engine.client

    def run(self, workflow: object, id: str) -> TestRun:
        """A run by its workflow and id."""
        name = workflow if isinstance(workflow, str) else getattr(workflow, "name", "")
        return TestRun(self.app, self._engine, run_ref(name, id))

    async def runs(self, workflow: object | None = None, status: RunStatus | None = None) -> list[TestRun]:
        """All runs, the newest first."""
        await self.settle()
        name = workflow if workflow is None or isinstance(workflow, str) else getattr(workflow, "name", "")
        page = await self._engine.store.runs(RunQuery(status=status, workflow=name, limit=1_000_000))
        return [TestRun(self.app, self._engine, RunRef(view.ref)) for view in page.items]

    async def until(
        self,
        run: TestRun,
        *,
        waiting_for: type | None = None,
        status: RunStatus | None = None,
        when: Callable[[TestRun], bool] | None = None,
        within: timedelta = timedelta(days=366),
    ) -> None:
        """Let time pass until a run waits for an event of this class, has this status, or `when` says so.

        Raises:
            AssertionError: It does not come to that `within` so long; the message says what it waits for instead.
            UsageError: Not exactly one condition was given.
        """
        conditions = [each for each in (waiting_for, status, when) if each is not None]
        if len(conditions) != 1:
            raise UsageError("until takes one of waiting_for=, status=, when=")

        def fulfilled() -> bool:
            if waiting_for is not None:
                return any(waiting_for in classes for classes in run.waiting_for)
            return when(run) if when is not None else run.status is status

        engine = run.engine
        end = engine.clock.now_ms() + to_ms(within)
        await engine.settle()
        while not fulfilled():
            due = await engine.next_due()
            stuck = run.status.ended or (run.status is RunStatus.SUSPENDED and when is None)
            if due is None or due > end or stuck:
                wanted = (
                    f"wait for {waiting_for.__qualname__}" if waiting_for else f"become {status}" if status else "do so"
                )
                raise AssertionError(f"the run does not {wanted}: {await run.explain()}")
            await engine.advance_to(due)

    # --------------------------------------------------------------------------------------------------------- doubles

    def fake(
        self,
        action: Action[..., Any] | str,
        *,
        returns: Any = NOTHING,
        raises: BaseException | type[BaseException] | Sequence[BaseException | type[BaseException]] | None = None,
        then_returns: Any = NOTHING,
        answer: Callable[..., Any] | None = None,
        hangs: bool = False,
    ) -> None:
        """Answer for an action from now on, instead of its function.

        Args:
            action: The action, or its name.
            returns: Its result.
            raises: One error for every attempt; or a list of errors, one an attempt, before `then_returns`.
            then_returns: The result behind the errors.
            answer: A function, sync or async, to call instead.
            hangs: The attempt never ends by itself: advance the clock to its time limit.

        Raises:
            UsageError: There is no such action, or the arguments contradict one another.
        """
        name = name_of(action)
        if self.app.find_action(name) is None:
            known = ", ".join(sorted(each.name for each in self.app.actions)) or "none"
            raise UsageError(f"app {self.app.name!r} has no action {name!r}; it has {known}")
        self.doubles.fake(name, script_of(returns, raises, then_returns, answer, hangs))

    def spy(self, *actions: Action[..., Any] | str) -> Spy:
        """Watch actions, faked or not; without any, all of them."""
        chosen = actions or tuple(each.name for each in self.app.actions)
        return Spy(self.doubles.log, [name_of(action) for action in chosen])

    @property
    def calls(self) -> list[Call]:
        """All attempts so far."""
        return list(self.doubles.log)

    @property
    def facts(self) -> list[Fact]:
        """What the worker reported, as the log of a real one would show it at LOG_LEVEL=debug."""
        return list(self._engine.facts)

    # -------------------------------------------------------------------------------------------------- being paranoid

    async def crash(self) -> None:
        """The worker dies now, with all that it has in memory and did not record; another takes over at once."""
        await self._ready()
        await self._engine.crash()

    async def crash_everywhere(
        self, start: object, then: Sequence[object] = (), *, id: str | None = None
    ) -> AsyncIterator[TestRun]:
        """Play a scenario again and again, with the worker killed after its first commit, its second, and so on to the
        last; at last with the worker killed after every single one. Yields the run of each play, for the same asserts.

        Args:
            start: The event that starts the run.
            then: What follows: events to publish, `timedelta` of time to let pass, or functions that get the run.
            id: The start event's id.
        """
        scripts = self.doubles.scripts()
        numbers = itertools.count(1)
        crashes = 1
        while crashes:
            wanted = next(numbers)
            async for run in self._one_play(scripts, lambda number, wanted=wanted: number == wanted, start, then, id):
                crashes = run.engine.crashes
                yield run
        # The last play had fewer commits than `wanted`: it went through without a crash.
        async for run in self._one_play(scripts, lambda number: True, start, then, id):
            yield run

    async def _one_play(
        self,
        scripts: dict[str, Script],
        crash_after: Callable[[int], bool],
        start: object,
        then: Sequence[object],
        id: str | None,
    ) -> AsyncIterator[TestRun]:
        engine = self._make_engine()
        engine.committed = lambda ref: None  # compared once, at the end: plays are many, and all begin alike
        self.doubles.restart()
        self.doubles.restore(scripts)
        engine.store.crash_after = crash_after
        # Until the next play all that the test does with the environment is done to this one.
        between, self._engine = (self._engine, self._begun), engine
        self._begun = True
        try:
            yield await self._play(engine, start, then, id)
            for ref in engine.store.partition.state.runs if self.paranoid else ():
                self._compare(engine, ref)
        finally:
            self._engine, self._begun = between
            await engine.end()

    async def _play(self, engine: Engine, start: object, then: Sequence[object], id: str | None) -> TestRun:
        await engine.begin()
        client = engine.client
        run = await self._reached(engine, (await client.publish(start, id=id)).id)
        for step in then:
            if isinstance(step, timedelta):
                await engine.advance_to(engine.clock.now_ms() + to_ms(step))
            elif callable(step):
                found = step(run)
                if inspect.isawaitable(found):
                    await found
                await engine.settle()
            else:
                await client.publish(step)
                await engine.settle()
        await engine.settle()
        return run

    async def replay(self, pattern: str, *, folder: Path | None = None) -> int:
        """Execute histories that were exported from live runs against the present code; how many.

        Args:
            pattern: Such as ``histories/*.jsonl``.
            folder: Where the pattern begins; the working folder by default.

        Raises:
            ReplayFailed: One does not fit: its run would be suspended after a deploy.
            UsageError: No file fits the pattern, or one is no history.
        """
        await self._ready()
        count = 0
        for _, run in read_histories(pattern, folder or Path.cwd()):
            with guards.watching_closely():
                replay(self.app, run)
            count += 1
        return count

    def export(self, run: TestRun) -> str:
        """A run's history, as the text of a history file."""
        return to_lines(run.recorded)

    # --------------------------------------------------------------------------------------------------------- private

    def _make_engine(self) -> Engine:
        engine = Engine(
            self._staged,
            VirtualClock(self._start_ms),
            self.doubles,
            max_retries=self._max_retries,
            seed=self._seed,
            cached_runs=0 if self.paranoid else 10_000,
        )
        if self.paranoid:
            engine.committed = lambda ref: self._compare(engine, ref)
        return engine

    async def _ready(self) -> None:
        if not self._begun:
            self._begun = True
            await self._engine.begin()

    def _compare(self, engine: Engine, ref: RunRef) -> None:
        replay(self.app, TestRun(self.app, engine, ref).recorded)

    async def _reached(self, engine: Engine, event_id: str) -> TestRun:
        """The run that an event started, else the first that has it in its history."""
        await engine.settle()
        if event_id in engine.started:
            return TestRun(self.app, engine, engine.started[event_id])
        for ref, run in engine.store.partition.state.runs.items():
            if _was_recorded(event_id, run.history) or any(
                entries.event_id_of(mail) == event_id for mail in run.mailbox
            ):
                return TestRun(self.app, engine, ref)
        return TestRun(self.app, engine, RunRef(f"nothing:{event_id}"))


def _was_recorded(event_id: str, history: Sequence[bytes]) -> bool:
    needle = msgspec.msgpack.encode(event_id)  # decode only what can be it
    found = [decode_record(raw) for raw in history if needle in raw]
    return any(isinstance(record, EventReceived) and record.event.id == event_id for record in found)
