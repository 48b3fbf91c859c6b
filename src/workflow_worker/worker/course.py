"""`Course`: one run's code in memory: what goes into it, and what it has come to since the last commit.

Records and mail go in, always in one order: what has happened becomes a record, the record is fed, and what the code
asks for in return is noted: steps, waits, events, state, its end. Nothing here knows of leases and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from workflow_worker.app.registry import App
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.model import command as commands
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import RunRef
from workflow_worker.model.internal import PATCH
from workflow_worker.model.record import CancelRequested, EventReceived, Record, TimerFired, encode_record
from workflow_worker.runtime.closing import Graveyard
from workflow_worker.runtime.execution import Execution
from workflow_worker.store.transitions import Emit, Loaded
from workflow_worker.worker.histories import History, read_history
from workflow_worker.worker.mail import is_for_code, record_of
from workflow_worker.worker.outcomes import Outcome, Rejected, failure_of
from workflow_worker.worker.progress import Progress
from workflow_worker.worker.relations import next_start
from workflow_worker.worker.steps import Steps


class Surroundings(Protocol):
    """What a run's code needs of the worker."""

    app: App
    graveyard: Graveyard

    def now_ms(self) -> int:
        """The server's time."""
        ...

    def rejected(self, ref: RunRef, entry: str, reason: str) -> None:
        """A mail does not fit its class."""
        ...


