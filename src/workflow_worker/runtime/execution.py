"""`Execution`: one run in memory. ``feed(records)`` returns commands; the whole of a workflow's decisions is here.

History and new records go the same way: one record is delivered, the code runs to rest, then the next. What the code
asked for meanwhile is looked at only at the end of the feed, so what was settled within it cancels out.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, KeysView, Sequence
from contextvars import Context
from datetime import timedelta
from typing import Any

import msgspec

from workflow_worker.model.command import (
    Cancelled,
    Command,
    Complete,
    EmitEvent,
    Fail,
    Restart,
    StartTimer,
    Suspend,
)
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import NonDeterminism, UsageError
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.instants import from_ms
from workflow_worker.model.internal import PATCH, is_internal
from workflow_worker.model.record import (
    ActionCompleted,
    ActionParked,
    ActionRaised,
    AttemptFailed,
    CancelRequested,
    EventReceived,
    Record,
    RunResumed,
    RunStarted,
    RunSuspended,
    TimerFired,
)
from workflow_worker.runtime import ordering, waiting
from workflow_worker.runtime.arrivals import Arrivals, DeclaredEvents
from workflow_worker.runtime.children import Startable
from workflow_worker.runtime.closing import Graveyard, close_loop
from workflow_worker.runtime.context import Chance, RunInfo
from workflow_worker.runtime.correspondence import Correspondence
from workflow_worker.runtime.ending import Ending
from workflow_worker.runtime.futures import Call
from workflow_worker.runtime.guarded import Guard, guarded_call
from workflow_worker.runtime.ledger import Ledger
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.matching import check, settle
from workflow_worker.runtime.nesting import enter, leave, running
from workflow_worker.runtime.outcome import deadlock, mismatch, outcome_of
from workflow_worker.runtime.places import here, waiting_at
from workflow_worker.runtime.published import Published
from workflow_worker.runtime.updates import Updates

__all__ = ["DeclaredEvents", "Execution", "current_execution"]


class Execution:
    """One run of a workflow: fed with records, it returns what the run asks for.

    Not thread-safe; one thread at a time feeds or closes it. It must be closed when it is dropped unfinished.
    """

    # Most runs change none of these, and a run costs microseconds: they stand here once for all. What every feed looks
    # at does not, because a look at the class costs seven times as much as one at the object.
    workflow: Startable[Any] | None = None
    """The workflow that it is a run of; told by the code that starts it."""
    _chance: Chance | None = None
    _uncounted = 0
    _python = ""
    _limit_told = False
    _ending: Ending | None = None
    _ended = False
    _outcome: Sequence[Command] = ()
    _deadlock_told = False

    def __init__(
        self,
        *,
        ref: RunRef,
        subject: str | None,
        started_at: int,
        seed: str,
        main: Callable[[], Coroutine[Any, Any, Any]],
        events: DeclaredEvents,
        encode: Callable[[Any], bytes],
        graveyard: Graveyard | None = None,
    ) -> None:
        """Prepare a run; no code of the author runs before the first `feed`.

        Args:
            ref: The run's full name.
            subject: What the run is about; events about it reach the run unasked.
            started_at: Milliseconds since 1970; the run's time before its first record.
            seed: Where all randomness of the run comes from; must be the same in every replay.
            main: Calls the workflow's function with its decoded start event.
            events: The registry of declared events.
            encode: Encodes a result, or the published state, as JSON.
            graveyard: Receives coroutines that refuse to end, see `close`.
        """
        self.ref = ref
        self.subject = subject
        self.started_at = started_at
        self.records = 0
        """How many records were fed so far; another thread may read it to see whether a replay makes progress."""
        self.finished = False
        """Whether a final command (complete, fail, cancelled, restart, suspend) was given; only `close` is useful then.
        A deadlocked run asks to be suspended too, but is not finished: a cancel still helps it."""
        self._main = main
        self._encode = encode
        self._graveyard = Graveyard() if graveyard is None else graveyard
        self._ledger = Ledger()
        self._loop = Loop(self._ledger, started_at, self, zlib.crc32(seed.encode()) % 2**18 << 12)
        self.events = events
        self._seed = seed
        self._task: asyncio.Task[Any] | None = None
        self._arrivals: Arrivals | None = None
        self._letters: Correspondence | None = None
        self._published: Published | None = None
        self._history: Sequence[Record] = ()
        self._time_limit = 0

    # the worker's side

    def feed(self, records: Sequence[Record]) -> list[Command]:
        """Deliver records in order, run the code to rest after each, and return what is still asked for after all.

        The first call starts the workflow, also with no records. Errors of the code never leave: they become `Fail`,
        `Cancelled` or `Suspend`.

        Raises:
            UsageError: The execution was closed, or `ordering.install` was not called.
            KeyboardInterrupt: It struck during the feed; the execution is unusable then.
        """
        loop = self._loop
        if loop.dead:
            raise UsageError(f"run {self.ref} was closed in memory; make a new Execution and feed its history")
        outer = enter(loop, loop.finalize)
        try:
            if self._task is None:
                if records:
                    self._history = _history_of(records)
                self._start()
            if records:
                self._deliver_all(records)
            if self._history and self._letters is not None and type(records[-1]) not in _TURNS:
                self._letters.outbox.next_record(replayed=True)
        except NonDeterminism as error:
            self._suspend(mismatch(error, self.records, self._python, self.stack()))
        except KeyboardInterrupt:
            self.finished = True
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit or a watchdog's interrupt out of the author's code
            self._suspend(describe(error, ErrorKind.PERMANENT))
        finally:
            leave(outer)
            if self._history:
                self._history = ()
        return self._commands()

    def outstanding(self) -> list[Command]:
        """All that the run waits for, told before or not: what a replay of its whole history would return.

        For a worker that takes up a cached execution again after it had let go of the run.
        """
        if self.finished:
            return []
        limit = [StartTimer(0, self._time_limit)] if self._time_limit else []
        waits = [] if self._arrivals is None else self._arrivals.outstanding()
        return [*limit, *self._ledger.outstanding(), *waits]

    def leave_behind(self) -> list[EmitEvent]:
        """What a run sends to others that is ended from outside, without its code: children end, locks are free."""
        return [] if self._letters is None else self._letters.leave()

    def close(self) -> None:
        """Destroy the run in memory, without effect outside it; may be repeated. What refuses to end is buried."""
        loop = self._loop
        if loop.dead:
            return
        close_loop(loop, self._graveyard)
        if self._arrivals is not None:
            self._arrivals.silence()
        if self._letters is not None or self._published is not None:
            self._letters = self._published = None
        task, self._task = self._task, None
        if task is not None and task.done() and not task.cancelled():
            error = task.exception()
            if error is not None:
                error.__traceback__ = None

    @property
    def pending_numbers(self) -> KeysView[int]:
        """Numbers of the actions and timers that the run waits for."""
        return self._ledger.pending.keys()

    @property
    def awaited_events(self) -> tuple[tuple[type, ...], ...]:
        """The classes of each ``wf.wait_for`` that the code is at, oldest first."""
        return () if self._arrivals is None else self._arrivals.awaited_classes

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Entries of the mail that no ``wait_for`` took, in order."""
        return () if self._arrivals is None else self._arrivals.unmatched

    @property
    def unmatched_mail(self) -> tuple[tuple[str, Event], ...]:
        """The same with the events themselves."""
        return () if self._arrivals is None else self._arrivals.kept

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong though the run goes on: errors that nobody awaited, at most twenty."""
        found = self._loop.complaints
        return tuple(found) if found else ()

    def stack(self) -> tuple[str, ...]:
        """Where each task waits: its name and the author's lines, outermost first; for reports."""
        found: list[str] = []
        for task in self._loop.live_tasks():
            lines = waiting_at(task.get_coro())
            found.append(f"{task.path}: {' > '.join(lines) if lines else 'not started'}")
        return tuple(found)

    # the code's side

    def call(
        self,
        name: str,
        arguments: bytes,
        decode: Callable[[bytes], Any],
        options: object | None,
        guarded: Guard | None = None,
    ) -> Call[Any]:
        """Call an action from the run's code: numbered now, awaited later.

        Args:
            name: The action's name.
            arguments: Its encoded arguments; their checksum is part of what a replay compares.
            decode: Reads a recorded result.
            options: What the call changes of the action's policy; handed on as it is.
            guarded: Make a `GuardedCall`, whose end is recorded even when it is given up; ``wait``: and awaited.

        Raises:
            Evicted: The run is being destroyed in memory.
        """
        loop = self._loop
        call: Call[Any] = Call(loop=loop) if guarded is None else guarded_call(loop, guarded == "wait")
        call.ledger = ledger = self._ledger
        call.name = name
        call.arguments = arguments
        call.checksum = zlib.crc32(arguments)
        call.decode = decode
        call.options = options
        call.attempts = call.due = 0
        if loop.dead:
            call.number = 0
            call.place = None
            loop.refuse()
            return call
        call.place = here()
        ledger.add(call)
        return call

    def wait_for(
        self, classes: Sequence[type], subject: str | None, timeout: float | timedelta | None, default: Any
    ) -> Coroutine[Any, Any, Any]:
        """Wait for the oldest event of these classes that nobody took yet; see `wf.wait_for`."""
        return waiting.wait_for(self._loop, self.arrivals, classes, subject, timeout, default)

    def publish_state(self, fields: dict[str, Any]) -> None:
        """Merge fields into the run's published state."""
        if not self._loop.dead:
            self.published.merge(fields)

    def limit_time(self, limit_ms: int) -> None:
        """Cancel the code so long after the run's start; it fails then. Not numbered: a limit may come and go."""
        self._time_limit = self.started_at + limit_ms

    def shelter(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work that no cancel stops: the run does not end before it is done."""
        task = self._loop.create_task(work, name=name)
        self.ending.shelter(task)
        return task

    @property
    def ending(self) -> Ending:
        """Decides how the run ends."""
        if self._ending is None:
            self._ending = Ending(self._loop, self._encode)
        return self._ending

    @property
    def letters(self) -> Correspondence:
        """What the run's code sends to other runs.

        Raises:
            Evicted: The run is being destroyed in memory.
        """
        if self._loop.dead:
            self._loop.refuse()
        if self._letters is None:
            self._letters = Correspondence(self._loop, self.ref, self._seed, self.events)
        return self._letters

    @property
    def arrivals(self) -> Arrivals:
        """The events that came for the run, and who waits for one."""
        if self._arrivals is None:
            self._arrivals = Arrivals(self.subject, self.events)
        return self._arrivals

    @property
    def published(self) -> Published:
        """What the run shows to the world."""
        if self._published is None:
            self._published = Published(
                self._encode, lambda: Updates(self._loop, self.arrivals, self.events, self._encode)
            )
        return self._published

    def patched(self, patch: str) -> bool:
        """Whether the code takes its changed way; see `wf.patched`."""
        return self.published.patches.ask(patch, self._history)

    @property
    def now_ms(self) -> int:
        """The run's time: that of the last record, in milliseconds since 1970."""
        return self._loop.now_ms

    @property
    def chance(self) -> Chance:
        """The run's randomness."""
        if self._chance is None:
            self._chance = Chance(self._seed)
        return self._chance

    def info(self) -> RunInfo:
        """What the code may know of its run."""
        workflow, run_id = split_run_ref(self.ref)
        records = self.records - self._uncounted
        return RunInfo(self.ref, workflow, run_id, self.subject, from_ms(self.started_at), records)

    # private

    def _start(self) -> None:
        if not ordering.is_installed():
            raise UsageError("call workflow_worker.runtime.ordering.install() once before the first run")
        # An empty context: workflow code must not see the variables of whichever worker task resumes it.
        context = Context()
        coroutine = context.run(self._main)
        self._task = self._loop.create_task(coroutine, name="main", context=context)
        self._run()

    def _deliver_all(self, records: Sequence[Record]) -> None:
        loop, pending = self._loop, self._ledger.pending
        for record in records:
            self.records += 1
            if record.at > loop.now_ms:
                loop.now_ms = record.at
            letters = self._letters
            if letters is not None and not letters.outbox.empty and type(record) not in _TURNS:
                letters.outbox.next_record(bool(self._history))
            if type(record) is ActionCompleted and not self.finished:
                # by far the most frequent record; what does not fit goes the long way, which says why
                step: Any = pending.get(record.number)
                if type(step) is Call and step.checksum == record.checksum and step.name == record.name:
                    del pending[record.number]
                    step.complete(record.result)
                else:
                    self._deliver(record)
            elif type(record) is EventReceived:
                self._receive(record)
                self._deadlock_told = False
            elif self.finished:
                # Of steps that the code had made; else the function ended too early.
                if self._ended:
                    check(record, self._ledger)
            else:
                self._deliver(record)
            if not self.finished:
                self._run()

    def _receive(self, record: EventReceived) -> None:
        event = record.event
        if is_internal(event.type):
            if event.type == PATCH:
                self._uncounted += 1
            elif not self.finished or self._ended:
                self.letters.deliver(event)
        elif self.finished or self._handlers is None or not self._handlers.take(event):
            self.arrivals.deliver(record.entry, event)

    @property
    def _handlers(self) -> Updates | None:
        return None if self._published is None else self._published.handles

    def _deliver(self, record: Record) -> None:
        match record:
            case TimerFired(number=0):
                assert self._task is not None
                self.ending.timed_out, self._time_limit = True, 0
                self._task.cancel()
            case ActionCompleted() | ActionRaised() | AttemptFailed() | ActionParked() | TimerFired():
                settle(record, self._loop)
            case CancelRequested():
                self.ending.cancel_requested = True
                self._deadlock_told = False
                assert self._task is not None
                self._task.cancel()
            case RunResumed():
                self._uncounted += 1
                self._ledger.resume()
                self._deadlock_told = False
            case RunStarted():
                self._python = record.python
                self._uncounted += 1
            case _:
                # RunSuspended sets the time; end records are the trace of commands that were obeyed.
                self._uncounted += 1

    def _run(self) -> None:
        self._loop.drain()
        task = self._task
        if task is not None and task.done() and not self.finished:
            self._conclude(task)

    def _conclude(self, task: asyncio.Task[Any]) -> None:
        """The workflow function is over; the run is, when what it left behind is."""
        if self._ending is None and not self._loop.has_tasks:
            outcome = outcome_of(task, self._encode)  # of nearly all runs; the rest is only for the others
        else:
            outcome = self.ending.decide(task)
        if isinstance(outcome, Suspend):
            self._suspend(outcome.failure)
        elif outcome is not None:
            self.finished = self._ended = True
            emits = self.leave_behind() if self._letters is not None else ()
            self._outcome = (*self._ledger.stops(), *emits, outcome)

    def _suspend(self, failure: Failure) -> None:
        self.finished = True
        if self._letters is not None:
            self._letters.outbox.withhold()
        self._outcome = (Suspend(failure),)

    def _commands(self) -> list[Command]:
        if self.finished:
            return self._last_commands()
        ledger = self._ledger
        found: list[Command] = []
        if self._time_limit and not self._limit_told:
            self._limit_told = True
            found.append(StartTimer(0, self._time_limit))
        found += ledger.commands()
        if self._arrivals is not None:
            found += self._arrivals.commands()
        if self._letters is not None:
            found += self._letters.outbox.commands()
        if self._published is not None:
            found += self._published.commands()
        if not ledger.pending and not self._deadlock_told and not self._can_be_reached():
            self._deadlock_told = True
            found.append(deadlock(self.stack()))
        return found

    def _can_be_reached(self) -> bool:
        """Whether an event can move code that waits for no step."""
        if self._arrivals is not None and self._arrivals.awaited:
            return True
        if self._handlers is not None and self._handlers.expected:
            return True
        return self._letters is not None and self._letters.locks.keeping

    def _last_commands(self) -> list[Command]:
        found, self._outcome = list(self._outcome), ()
        if self._arrivals is None and self._letters is None and self._published is None:
            return found
        before: list[Command] = [] if self._published is None else [*self._published.commands()]
        if self._letters is not None:
            before += self._letters.leave() if self._ended else self._letters.outbox.commands()
        if not found:
            return before
        last = found.pop()
        if isinstance(last, Complete | Fail | Cancelled) and self.unmatched:
            last = msgspec.structs.replace(last, unmatched=self.unmatched)
        elif isinstance(last, Restart):
            before += self.arrivals.commands()
        return [*found, *before, last]


def _history_of(records: Sequence[Record]) -> Sequence[Record]:
    """The records if they are a history that code has gone through: its first commit has said so."""
    return records if any(type(record) is RunStarted for record in records) else ()


_TURNS = (RunSuspended, RunResumed)
"""Records that no code has written or seen: after them a run may go on with mended code."""


def current_execution() -> Execution | None:
    """The execution whose code is running in this thread; None outside every run."""
    loop: Any = running()
    if type(loop) is not Loop:
        return None
    execution: Any = loop.owner
    return execution
