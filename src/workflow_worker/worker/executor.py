"""`RunExecutor`: drives one leased run to rest: feed, perform, commit, again.

It is a state machine without a task of its own: what happens to the run (its lease, the end of an attempt, a timer,
mail, the answer to a commit) calls a method, the method feeds records to the `Execution` and calls `settle`, which
decides what is next. Three rules hold everywhere:

- *Write ahead*: an action starts only when every record that it can depend on is committed.
- *Mail is transit*: whatever a lease or commit hands over becomes a record at once, wanted or not.
- One commit of a run is under way at a time; what happens meanwhile goes into the next.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Sequence
from typing import Protocol

import msgspec

from workflow_worker.app.registry import App
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.errors.retry import ParkRun, RetryIn
from workflow_worker.model import command as commands
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.record import (
    ActionCompleted,
    ActionParked,
    ActionRaised,
    AttemptFailed,
    CancelRequested,
    EventReceived,
    Record,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSuspended,
    TimerFired,
    decode_record,
    encode_record,
)
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.execution import Execution
from workflow_worker.store.transitions import REJECT_START, Commit, CommitOutcome, LeasedRun, Loaded, Mode
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.progress import Progress

_PYTHON = ".".join(platform.python_version_tuple()[:2])
_Outcome = commands.Complete | commands.Fail | commands.Cancelled | commands.Suspend
_failure_encoder = msgspec.msgpack.Encoder()


class Host(Protocol):
    """What an executor needs of the worker that holds its run."""

    app: App
    limits: WorkerLimits
    release: str
    session: SessionId
    draining: bool

    def now_ms(self) -> int:
        """The server's time."""
        ...

    def next_commit_id(self) -> CommitId:
        """A commit id that was never used."""
        ...

    def perform(self, executor: RunExecutor, start: commands.StartAction) -> Attempt:
        """Begin one attempt; its end calls `RunExecutor.attempt_ended`."""
        ...

    def ask_commit(self, executor: RunExecutor) -> None:
        """Take the run into the next group commit."""
        ...

    def call_at(self, due_ms: int, executor: RunExecutor) -> asyncio.TimerHandle:
        """Call `RunExecutor.settle` when the server's clock shows `due_ms`."""
        ...

    def recorded(self, executor: RunExecutor, progress: Progress, failed: bool) -> None:
        """A commit was accepted: count its events."""
        ...

    def rejected(self, executor: RunExecutor, entry: str, reason: str) -> None:
        """A mail does not fit its class."""
        ...

    def ended_attempt(self, executor: RunExecutor, ended: Ended) -> None:
        """Report and count one attempt."""
        ...

    def rest(self, executor: RunExecutor, status: RunStatus, failure: Failure | None) -> None:
        """The run left this worker's hands in good order."""
        ...

    def give_back(self, executor: RunExecutor, delay_ms: int = 0) -> None:
        """Hand the run back to ``ready``, uncounted."""
        ...

    def lose(self, executor: RunExecutor, word: str) -> None:
        """The run is another's now."""
        ...