class Course:
    """The run `ref`, from its start or from its history on."""

    __slots__ = (
        "_around",
        "_carried",
        "_last_at",
        "created_at",
        "execution",
        "new",
        "outcome",
        "progress",
        "records",
        "ref",
        "start",
        "steps",
    )

    def __init__(self, around: Surroundings, ref: RunRef, created_at: int, new: bool) -> None:
        self.ref = ref
        self.created_at = created_at
        """Its first instant by its own clock."""
        self.new = new
        """Whether no commit has been made of this history."""
        self.records = 0
        """How many the history has with the store."""
        self.start: Mail | None = None
        self.execution: Execution | None = None
        self.steps: Steps | None = None
        """Made with its first step."""
        self.progress = Progress()
        """What the store does not know yet."""
        self.outcome: Outcome | None = None
        self._around = around
        self._carried: Sequence[Record] = ()
        """The head of the next history, of a run that continues as new."""
        self._last_at = created_at

    # ------------------------------------------------------------------------------------------------- where it begins

    def begin(self, definition: WorkflowDefinition, start: Mail, since: float) -> None:
        """Start the workflow; `since` is when the event came into this worker's hands (monotonic seconds)."""
        self.progress.events.append((start.entry, start.event, since))
        if self._prepare(definition, start):
            self.tell(())

    def replay(self, definition: WorkflowDefinition, loaded: Loaded, since: float) -> None:
        """Go through a history; what was written with it is not written again."""
        self.created_at = self._last_at = loaded.created_at
        self.new = False
        if not self._prepare(definition, loaded.start):
            return
        try:
            history = read_history(loaded.records)
        except msgspec.DecodeError as error:
            error.add_note("the history was written by a newer release, or damaged; run this release's newest version")
            self.outcome = commands.Suspend(describe(error, ErrorKind.PERMANENT))
            self.execution = None  # never started: mail that comes now is recorded for the release that can read it
            return
        if not history.begun:
            # A person resumed it before anybody had recorded anything: this is its first commit all the same.
            self.new = True
            self.progress.events.append((loaded.start.entry, loaded.start.event, since))
        if history.failed_transiently:
            self.needed_steps.note_transient(history.failed_transiently)
        self.records = len(history.records)
        self._last_at = max(self._last_at, history.last_at)
        self.tell(history.records)
        self._forget_what_is_stored(history, loaded)

    def _forget_what_is_stored(self, history: History, loaded: Loaded) -> None:
        """State and waits were written with the records that led to them: no commit is needed for them again."""
        if history.executed:
            self.progress.state = None
        for wait in loaded.waits:
            self.progress.waits.pop(wait, None)

    def begin_anew(self, definition: WorkflowDefinition, start: Mail, began_at: int) -> None:
        """The store has the start event of the next history, made by `next_history`; nothing of the one before is left
        but mail that nobody took."""
        self.close()
        left, carried = self.steps, self._carried
        self.steps = None if left is None else left.of_next_history()
        self.outcome, self._carried, self.new = None, (), True
        self.created_at, self.records = began_at, len(carried)
        if self._prepare(definition, start):
            self.tell(carried)

    def _prepare(self, definition: WorkflowDefinition, start: Mail) -> bool:
        """Make the execution; False when the start event does not fit its class."""
        self.start = start
        around = self._around
        try:
            self.execution = definition.execution(
                self.ref, start.event, self.created_at, around.app.events, around.graveyard
            )
        except EventRejected as error:
            failure = describe(error, ErrorKind.PERMANENT)
            if self.new:
                self.outcome = Rejected(failure)
                around.rejected(self.ref, start.entry, str(error))
            else:  # it did fit when the run began: the class was changed, which a person must put right
                self.outcome = commands.Suspend(failure)
            return False
        return True

    # ---------------------------------------------------------------------------------------------------- what goes in

    def feed(self, records: Sequence[Record]) -> None:
        """Let the run go on with what has happened, which is to be written with what it makes of that."""
        for record in records:
            self.progress.records.append(encode_record(record))
        self.tell(records)

    def tell(self, records: Sequence[Record]) -> None:
        """The same with records that the store has."""
        if self.execution is not None:
            self._obey(self.execution.feed(records))

    def take_mail(self, mail: Sequence[Mail], since: float) -> None:
        """Make records of all that was handed over, in order."""
        for item in mail:
            progress = self.progress
            progress.taken += 1
            progress.last_taken = item.entry
            if is_for_code(item):
                progress.events.append((item.entry, item.event, since))
            start = None if self.start is None else self.start.event
            try:
                record = record_of(item, at=self.at(), ref=self.ref, start=start, events=self._around.app.events)
            except EventRejected as error:
                progress.rejects.append((item.entry, str(error)))
                self._around.rejected(self.ref, item.entry, str(error))
                continue
            if isinstance(record, CancelRequested):
                self._take_cancel(record)
            elif record is not None:
                self.feed((record,))

    def _take_cancel(self, request: CancelRequested) -> None:
        """A cancel reaches the code; code that failed and cannot take it any more ends the run all the same."""
        execution = self.execution
        if isinstance(self.outcome, commands.Suspend):
            over = execution is None or execution.finished
            self.outcome = commands.Cancelled() if over else None
            if over and execution is not None:
                self._obey(execution.leave_behind())
        if isinstance(self.outcome, commands.Restart):
            self._carried = [*self._carried, request]  # the code has asked to begin anew: there it will hear of it
        else:
            self.feed((request,))

    def bring_up_to_date(self, steps: Steps) -> None:
        """Record the ends that nobody else will tell, fire what is due, one record each; retries become starts."""
        while steps.unheard:
            self.feed((steps.take_unheard(self.at()),))
        now = self._around.now_ms()
        while self.outcome is None and steps.parked is None:
            timer = steps.take_due_timer(now)
            if timer is None:
                break
            number, due = timer
            self.feed((TimerFired(self.at(), number, due),))
        if self.outcome is None:
            steps.start_due_retries(now)

    def at(self) -> int:
        """Now by the server's clock, never earlier than the record before."""
        now = self._around.now_ms()
        if now > self._last_at:
            self._last_at = now
        return self._last_at

    # --------------------------------------------------------------------------------------------------- what comes out

    def _obey(self, given: Sequence[commands.Command]) -> None:
        for command in given:
            match command:
                case commands.StartAction():
                    self.needed_steps.want(command)
                case commands.StartTimer() | commands.CancelAction() | commands.CancelTimer():
                    self.needed_steps.obey(command)
                case commands.AddWait(event_type=event_type, subject=subject):
                    self.progress.waits[event_type, subject] = True
                case commands.RemoveWait(event_type=event_type, subject=subject):
                    self.progress.waits[event_type, subject] = False
                case commands.SetState(state=state):
                    self.progress.state = state
                case commands.EmitEvent(number=number):
                    self.progress.emits.append(
                        Emit(number, command.event, command.workflow, command.run, command.delay_ms)
                    )
                case commands.MarkPatch(id=patch):
                    mark = Event(f"patch/{patch}", PATCH, data=msgspec.json.encode(patch))
                    self.progress.records.append(encode_record(EventReceived(self.at(), mark.id, mark)))
                case _:
                    self.outcome = command

    @property
    def needed_steps(self) -> Steps:
        """The steps, made now if there were none."""
        if self.steps is None:
            self.steps = Steps()
        return self.steps

    @property
    def failure(self) -> Failure | None:
        """Why the run stops, if an error is the reason."""
        if self.steps is not None and self.steps.parked is not None and not isinstance(self.outcome, Rejected):
            return self.steps.parked[1]
        return failure_of(self.outcome)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Entries of the mail that the code did not take."""
        return () if self.execution is None else self.execution.unmatched

    @property
    def resumable(self) -> bool:
        """Whether it can rest in memory and go on later without a replay."""
        parked = self.steps is not None and self.steps.parked is not None
        return self.execution is not None and self.outcome is None and not parked

    def next_history(self, restart: commands.Restart, now: int) -> tuple[Mail, tuple[bytes, ...]]:
        """The start of the next history and its head: mail that nobody took, and cancels that the code of this one did
        not hear."""
        assert self.start is not None
        assert self.execution is not None
        kept = [EventReceived(now, entry, event) for entry, event in self.execution.unmatched_mail]
        self._carried = [*kept, *(record for record in self._carried if isinstance(record, CancelRequested))]
        start = next_start(self.ref, self.start, restart.data)
        return start, tuple(encode_record(record) for record in self._carried)

    # --------------------------------------------------------------------------------------------------- where it ends

    def break_off(self, failure: Failure) -> None:
        """Suspend it, and drop all that was not committed, mail included: the store still has it."""
        self.close()
        self.progress = Progress()
        self.steps, self._carried, self.new = None, (), False
        self.outcome = commands.Suspend(failure)

    def close(self) -> None:
        """Destroy the run in memory: no code of it runs after this, and no command comes of it."""
        if self.steps is not None:
            self.steps.abandon()
        execution, self.execution = self.execution, None
        if execution is not None:
            execution.close()
