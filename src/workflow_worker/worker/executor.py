"""`RunExecutor`: drives one leased run to rest: feed, perform, commit, again.

It is a state machine without a task of its own: what happens to the run (its lease, the end of an attempt, a timer,
mail, the answer to a commit) calls a method, the method feeds the run's `Course` and calls `settle`, which decides what
is next. Three rules hold everywhere:

- *Write ahead*: an action starts only when every record that it can depend on is committed.
- *Mail is transit*: whatever a lease or commit hands over becomes a record at once, wanted or not.
- One commit of a run is under way at a time; what happens meanwhile goes into the next.

The run's code and what it has come to are the `Course`'s affair, its actions and timers those of the `Steps`; how a run
ends `outcomes.py` says, and what a commit is made of `drafting.py`.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Protocol

import msgspec

from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.model.command import Restart, StartAction
from workflow_worker.model.environment import Alarm
from workflow_worker.model.event import Mail
from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.record import Record, RunStarted, encode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import Commit, CommitOutcome, LeasedRun, Loaded, Mode
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.course import Course, Surroundings
from workflow_worker.worker.drafting import with_the_rest
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.outcomes import ending_of
from workflow_worker.worker.progress import Progress
from workflow_worker.worker.steps import Steps

_PYTHON = ".".join(platform.python_version_tuple()[:2])
_FAILED = (RunStatus.SUSPENDED, RunStatus.FAILED)
_KEEP, _RELEASE = Mode.KEEP, Mode.RELEASE  # a look at an enum costs ten times as much as one at a global
_GOES_ON = (Mode.KEEP, RunStatus.RUNNING, None)
_RESTS = (Mode.RELEASE, RunStatus.WAITING, None)


class Host(Surroundings, Protocol):
    """What an executor needs of the worker that holds its run."""

    limits: WorkerLimits
    release: str
    session: SessionId
    draining: bool

    def next_commit_id(self) -> CommitId:
        """A commit id that was never used."""
        ...

    def perform(self, executor: RunExecutor, start: StartAction) -> Attempt:
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
        "_course",
        "_definition",
        "_host",
        "_polling",
        "_sent",
        "_sent_progress",
        "base",
        "history",
        "leased_at",
        "needs_history",
        "ref",
        "token",
        "version",
    )

    def __init__(self, host: Host, leased: LeasedRun, leased_at: float) -> None:
        self.ref: RunRef = leased.ref
        self.token = leased.token
        self.base = leased.cid
        self.version = leased.version
        self.leased_at = leased_at
        self.needs_history = leased.cid != NO_COMMIT or leased.start is None
        self.history: Loaded | None = None
        """What was loaded for it while it waited for a slot."""
        self._host = host
        self._course = Course(host, leased.ref, leased.created_at, leased.cid == NO_COMMIT)
        self._definition: WorkflowDefinition | None = None
        self._sent: Commit | None = None
        """The commit under way, and what it writes of the run's progress."""
        self._sent_progress: Progress | None = None
        self._polling = False
        self._alarm: Alarm | None = None

    # ------------------------------------------------------------------------------------------ the ways into a lease

    def begin(self, leased: LeasedRun, definition: WorkflowDefinition) -> None:
        """A run without any commit: start its workflow and take in what came with it."""
        assert leased.start is not None
        self._definition = definition
        self._course.begin(definition, leased.start, self.leased_at)
        self.take_mail(leased.mail)
        self.settle()

    def replay(self, loaded: Loaded, definition: WorkflowDefinition) -> None:
        """A run with a history that this worker does not have in memory."""
        self._definition = definition
        self.needs_history, self.history = False, None
        self.base = loaded.cid
        self._course.replay(definition, loaded, self.leased_at)
        self.take_mail(loaded.mail)
        self.settle()

    def lease(self, token: int) -> None:
        """A run at rest in the cache is leased again; `resume` follows when it has a slot."""
        self.token = token
        self._polling = False

    def resume(self, leased: LeasedRun, leased_at: float) -> None:
        """A run at rest in the cache whose last commit is the one that the cache saw: no replay needed."""
        self.leased_at = leased_at
        if self._course.steps is not None:
            self._course.steps.forget_left()
        self.take_mail(leased.mail)
        self.settle()

    # ---------------------------------------------------------------------------------------------- what happens to it

    def take_mail(self, mail: Sequence[Mail]) -> None:
        """Make records of all that was handed over, in order."""
        if mail:
            self._course.take_mail(mail, self.leased_at)

    def note_mail(self) -> None:
        """There may be mail behind what was handed over: the first commit fetches it."""
        self._polling = True

    def poll_mail(self) -> None:
        """There may be mail: fetch it with a commit, the next one if one is under way."""
        self._polling = True
        self.settle()

    def attempt_ended(self, attempt: Attempt, ended: Ended) -> None:
        """One attempt of an action is over; record what it means."""
        course, steps = self._course, self._course.steps
        if steps is None or steps.attempts.get(attempt.start.number) is not attempt:
            return  # abandoned: cancelled by the run, or the lease was lost
        course.progress.attempts += 1
        self._host.ended_attempt(self, ended)
        record = steps.ended(attempt, ended, course.at())
        if record is not None:
            course.feed((record,))
        self.settle()

    def note_left(self, attempt: Attempt) -> None:
        """A body that was given up runs on with our token: before the next attempt starts, the run is handed back, so
        that the token rises and whatever checks tokens refuses what the body still does."""
        self._course.needed_steps.note_left(attempt)

    def transient_failures(self, number: int) -> int:
        """How often this step failed transiently so far."""
        steps = self._course.steps
        return 0 if steps is None else steps.transient_failures(number)

    def commit_answered(self, outcome: CommitOutcome) -> None:
        """The store's word about the commit that `build_commit` made."""
        sent, progress = self._sent, self._sent_progress
        assert sent is not None
        assert progress is not None
        self._sent = self._sent_progress = None
        if outcome.mail:
            self._polling = False
        match outcome.word:
            case "ok" | "again":
                self._accepted(sent, progress, outcome)
            case "mail":
                course = self._course
                course.progress = progress.before(course.progress)
                if course.steps is not None:
                    course.steps.refused()
                self.take_mail(outcome.mail)
                self.settle()
            case "conflict":
                self._host.give_back(self)
            case _:
                self._host.lose(self, outcome.word)

    def count_accepted(self) -> None:
        """The commit under way was written, though the lease has gone meanwhile: its events are processed."""
        if self._sent is not None and self._sent_progress is not None:
            self._host.recorded(self, self._sent_progress, self._sent.status in _FAILED)

    def _accepted(self, sent: Commit, progress: Progress, outcome: CommitOutcome) -> None:
        host, course = self._host, self._course
        self.base = sent.cid
        course.records += len(sent.records)
        host.recorded(self, progress, sent.status in _FAILED)
        if not outcome.held:
            if outcome.word == "again" and sent.mode is _KEEP:
                host.lose(self, "fenced")
            else:
                host.rest(self, sent.status, course.failure)
            return
        if course.steps is not None:
            self._perform(course.steps, course.steps.take_cleared(self._withholds(course.steps)))
        if sent.restart is not None:
            self._begin_anew(sent.restart, sent.began_at)
        self.take_mail(outcome.mail)
        self.settle()

    def _begin_anew(self, start: Mail, began_at: int | None) -> None:
        assert self._definition is not None
        assert began_at is not None
        if self._alarm is not None:
            self._cancel_alarm()
        self._course.begin_anew(self._definition, start, began_at)

    def break_off(self, failure: Failure) -> bool:
        """Suspend a run that breaks every worker's code for it; False while a commit is under way.

        What was not committed is dropped, mail included: the store still has it.
        """
        if self._sent is not None or self._definition is None:
            return False
        if self._alarm is not None:
            self._cancel_alarm()
        self._course.break_off(failure)
        self._host.ask_commit(self)
        return True

    # ------------------------------------------------------------------------------------------------------- decisions

    def settle(self) -> None:
        """Decide what is next; safe to call at any time."""
        if self._alarm is not None:
            self._cancel_alarm()
        if self._sent is not None or self._definition is None:
            return  # the answer to the commit, or the history that is being loaded, will bring us here again
        course, steps = self._course, self._course.steps
        if steps is not None and (steps.unheard or steps.timers or steps.retries):
            course.bring_up_to_date(steps)
        if course.outcome is not None:
            if steps is not None:
                steps.abandon()
            self._host.ask_commit(self)
            return
        if steps is None or course.progress.records or course.progress.dirty or self._polling:
            self._host.ask_commit(self)
        else:
            self._go_on(steps)
        if steps is not None and (steps.timers or steps.retries):
            self._set_alarm(steps)

    def _go_on(self, steps: Steps) -> None:
        """Everything is written: begin what waited for that, or let the run go when it has come to rest."""
        under_way = bool(steps.attempts)
        if steps.parked is not None:
            if not under_way:
                self._host.ask_commit(self)
        elif not steps.starts:
            if not under_way and not self._lingers(steps):
                self._host.ask_commit(self)
        elif not self._withholds(steps):
            self._perform(steps, steps.take_starts())
        elif not under_way:
            self._host.give_back(self)

    def _perform(self, steps: Steps, starts: Sequence[StartAction]) -> None:
        for start in starts:
            steps.attempts[start.number] = self._host.perform(self, start)

    def _withholds(self, steps: Steps) -> bool:
        """Whether attempts may not start: the worker drains, or a body that we cannot stop has our token."""
        return self._host.draining or steps.left_running

    def _lingers(self, steps: Steps) -> bool:
        """Whether the next timer is so near that releasing the run would cost more than keeping it."""
        due = steps.next_due
        return (
            due is not None
            and steps.parked is None
            and not self._withholds(steps)
            and due - self._host.now_ms() <= self._host.limits.linger_ms
        )

    # ---------------------------------------------------------------------------------------------- building commits

    def build_commit(self) -> Commit:
        """Everything not yet written, as one commit; the run waits for its answer from here on."""
        if self._alarm is not None:
            self._cancel_alarm()  # the answer decides whether the run's timers are still ours
        course = self._course
        progress, course.progress = course.progress, Progress()
        now = course.at()
        mode, status, last = self._ending(course, now)
        self._polling = False
        if course.new:
            progress.records.insert(0, encode_record(RunStarted(course.created_at, _PYTHON, self._host.release)))
            course.new = False
        # The end is no part of the progress: refused because of mail, the run ends again behind that mail.
        records = tuple(progress.records) if last is None else (*progress.records, encode_record(last))
        if mode is _KEEP and course.steps is not None:
            course.steps.send()
        self._sent_progress = progress
        self._sent = commit = self._draft(progress, records, mode, status, now)
        return commit

    def _draft(self, progress: Progress, records: tuple[bytes, ...], mode: Mode, status: RunStatus, now: int) -> Commit:
        host, course = self._host, self._course
        outcome, steps, start = course.outcome, course.steps, course.start
        cid = host.next_commit_id()
        plain = Commit(
            self.ref, host.session, self.token, self.base, cid, records, status, mode, attempts=progress.attempts
        )
        if progress.is_plain and outcome is None and (steps is None or mode is _KEEP):
            return plain
        released = mode is _RELEASE and status is RunStatus.WAITING
        restart = None
        if isinstance(outcome, Restart):
            restart, records = course.next_history(outcome, now)
            plain = msgspec.structs.replace(plain, records=records)
        return with_the_rest(
            plain,
            progress,
            outcome,
            failure=course.failure,
            start=None if start is None else start.event,
            wake=steps.next_due if released and steps is not None else None,
            restart=restart,
            began_at=None if restart is None else now,
        )

    def _ending(self, course: Course, now: int) -> tuple[Mode, RunStatus, Record | None]:
        steps = course.steps
        if course.outcome is not None:
            return ending_of(course.outcome, now, course.unmatched)
        if steps is not None:
            if steps.parked is not None and not steps.attempts:
                return Mode.RELEASE, RunStatus.SUSPENDED, None
            if steps.attempts or steps.starts or steps.parked is not None or self._lingers(steps):
                return _GOES_ON
        return _GOES_ON if self._polling else _RESTS

    # -------------------------------------------------------------------------------------------------- ends and alarms

    def close(self) -> None:
        """Destroy the run in memory: no code of it runs after this, and no command comes of it."""
        if self._alarm is not None:
            self._cancel_alarm()
        self._course.close()

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self, steps: Steps) -> None:
        due = steps.next_due
        if due is not None and self._sent is None and steps.parked is None:
            self._alarm = self._host.call_at(due, self)

    # ------------------------------------------------------------------------------------------- what others may know

    @property
    def cacheable(self) -> bool:
        """Whether the run can rest in memory and go on later without a replay."""
        return self._course.resumable

    @property
    def next_due(self) -> int | None:
        """When the run's next timer or retry is due."""
        return None if self._course.steps is None else self._course.steps.next_due

    @property
    def recording_last(self) -> bool:
        """Whether a commit is under way that lets the run go: a renewal that misses it is no loss."""
        return self._sent is not None and self._sent.mode is not _KEEP

    @property
    def complaints(self) -> tuple[str, ...]:
        """Errors in the run's tasks that nobody awaited, and a history that has become long."""
        execution = self._course.execution
        found = execution.complaints if execution is not None else ()
        most = self._host.limits.history_warn_records
        if not most or self.records < most:
            return found
        return (
            *found,
            f"the history has {self.records} records (HISTORY_WARN_RECORDS is {most}): use wf.continue_as_new, or"
            " several runs",
        )

    @property
    def start_event_id(self) -> str:
        """Id of the event that started the run."""
        start = self._course.start
        return start.event.id if start is not None else ""

    @property
    def records(self) -> int:
        """How many the history has."""
        return self._course.records