class RunExecutor:
    """One run in this worker's hands, or at rest in its cache (then `token` is an old lease's)."""

    __slots__ = (
        "_alarm",
        "_attempts",
        "_cleared",
        "_definition",
        "_execution",
        "_failed_transiently",
        "_host",
        "_in_flight",
        "_last_at",
        "_new",
        "_outcome",
        "_parked",
        "_polling",
        "_progress",
        "_rejected_start",
        "_retries",
        "_sent_id",
        "_sent_mode",
        "_sent_records",
        "_sent_status",
        "_start",
        "_starts",
        "_timers",
        "base",
        "created_at",
        "leased_at",
        "records",
        "ref",
        "token",
        "version",
    )

    def __init__(self, host: Host, leased: LeasedRun, leased_at: float) -> None:
        self._host = host
        self._definition: WorkflowDefinition | None = None
        self._execution: Execution | None = None
        self._start: Mail | None = leased.start
        self._starts: list[commands.StartAction] = []
        self._cleared: list[commands.StartAction] = []
        self._attempts: dict[int, Attempt] = {}
        self._retries: dict[int, commands.StartAction] = {}
        self._timers: dict[int, int] = {}
        self._failed_transiently: dict[int, int] = {}
        self._progress = Progress()
        self._in_flight: Progress | None = None
        self._sent_id = NO_COMMIT
        self._sent_mode = Mode.KEEP
        self._sent_records = 0
        self._sent_status = RunStatus.RUNNING
        self._outcome: _Outcome | None = None
        self._parked: tuple[int, Failure] | None = None
        self._rejected_start: Failure | None = None
        self._polling = False
        self._alarm: asyncio.TimerHandle | None = None
        self._last_at = 0
        self._new = leased.cid == NO_COMMIT
        self.ref: RunRef = leased.ref
        self.token = leased.token
        self.base = leased.cid
        self.created_at = leased.created_at
        self.version = leased.version
        self.leased_at = leased_at
        self.records = 0

    # ------------------------------------------------------------------------------------------ the ways into a lease

    def begin(self, leased: LeasedRun, definition: WorkflowDefinition) -> None:
        """A run without any commit: start its workflow and take in what came with it."""
        assert leased.start is not None
        self._definition = definition
        self._progress.events.append((leased.start.entry, leased.start.event, self.leased_at))
        if not self._prepare(leased.start):
            self.take_mail(leased.mail)
            self.settle()
            return
        self._feed(())
        self.take_mail(leased.mail)
        self.settle()

    def replay(self, loaded: Loaded, definition: WorkflowDefinition) -> None:
        """A run with a history that this worker does not have in memory."""
        self._definition = definition
        self.base = loaded.cid
        self.created_at = loaded.created_at
        self._new = False
        if self._prepare(loaded.start):
            history = self._decode(loaded.records)
            if history is not None:
                if not any(isinstance(record, RunStarted) for record in history):
                    # A person resumed it before anybody had recorded anything: this is its first commit all the same.
                    self._new = True
                    self._progress.events.append((loaded.start.entry, loaded.start.event, self.leased_at))
                self._count_transient(history)
                self.records = len(history)
                self._last_at = max((record.at for record in history), default=0)
                assert self._execution is not None
                for command in self._execution.feed(history):
                    self._obey(command)
        self.take_mail(loaded.mail)
        self.settle()

    def resume(self, leased: LeasedRun, leased_at: float) -> None:
        """A run at rest in the cache whose last commit is the one that the cache saw: no replay needed."""
        self.token = leased.token
        self.leased_at = leased_at
        self._polling = False
        self.take_mail(leased.mail)
        self.settle()

    def _prepare(self, start: Mail) -> bool:
        """Make the execution; False when the start event does not fit its class."""
        assert self._definition is not None
        self._start = start
        try:
            main = self._definition.main(start.event, self._host.app.events)
        except EventRejected as error:
            if self._new:
                self._rejected_start = describe(error, ErrorKind.PERMANENT)
                self._host.rejected(self, start.entry, str(error))
            else:  # it did fit when the run began: the class was changed, which a person must put right
                self._outcome = commands.Suspend(describe(error, ErrorKind.PERMANENT))
            return False
        self._execution = Execution(
            ref=self.ref,
            subject=start.event.subject,
            started_at=self.created_at,
            seed=f"{self.ref}/{start.event.id}",
            main=main,
            events=self._host.app.events,
            encode=self._definition.encode_result,
        )
        return True

    def _decode(self, raw: Sequence[bytes]) -> list[Record] | None:
        try:
            return [decode_record(one) for one in raw]
        except msgspec.DecodeError as error:
            error.add_note("the history was written by a newer release, or damaged; run this release's newest version")
            self._outcome = commands.Suspend(describe(error, ErrorKind.PERMANENT))
            self._execution = None  # never started: mail that comes now is recorded for the release that can read it
            return None

    def _count_transient(self, history: Sequence[Record]) -> None:
        for record in history:
            match record:
                case AttemptFailed(number=number, failure=failure) if failure.kind is ErrorKind.TRANSIENT:
                    self._failed_transiently[number] = self._failed_transiently.get(number, 0) + 1
                case RunResumed():
                    self._failed_transiently.clear()
                case _:
                    pass

    # ---------------------------------------------------------------------------------------------- what happens to it

    def take_mail(self, mail: Sequence[Mail]) -> None:
        """Make records of all that was handed over, in order."""
        for item in mail:
            self._progress.taken += 1
            self._progress.last_taken = item.entry
            if item.is_cancel:
                self._take_cancel(item)
                continue
            self._progress.events.append((item.entry, item.event, self.leased_at))
            try:
                self._host.app.events.decode(item.event)
            except EventRejected as error:
                self._progress.rejects.append((item.entry, str(error)))
                self._host.rejected(self, item.entry, str(error))
            else:
                self._feed((EventReceived(self._at(), item.entry, item.event),))

    def _take_cancel(self, item: Mail) -> None:
        """A cancel reaches the code; code that failed and cannot take it any more ends the run all the same."""
        by, reason = _cancel_details(item.event)
        if isinstance(self._outcome, commands.Suspend):
            over = self._execution is None or self._execution.finished
            self._outcome = commands.Cancelled() if over else None
        self._feed((CancelRequested(self._at(), item.entry, by, reason),))

    def poll_mail(self) -> None:
        """There may be mail: fetch it with a commit, the next one if one is under way."""
        self._polling = True
        self.settle()

    def attempt_ended(self, attempt: Attempt, ended: Ended) -> None:
        """One attempt of an action is over; record what it means."""
        start = attempt.start
        if self._attempts.get(start.number) is not attempt:
            return  # abandoned: cancelled by the run, or the lease was lost
        del self._attempts[start.number]
        self._progress.attempts += 1
        self._host.ended_attempt(self, ended)
        at = self._at()
        if ended.failure is None:
            self._failed_transiently.pop(start.number, None)
            self._feed(
                (
                    ActionCompleted(
                        at, start.number, start.name, start.checksum, ended.result, ended.attempt, int(ended.took_ms)
                    ),
                )
            )
        else:
            self._failed(at, start, ended, ended.failure)
        self.settle()

    def _failed(self, at: int, start: commands.StartAction, ended: Ended, failure: Failure) -> None:
        number, name, checksum = start.number, start.name, start.checksum
        match ended.decision:
            case RetryIn(delay_ms=delay_ms):
                if failure.kind is ErrorKind.TRANSIENT:
                    self._failed_transiently[number] = self._failed_transiently.get(number, 0) + 1
                due = at + delay_ms
                self._feed((AttemptFailed(at, number, name, checksum, failure, ended.attempt, due),))
                self._retries[number] = commands.StartAction(
                    number, name, start.arguments, checksum, ended.attempt, due, start.options
                )
            case ParkRun():
                self._feed((ActionParked(at, number, name, checksum, failure, ended.attempt),))
                self._parked = (number, failure)
            case _:
                self._feed((ActionRaised(at, number, name, checksum, failure),))

    def transient_failures(self, number: int) -> int:
        """How often this step failed transiently so far."""
        return self._failed_transiently.get(number, 0)

    def commit_answered(self, outcome: CommitOutcome) -> None:
        """The store's word about the commit that `build_commit` made."""
        sent = self._in_flight
        assert sent is not None
        self._in_flight = None
        if outcome.mail:
            self._polling = False
        match outcome.word:
            case "ok" | "again":
                self._accepted(sent, outcome)
            case "mail":
                self._progress = sent.before(self._progress)
                self._cleared.clear()
                self.take_mail(outcome.mail)
                self.settle()
            case "conflict":
                self._host.give_back(self)
            case _:
                self._host.lose(self, outcome.word)

    def count_accepted(self) -> None:
        """The commit under way was written, though the lease has gone meanwhile: its events are processed."""
        if self._in_flight is not None:
            self._count(self._in_flight)

    def _count(self, sent: Progress) -> None:
        self._host.recorded(self, sent, self._sent_status in (RunStatus.SUSPENDED, RunStatus.FAILED))

    def _accepted(self, sent: Progress, outcome: CommitOutcome) -> None:
        self.base = self._sent_id
        self.records += self._sent_records
        self._count(sent)
        if not outcome.held:
            if outcome.word == "again" and self._sent_mode is Mode.KEEP:
                self._host.lose(self, "fenced")
            else:
                self._host.rest(self, self._sent_status, self._reason())
            return
        cleared, self._cleared = self._cleared, []
        if self._host.draining:
            self._starts = cleared + self._starts
        else:
            self._perform(cleared)
        self.take_mail(outcome.mail)
        self.settle()

    def _reason(self) -> Failure | None:
        if self._rejected_start is not None:
            return self._rejected_start
        if self._parked is not None:
            return self._parked[1]
        if isinstance(self._outcome, commands.Suspend | commands.Fail):
            return self._outcome.failure
        return None

    # ------------------------------------------------------------------------------------------------------- decisions

    def settle(self) -> None:
        """Decide what is next; safe to call at any time."""
        self._cancel_alarm()
        if self._in_flight is not None or self._definition is None:
            return  # the answer to the commit, or the history that is being loaded, will bring us here again
        self._fire_due()
        over = self._outcome is not None or self._rejected_start is not None
        if over:
            self.abandon_attempts()
            self._host.ask_commit(self)
        elif self._progress.dirty or self._polling:
            self._host.ask_commit(self)
        elif self._parked is not None:
            if not self._attempts:
                self._host.ask_commit(self)
        elif self._starts and self._host.draining:
            if not self._attempts:
                self._host.give_back(self)
        elif self._starts:
            starts, self._starts = self._starts, []
            self._perform(starts)
        elif not self._attempts and not self._lingers():
            self._host.ask_commit(self)
        if not over:
            self._set_alarm()

    def _perform(self, starts: Sequence[commands.StartAction]) -> None:
        for start in starts:
            self._attempts[start.number] = self._host.perform(self, start)

    def build_commit(self) -> Commit:
        """Everything not yet written, as one commit; the run waits for its answer from here on."""
        self._cancel_alarm()  # the answer decides whether the run's timers are still ours
        progress, self._progress = self._progress, Progress()
        now = self._at()
        mode, status, last = self._ending(now)
        self._polling = False
        if self._new:
            progress.records.insert(0, encode_record(RunStarted(self.created_at, _PYTHON, self._host.release)))
            self._new = False
        # The end is no part of the progress: refused because of mail, the run ends again behind that mail.
        records = (*progress.records, *([encode_record(last)] if last is not None else ()))
        self._in_flight = progress
        self._sent_records = len(records)
        self._sent_mode, self._sent_status = mode, status
        if mode is Mode.KEEP:
            self._cleared, self._starts = self._starts, []
        self._sent_id = self._host.next_commit_id()
        failure = self._reason()
        rejects = tuple(progress.rejects)
        if self._rejected_start is not None:
            rejects = ((REJECT_START, self._rejected_start.message), *rejects)
        return Commit(
            ref=self.ref,
            session=self._host.session,
            token=self.token,
            base=self.base,
            cid=self._sent_id,
            records=records,
            status=status,
            mode=mode,
            taken=progress.taken,
            last_taken=progress.last_taken,
            rejects=rejects,
            waits_added=tuple(wait for wait, wanted in progress.waits.items() if wanted),
            waits_removed=tuple(wait for wait, wanted in progress.waits.items() if not wanted),
            state=progress.state,
            result=self._outcome.result if isinstance(self._outcome, commands.Complete) else None,
            error=_failure_encoder.encode(failure) if failure is not None else None,
            wake=self._next_due() if mode is Mode.RELEASE and status is RunStatus.WAITING else None,
            attempts=progress.attempts,
        )

    def _ending(self, now: int) -> tuple[Mode, RunStatus, Record | None]:
        if self._rejected_start is not None:
            return Mode.END, RunStatus.FAILED, RunFailed(now, self._rejected_start)
        match self._outcome:
            case commands.Complete(result=result):
                return Mode.END, RunStatus.COMPLETED, RunCompleted(now, result, self._unmatched())
            case commands.Fail(failure=failure):
                return Mode.END, RunStatus.FAILED, RunFailed(now, failure, self._unmatched())
            case commands.Cancelled():
                return Mode.END, RunStatus.CANCELLED, RunCancelled(now, self._unmatched())
            case commands.Suspend(failure=failure):
                return Mode.RELEASE, RunStatus.SUSPENDED, RunSuspended(now, failure)
            case None:
                pass
        if self._parked is not None and not self._attempts:
            return Mode.RELEASE, RunStatus.SUSPENDED, None
        if self._attempts or self._starts or self._parked is not None or self._lingers() or self._polling:
            return Mode.KEEP, RunStatus.RUNNING, None
        return Mode.RELEASE, RunStatus.WAITING, None

    def _unmatched(self) -> tuple[str, ...]:
        return self._execution.unmatched if self._execution is not None else ()

    # --------------------------------------------------------------------------------------------------------- feeding

    def _feed(self, records: Sequence[Record]) -> None:
        for record in records:
            self._progress.records.append(encode_record(record))
        if self._execution is None:
            return
        for command in self._execution.feed(records):
            self._obey(command)

    def _obey(self, command: commands.Command) -> None:
        match command:
            case commands.StartAction(due=0):
                self._starts.append(command)
            case commands.StartAction():
                self._retries[command.number] = command
            case commands.CancelAction(number=number):
                self._cancel_action(number)
            case commands.StartTimer(number=number, due=due):
                self._timers[number] = due
            case commands.CancelTimer(number=number):
                self._timers.pop(number, None)
            case commands.AddWait(event_type=event_type, subject=subject):
                self._progress.waits[event_type, subject] = True
            case commands.RemoveWait(event_type=event_type, subject=subject):
                self._progress.waits[event_type, subject] = False
            case commands.SetState(state=state):
                self._progress.state = state
            case _:
                self._outcome = command

    def _cancel_action(self, number: int) -> None:
        self._starts = [start for start in self._starts if start.number != number]
        self._cleared = [start for start in self._cleared if start.number != number]
        self._retries.pop(number, None)
        if self._parked is not None and self._parked[0] == number:
            self._parked = None
        attempt = self._attempts.pop(number, None)
        if attempt is not None:
            attempt.abandon()

    def break_off(self, failure: Failure) -> bool:
        """Suspend a run that breaks every worker's code for it; False while a commit is under way.

        What was not committed is dropped, mail included: the store still has it.
        """
        if self._in_flight is not None or self._definition is None:
            return False
        self.close()
        self._progress = Progress()
        self._starts, self._cleared = [], []
        self._timers, self._retries = {}, {}
        self._parked = self._rejected_start = None
        self._new = False
        self._outcome = commands.Suspend(failure)
        self._host.ask_commit(self)
        return True

    def abandon_attempts(self) -> None:
        """Stop what runs for this run; its results are not wanted any more."""
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            attempt.abandon()

    def close(self) -> None:
        """Destroy the run in memory: no code of it runs after this, and no command comes of it."""
        self.abandon_attempts()
        self._cancel_alarm()
        if self._execution is not None:
            self._execution.close()
            self._execution = None

    @property
    def cacheable(self) -> bool:
        """Whether the run can rest in memory and go on later without a replay."""
        return self._execution is not None and self._outcome is None and self._parked is None

    # ---------------------------------------------------------------------------------------------------------- timers

    def _fire_due(self) -> None:
        """Fire what is due, by (due, number), one record each; retries that are due become starts."""
        now = self._host.now_ms()
        while self._timers and self._outcome is None and self._parked is None:
            due, number = min((due, number) for number, due in self._timers.items())
            if due > now:
                break
            del self._timers[number]
            self._feed((TimerFired(self._at(), number, due),))
        if self._retries and self._outcome is None:
            for number in [number for number, start in self._retries.items() if start.due <= now]:
                self._starts.append(self._retries.pop(number))

    def _next_due(self) -> int | None:
        dues = [*self._timers.values(), *(start.due for start in self._retries.values())]
        return min(dues) if dues else None

    def _lingers(self) -> bool:
        """Whether the next timer is so near that releasing the run would cost more than keeping it."""
        due = self._next_due()
        return (
            due is not None
            and not self._host.draining
            and self._parked is None
            and due - self._host.now_ms() <= self._host.limits.linger_ms
        )

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        due = self._next_due()
        if due is not None and self._in_flight is None and self._parked is None:
            self._alarm = self._host.call_at(due, self)

    def _at(self) -> int:
        """Now by the server's clock, never earlier than the record before."""
        self._last_at = max(self._last_at, self._host.now_ms(), self.created_at)
        return self._last_at

    @property
    def next_due(self) -> int | None:
        """When the run's next timer or retry is due."""
        return self._next_due()

    @property
    def recording_last(self) -> bool:
        """Whether a commit is under way that lets the run go: a renewal that misses it is no loss."""
        return self._in_flight is not None and self._sent_mode is not Mode.KEEP

    @property
    def start_event_id(self) -> str:
        """Id of the event that started the run."""
        return self._start.event.id if self._start is not None else ""


def _cancel_details(event: Event) -> tuple[str, str]:
    try:
        details = msgspec.json.decode(event.data, type=dict[str, str])
    except msgspec.DecodeError:
        return "", ""
    return details.get("by", ""), details.get("reason", "")
