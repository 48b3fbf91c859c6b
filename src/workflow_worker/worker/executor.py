"""`RunExecutor`: drives one leased run to rest: feed, perform, commit, again.

It is a state machine without a task of its own: what happens to the run (its lease, the end of an attempt, a timer,
mail, the answer to a commit) calls a method, the method feeds records to the `Execution` and calls `settle`, which
decides what is next. Three rules hold everywhere:

- *Write ahead*: an action starts only when every record that it can depend on is committed.
- *Mail is transit*: whatever a lease or commit hands over becomes a record at once, wanted or not.
- One commit of a run is under way at a time; what happens meanwhile goes into the next.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Protocol

import msgspec

from workflow_worker.app.registry import App
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.errors.retry import ParkRun, RetryIn
from workflow_worker.model import command as commands
from workflow_worker.model.environment import Alarm
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.exceptions import ActionCancelled, EventRejected
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.internal import CANCEL, PATCH, is_internal
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
from workflow_worker.runtime.closing import Graveyard
from workflow_worker.runtime.execution import Execution
from workflow_worker.store.transitions import REJECT_START, Commit, CommitOutcome, Emit, LeasedRun, Loaded, Mode
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.progress import Progress
from workflow_worker.worker.relations import is_a_copy, is_cancel_by_parent, next_start, notice_of_end

_PYTHON = ".".join(platform.python_version_tuple()[:2])
_Outcome = commands.Complete | commands.Fail | commands.Cancelled | commands.Restart | commands.Suspend
_failure_encoder = msgspec.msgpack.Encoder()


class Host(Protocol):
    """What an executor needs of the worker that holds its run."""

    app: App
    limits: WorkerLimits
    release: str
    session: SessionId
    draining: bool
    graveyard: Graveyard

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

    def call_at(self, due_ms: int, executor: RunExecutor) -> Alarm:
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
        "_carried",
        "_cleared",
        "_definition",
        "_execution",
        "_failed_transiently",
        "_host",
        "_in_flight",
        "_last_at",
        "_left",
        "_new",
        "_next_start",
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
        "_stopping",
        "_timers",
        "_unheard",
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
        self._left: list[Attempt] = []
        self._stopping: set[int] = set()
        self._unheard: list[tuple[commands.CancelAction, bool]] = []
        self._next_start: Mail | None = None
        self._carried: list[Record] = []
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
        self._alarm: Alarm | None = None
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
                self._forget_what_is_stored(history, loaded)
        self.take_mail(loaded.mail)
        self.settle()

    def _forget_what_is_stored(self, history: Sequence[Record], loaded: Loaded) -> None:
        """State and waits were written with the records that led to them: no commit is needed for them again. Only a
        person's resume is a record behind which no worker has executed yet."""
        if history and not isinstance(history[-1], RunResumed):
            self._progress.state = None
        for wait in loaded.waits:
            self._progress.waits.pop(wait, None)

    def resume(self, leased: LeasedRun, leased_at: float) -> None:
        """A run at rest in the cache whose last commit is the one that the cache saw: no replay needed."""
        self.token = leased.token
        self.leased_at = leased_at
        self._left.clear()
        self._polling = False
        self.take_mail(leased.mail)
        self.settle()

    def _prepare(self, start: Mail) -> bool:
        """Make the execution; False when the start event does not fit its class."""
        assert self._definition is not None
        self._start = start
        host = self._host
        try:
            self._execution = self._definition.execution(
                self.ref, start.event, self.created_at, host.app.events, host.graveyard
            )
        except EventRejected as error:
            if self._new:
                self._rejected_start = describe(error, ErrorKind.PERMANENT)
                host.rejected(self, start.entry, str(error))
            else:  # it did fit when the run began: the class was changed, which a person must put right
                self._outcome = commands.Suspend(describe(error, ErrorKind.PERMANENT))
            return False
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
            if is_internal(item.event.type):
                self._take_internal(item)
                continue
            self._progress.events.append((item.entry, item.event, self.leased_at))
            try:
                self._host.app.events.decode(item.event)
            except EventRejected as error:
                self._progress.rejects.append((item.entry, str(error)))
                self._host.rejected(self, item.entry, str(error))
            else:
                self._feed((EventReceived(self._at(), item.entry, item.event),))

    def _take_internal(self, item: Mail) -> None:
        """Mail from another run. A copy that is not meant for this one is no record: it may be one of many."""
        start = None if self._start is None else self._start.event
        if item.event.type != CANCEL:
            if not is_a_copy(self.ref, item.event):
                self._feed((EventReceived(self._at(), item.entry, item.event),))
        elif is_cancel_by_parent(self.ref, start, item.event):
            self._take_cancel(item)

    def _take_cancel(self, item: Mail) -> None:
        """A cancel reaches the code; code that failed and cannot take it any more ends the run all the same."""
        by, reason = _cancel_details(item.event)
        if isinstance(self._outcome, commands.Suspend):
            over = self._execution is None or self._execution.finished
            self._outcome = commands.Cancelled() if over else None
            if over and self._execution is not None:
                for command in self._execution.leave_behind():
                    self._obey(command)
        request = CancelRequested(self._at(), item.entry, by, reason)
        if isinstance(self._outcome, commands.Restart):
            self._carried.append(request)  # the code has asked to begin anew: there it will hear of it
        else:
            self._feed((request,))

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
        stopped = start.number in self._stopping
        self._stopping.discard(start.number)
        if stopped and ended.failure is not None:
            self._feed((ActionRaised(at, start.number, start.name, start.checksum, ended.failure),))
        elif ended.failure is None:
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
        decision, undone = ended.decision, getattr(start.options, "compensates", None)
        if undone is not None and not isinstance(decision, RetryIn):
            # What must succeed is a person's when it cannot: an error at the `await` would end the saga half undone.
            text = f"compensation {name} of {undone} failed: {failure.message}"
            decision, failure = ParkRun(), msgspec.structs.replace(failure, message=text)
        match decision:
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

    def note_left(self, attempt: Attempt) -> None:
        """A body that was given up runs on with our token: before the next attempt starts, the run is handed back, so
        that the token rises and whatever checks tokens refuses what the body still does."""
        self._left.append(attempt)

    @property
    def _withholds(self) -> bool:
        """Whether attempts may not start: the worker drains, or a body that we cannot stop has our token. One that was
        cancelled, not timed out, is forgiven when it ends."""
        return self._host.draining or any(attempt.timed_out or attempt.runs_on for attempt in self._left)

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
        if self._withholds:
            self._starts = cleared + self._starts
        else:
            self._perform(cleared)
        if self._next_start is not None:
            self._begin_anew(self._next_start)
        self.take_mail(outcome.mail)
        self.settle()

    def _begin_anew(self, start: Mail) -> None:
        """The store has the new start event; nothing of the history before it is left but mail that nobody took."""
        self._next_start = None
        self.close()
        self._outcome, self._parked, self._new = None, None, True
        self._starts, self._cleared, self._retries, self._timers, self._unheard = [], [], {}, {}, []
        self._failed_transiently.clear()
        carried, self._carried = self._carried, []
        self.created_at, self.records = self._last_at, len(carried)
        if self._prepare(start) and self._execution is not None:
            for command in self._execution.feed(carried):
                self._obey(command)

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
        if self._unheard or self._timers or self._retries:
            self._tell_ends()
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
        elif self._starts and self._withholds:
            if not self._attempts:
                self._host.give_back(self)
        elif self._starts:
            starts, self._starts = self._starts, []
            self._perform(starts)
        elif not self._attempts and not self._lingers():
            self._host.ask_commit(self)
        if not over and (self._timers or self._retries):
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
        records = tuple(progress.records) if last is None else (*progress.records, encode_record(last))
        self._next_start = None
        if isinstance(self._outcome, commands.Restart):
            records = self._end_history(self._outcome, now)
        self._in_flight = progress
        self._sent_records = len(records)
        self._sent_mode, self._sent_status = mode, status
        if mode is Mode.KEEP:
            self._cleared, self._starts = self._starts, []
        self._sent_id = self._host.next_commit_id()
        failure = self._reason()
        result = self._outcome.result if isinstance(self._outcome, commands.Complete) else None
        emits = tuple(progress.emits)
        if mode is Mode.END:
            emits += notice_of_end(self.ref, self._start and self._start.event, status, failure, result)
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
            waits_added=_waits(progress, wanted=True),
            waits_removed=_waits(progress, wanted=False),
            state=progress.state,
            emits=emits,
            result=result,
            error=_failure_encoder.encode(failure) if failure is not None else None,
            wake=self._next_due() if mode is Mode.RELEASE and status is RunStatus.WAITING else None,
            attempts=progress.attempts,
            restart=self._next_start,
            began_at=None if self._next_start is None else self._last_at,
        )

    def _end_history(self, restart: commands.Restart, now: int) -> tuple[bytes, ...]:
        """The head of the next history: mail that nobody took, and cancels that the code of this one did not hear."""
        assert self._start is not None
        assert self._execution is not None
        self._next_start = next_start(self.ref, self._start, restart.data)
        kept = [EventReceived(now, entry, event) for entry, event in self._execution.unmatched_mail]
        self._carried = [*kept, *(record for record in self._carried if isinstance(record, CancelRequested))]
        return tuple(encode_record(record) for record in self._carried)

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
            case commands.Restart():
                return Mode.KEEP, RunStatus.RUNNING, None
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
        if records:
            self._progress.records += map(encode_record, records)
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
            case commands.CancelAction(wait=True):
                self._stop_action(command)
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
            case commands.EmitEvent(number=number):
                self._progress.emits.append(
                    Emit(number, command.event, command.workflow, command.run, command.delay_ms)
                )
            case commands.MarkPatch(id=patch):
                mark = Event(f"patch/{patch}", PATCH, data=msgspec.json.encode(patch))
                self._progress.records.append(encode_record(EventReceived(self._at(), mark.id, mark)))
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
            self._stopping.discard(number)
            attempt.abandon()

    def _stop_action(self, command: commands.CancelAction) -> None:
        """End a step of which somebody must know how it ended. A body in a thread ends by itself or by its time limit;
        what no attempt is under way for ends at once."""
        number = command.number
        attempt = self._attempts.get(number)
        if attempt is not None:
            self._stopping.add(number)
            if attempt.task is not None and not attempt.in_thread:
                attempt.task.cancel()
            return
        fresh = any(start.number == number and not start.attempts for start in (*self._starts, *self._cleared))
        self._cancel_action(number)
        self._unheard.append((command, fresh))

    def _tell_ends(self) -> None:
        """Record the end of steps that were given up with no attempt under way: one that never began did nothing, of
        any other (its worker may have died) nobody knows."""
        while self._unheard:
            command, fresh = self._unheard.pop(0)
            text = "given up before it began" if fresh else "given up between two attempts, or with its worker"
            kind = ErrorKind.PERMANENT if fresh else ErrorKind.RECOVERABLE
            failure = describe(ActionCancelled(text), kind)
            self._feed((ActionRaised(self._at(), command.number, command.name, command.checksum, failure),))

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
        self._unheard, self._carried = [], []
        self._parked = self._rejected_start = None
        self._new = False
        self._outcome = commands.Suspend(failure)
        self._host.ask_commit(self)
        return True

    def abandon_attempts(self) -> None:
        """Stop what runs for this run; its results are not wanted any more."""
        if not self._attempts:
            return
        attempts, self._attempts = self._attempts, {}
        self._stopping.clear()
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
        if not self._timers and not self._retries:
            return None
        return min([*self._timers.values(), *(start.due for start in self._retries.values())])

    def _lingers(self) -> bool:
        """Whether the next timer is so near that releasing the run would cost more than keeping it."""
        due = self._next_due()
        return (
            due is not None
            and not self._withholds
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
    def complaints(self) -> tuple[str, ...]:
        """Errors in the run's tasks that nobody awaited."""
        return self._execution.complaints if self._execution is not None else ()

    @property
    def start_event_id(self) -> str:
        """Id of the event that started the run."""
        return self._start.event.id if self._start is not None else ""


def _waits(progress: Progress, wanted: bool) -> tuple[tuple[str, str], ...]:
    """Which waits begin, or end, with this progress; nearly always none."""
    if not progress.waits:
        return ()
    return tuple([wait for wait, last in progress.waits.items() if last is wanted])


def _cancel_details(event: Event) -> tuple[str, str]:
    try:
        details = msgspec.json.decode(event.data, type=dict[str, str])
    except msgspec.DecodeError:
        return "", ""
    return details.get("by", ""), details.get("reason", "")
