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

from workflow_worker.model.command import Cancelled, Command, Complete, Fail, SetState, Suspend
from workflow_worker.model.exceptions import NonDeterminism, UsageError
from workflow_worker.model.failure import ErrorKind, Failure, describe, rebuild
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.instants import from_ms
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
    TimerFired,
)
from workflow_worker.runtime import ordering, waiting
from workflow_worker.runtime.arrivals import Arrivals, DeclaredEvents
from workflow_worker.runtime.closing import Graveyard, close_loop
from workflow_worker.runtime.context import Chance, RunInfo
from workflow_worker.runtime.futures import Call
from workflow_worker.runtime.ledger import Ledger
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.matching import ActionRecord, call_at, timer_at
from workflow_worker.runtime.nesting import enter, leave, running
from workflow_worker.runtime.outcome import deadlock, mismatch, outcome_of
from workflow_worker.runtime.places import here, waiting_at

__all__ = ["DeclaredEvents", "Execution", "current_execution"]


class Execution:
    """One run of a workflow: fed with records, it returns what the run asks for.

    Not thread-safe; one thread at a time feeds or closes it. It must be closed when it is dropped unfinished.
    """

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
        self.finished = False
        """Whether a final command (complete, fail, cancelled, suspend) was given; only `close` is useful then. A
        deadlocked run asks to be suspended too, but is not finished: a cancel still helps it."""
        self.records = 0
        """How many records were fed so far; another thread may read it to see whether a replay makes progress."""
        self._main = main
        self._encode = encode
        self._graveyard = Graveyard() if graveyard is None else graveyard
        self._ledger = Ledger()
        self._loop = Loop(self._ledger, started_at, self, zlib.crc32(seed.encode()) % 2**18 << 12)
        self._arrivals = Arrivals(subject, events)
        self._chance = Chance(seed)
        self._task: asyncio.Task[Any] | None = None
        self._python = ""
        self._cancel_requested = False
        self._ended = False
        self._state: dict[str, Any] = {}
        self._new_state: bytes | None = None
        self._outcome: list[Command] = []
        self._deadlock_told = False

    # the worker's side

    def feed(self, records: Sequence[Record]) -> list[Command]:
        """Deliver records in order, run the code to rest after each, and return what is still asked for after all.

        The first call starts the workflow, also with no records. Errors of the code never leave: they become `Fail`,
        `Cancelled` or `Suspend`.

        Raises:
            UsageError: The execution was closed, or `ordering.install` was not called.
            KeyboardInterrupt: It struck during the feed; the execution is unusable then.
        """
        if self._loop.dead:
            raise UsageError(f"run {self.ref} was closed in memory; make a new Execution and feed its history")
        loop = self._loop
        outer = enter(loop, loop.finalize)
        try:
            if self._task is None:
                self._start()
            self._deliver_all(records)
        except NonDeterminism as error:
            self._suspend(mismatch(error, self.records, self._python, self.stack()))
        except KeyboardInterrupt:
            self.finished = True
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit or a watchdog's interrupt out of the author's code
            self._suspend(describe(error, ErrorKind.PERMANENT))
        finally:
            leave(outer)
        return self._commands()

    def outstanding(self) -> list[Command]:
        """All that the run waits for, told before or not: what a replay of its whole history would return.

        For a worker that takes up a cached execution again after it had let go of the run.
        """
        if self.finished:
            return []
        return [*self._ledger.outstanding(), *self._arrivals.outstanding()]

    def close(self) -> None:
        """Destroy the run in memory, without effect outside it; may be repeated. What refuses to end is buried."""
        if self._loop.dead:
            return
        close_loop(self._loop, self._graveyard)
        self._arrivals.silence()
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
    def unmatched(self) -> tuple[str, ...]:
        """Entries of the mail that no ``wait_for`` took, in order."""
        return self._arrivals.unmatched

    @property
    def complaints(self) -> tuple[str, ...]:
        """What asyncio had to say, such as errors that nobody awaited; at most twenty."""
        return tuple(self._loop.complaints)

    def stack(self) -> tuple[str, ...]:
        """Where each task waits: its name and the author's lines, outermost first; for reports."""
        found: list[str] = []
        for task in self._loop.live_tasks():
            lines = waiting_at(task.get_coro())
            found.append(f"{task.get_name()}: {' > '.join(lines) if lines else 'not started'}")
        return tuple(found)

    # the code's side

    def call(self, name: str, arguments: bytes, decode: Callable[[bytes], Any], options: object | None) -> Call[Any]:
        """Call an action from the run's code: numbered now, awaited later.

        Args:
            name: The action's name.
            arguments: Its encoded arguments; their checksum is part of what a replay compares.
            decode: Reads a recorded result.
            options: What the call changes of the action's policy; handed on as it is.

        Raises:
            Evicted: The run is being destroyed in memory.
        """
        loop = self._loop
        call: Call[Any] = Call(loop=loop)
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
        return waiting.wait_for(self._loop, self._arrivals, classes, subject, timeout, default)

    def publish_state(self, fields: dict[str, Any]) -> None:
        """Merge fields into the run's published state. Encoded here, so that an error shows at the author's line."""
        if self._loop.dead:
            return
        merged = {**self._state, **fields}
        self._new_state = self._encode(merged)
        self._state = merged

    @property
    def now_ms(self) -> int:
        """The run's time: that of the last record, in milliseconds since 1970."""
        return self._loop.now_ms

    @property
    def chance(self) -> Chance:
        """The run's randomness."""
        return self._chance

    def info(self) -> RunInfo:
        """What the code may know of its run."""
        workflow, run_id = split_run_ref(self.ref)
        return RunInfo(self.ref, workflow, run_id, self.subject, from_ms(self.started_at))

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
        loop = self._loop
        for record in records:
            self.records += 1
            if record.at > loop.now_ms:
                loop.now_ms = record.at
            if isinstance(record, EventReceived):
                self._arrivals.deliver(record.entry, record.event)
                self._deadlock_told = False
            elif self.finished:
                self._check(record)
            else:
                self._deliver(record)
            if not self.finished:
                self._run()

    def _check(self, record: Record) -> None:
        """Records after the end must be of steps that the code had made; else the function ended too early."""
        match record:
            case ActionCompleted() | ActionRaised() | AttemptFailed() | ActionParked() if self._ended:
                call_at(record, self._ledger)
            case TimerFired() if self._ended:
                timer_at(record, self._ledger)
            case _:
                pass

    def _deliver(self, record: Record) -> None:
        match record:
            case ActionCompleted() | ActionRaised() | AttemptFailed() | ActionParked():
                call = call_at(record, self._ledger)
                if call is not None:
                    self._deliver_to(call, record)
            case TimerFired():
                timer = timer_at(record, self._ledger)
                if timer is not None:
                    del self._ledger.pending[record.number]
                    self._loop.fire(timer)
            case CancelRequested():
                self._cancel_requested = True
                self._deadlock_told = False
                assert self._task is not None
                self._task.cancel()
            case RunResumed():
                self._ledger.resume()
                self._deadlock_told = False
            case RunStarted():
                self._python = record.python
            case _:
                pass  # RunSuspended sets the time; end records are the trace of commands that were obeyed

    def _deliver_to(self, call: Call[Any], record: ActionRecord) -> None:
        match record:
            case ActionCompleted():
                del self._ledger.pending[record.number]
                call.complete(record.result)
            case ActionRaised():
                del self._ledger.pending[record.number]
                call.set_exception(rebuild(record.failure))
            case AttemptFailed():
                call.attempts, call.due = record.attempt, record.due
            case ActionParked():
                call.attempts, call.due = record.attempts, 0

    def _run(self) -> None:
        self._loop.drain()
        task = self._task
        if task is not None and task.done() and not self.finished:
            self._conclude(task)

    def _conclude(self, task: asyncio.Task[Any]) -> None:
        """The workflow function is over: decide the outcome; then cancel what it left behind, as `asyncio.run` does."""
        outcome = outcome_of(task, self._encode, self._cancel_requested)
        if isinstance(outcome, Suspend):
            # A person decides how this goes on; clean-up code must not run before they have.
            self._suspend(outcome.failure)
            return
        for other in self._loop.live_tasks():
            other.cancel()
        self._loop.drain()
        self.finished = self._ended = True
        self._outcome = [*self._ledger.stops(), outcome]

    def _suspend(self, failure: Failure) -> None:
        self.finished = True
        self._outcome = [Suspend(failure)]

    def _commands(self) -> list[Command]:
        if self.finished:
            return self._last_commands()
        ledger, arrivals = self._ledger, self._arrivals
        found: list[Command] = []
        found += ledger.commands()
        found += arrivals.commands()
        if self._new_state is not None:
            found.append(self._told_state())
        if not ledger.pending and not self._deadlock_told and not arrivals.awaited:
            self._deadlock_told = True
            found.append(deadlock(self.stack()))
        return found

    def _last_commands(self) -> list[Command]:
        found, self._outcome = self._outcome, []
        if self._new_state is not None:
            found.insert(max(0, len(found) - 1), self._told_state())
        if found and isinstance(found[-1], Complete | Fail | Cancelled) and self.unmatched:
            found[-1] = msgspec.structs.replace(found[-1], unmatched=self.unmatched)
        return found

    def _told_state(self) -> SetState:
        state, self._new_state = self._new_state, None
        assert state is not None
        return SetState(state)


def current_execution() -> Execution | None:
    """The execution whose code is running in this thread; None outside every run."""
    loop: Any = running()
    if type(loop) is not Loop:
        return None
    execution: Any = loop.owner
    return execution
