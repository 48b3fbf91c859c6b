"""`Holdings`: every run that this worker holds, from its lease to its rest, and the slots in which they execute."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from workflow_worker.app.attempt import AttemptLog
from workflow_worker.app.registry import App
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.model.command import StartAction
from workflow_worker.model.environment import Alarm, CallLater, Environment
from workflow_worker.model.facts import Emit
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId, split_run_ref
from workflow_worker.model.run import RunStatus
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.runtime.closing import Graveyard
from workflow_worker.store.transitions import LeasedRun, Loaded
from workflow_worker.worker.actions import Performer
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.cache import Cache
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.isolation import ALONE_S, NOT_BEFORE_MS, Isolation
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.planning import Load
from workflow_worker.worker.progress import Progress
from workflow_worker.worker.queues import CommitQueue, ErrandQueue
from workflow_worker.worker.recovering import as_seen
from workflow_worker.worker.reporting import Reporting

_UNKNOWN_CODE_DELAY_MS = 1_000
_BROKEN_RUN_DELAY_MS = 5_000
_BROKEN_AT_MOST = 3
_BROKEN_RUNS_NOTED = 1_000

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Holdings:
    """The `Host` of all executors, and the bookkeeping between intake, committer and session keeper.

    A held run is *leased* (waits for a slot), *executing* (has a slot), or *recording* (only its last commit is under
    way, which costs no slot).
    """

    def __init__(
        self,
        *,
        worker: str,
        app: App,
        limits: WorkerLimits,
        release: str,
        environment: Environment,
        clock: ServerClock,
        signs: VitalSigns,
        emit: Emit,
    ) -> None:
        self.app = app
        self.limits = limits
        self.release = release
        self.session = SessionId("")
        self.draining = False
        self.reporting = Reporting(worker=worker, detail=limits.detail, environment=environment, signs=signs, emit=emit)
        self._environment = environment
        self._clock = clock
        self._signs = signs
        self._loop = asyncio.get_running_loop()
        self._call_later: CallLater = environment.call_later or self._loop.call_later
        self._held: dict[RunRef, RunExecutor] = {}
        self._waiting: deque[tuple[LeasedRun, float]] = deque()
        self._executing: set[RunExecutor] = set()
        self.commits = CommitQueue(limits.concurrency_limit, self._waiting)
        self.errands = ErrandQueue()
        self.ask_commit = self.commits.ask
        self._commits = 0
        self._filling = False
        self._busy = 0
        self._broken: dict[RunRef, int] = {}
        self._isolation = Isolation(limits.max_takeovers, environment.monotonic)
        self._suspect: tuple[LeasedRun, float] | None = None
        """The suspect, while it waits for being alone; the others that wait for a slot come behind it."""
        self.graveyard = Graveyard()
        self.cache = Cache(limits.cached_runs)
        self.performer: Performer | None = None
        self.changed = asyncio.Event()
        """Set whenever there may be room, or less to wait for before the worker can end; who waits on it clears it."""
        self.interrupt = asyncio.Event()
        """Set while the intake must not take more: the worker drains, or its session is gone."""
        self.on_wake: Callable[[int], None] = lambda due_ms: None
        self.on_idle: Callable[[], None] = lambda: None
        """Called when nothing executes and nothing waits for a slot."""

    def __enter__(self) -> None:
        """``with holdings:`` something is done to many runs, without an `await`: what follows for all (slots, counts,
        waking others) is done once, behind it."""
        self._filling = True

    def __exit__(self, *_: object) -> None:
        self._filling = False
        self.start_waiting()

    def guard(self, step: Callable[[RunExecutor, *Ts], R], executor: RunExecutor, *args: *Ts) -> R | None:
        """Take one step of one run; an error that nobody foresaw costs this run a delay, and the others nothing.

        The third time within this worker's life the run is suspended with the error, for a person to look at.
        """
        try:
            return step(executor, *args)
        except BaseException as error:  # noqa: BLE001 - the boundary between runs; authors' code may raise SystemExit
            self.broke(executor, error)
            return None

    def broke(self, executor: RunExecutor, error: BaseException) -> None:
        """A run could not be driven."""
        failure = describe(error, ErrorKind.PERMANENT)
        self.reporting.part_failed(f"run {executor.ref}", failure)
        times = self._broken[executor.ref] = self._broken.pop(executor.ref, 0) + 1
        while len(self._broken) > _BROKEN_RUNS_NOTED:
            del self._broken[next(iter(self._broken))]
        if times < _BROKEN_AT_MOST or not self.holds(executor) or not executor.break_off(failure):
            self.give_back(executor, _BROKEN_RUN_DELAY_MS)

    # ------------------------------------------------------------------------------------------------------ intake side

    def load(self, backlog: bool = False) -> Load:
        """What the intake must know to plan; `backlog` is what it knows itself."""
        executing, leased = len(self._executing), len(self._waiting) + (self._suspect is not None)
        recording = len(self._held) - executing - leased
        isolation = self._isolation
        return Load(executing, leased, recording, backlog, isolation.suspect is not None, isolation.wary)

    @property
    def waiting_since(self) -> float:
        """When the run that waits longest for a slot was leased, by the monotonic clock; infinity if none waits."""
        return self._waiting[0][1] if self._waiting else math.inf

    def accept(self, runs: tuple[LeasedRun, ...]) -> None:
        """Runs that an ingest leased for us."""
        now = self._environment.monotonic()
        admission = self._isolation.admit(runs)
        for leased, delay_ms in admission.back:
            self.errands.hand_back(leased.ref, leased.token, delay_ms)
        for leased in admission.kept:
            older = self._held.pop(leased.ref, None)
            if older is not None:
                self._forget(older)
                self._close(older)
            executor = self.cache.take(leased.ref, leased.cid) if leased.cid != NO_COMMIT else None
            if executor is not None:
                executor.lease(leased.token)
            else:
                executor = RunExecutor(self, leased, now)
                if executor.needs_history:
                    self.errands.load(executor)  # at once: it is there when a slot is free
            self._held[leased.ref] = executor
            if leased.ref == self._isolation.suspect:
                self._suspect = leased, now
                self._call_later(ALONE_S, self.start_waiting)
            else:
                self._waiting.append((leased, now))
            if leased.strikes or self.limits.detail:
                self.reporting.leased(leased)
        if self.draining:
            self.hand_back_overdue()  # an ingest that was under way when the drain began
        if len(runs) > 1:
            # Two turns later: the intake asks for more first, and that is written, so that the server works while these
            # execute. A lone run waits for nothing.
            self._loop.call_soon(self._loop.call_soon, self.start_waiting)
        else:
            self.start_waiting()

    def start_waiting(self) -> None:
        """Give free slots to leased runs, in the order in which they came."""
        if self._filling:
            return  # called by a run that ended at once, or one of many that are told something: the caller does it
        self._filling = True
        try:
            self._fill_slots()
        finally:
            self._filling = False
            self._count()

    def _count(self) -> None:
        """Show what is held; once for a batch, because the vital signs are memory that processes share."""
        executing, held = len(self._executing), len(self._held)
        busy = executing + len(self._waiting) + (self._suspect is not None)
        if busy < self._busy or held < self._signs.held:
            self.changed.set()
        self._busy = busy
        self._signs.executing, self._signs.held = executing, held
        self.reporting.show_counts()
        if not busy:
            self.on_idle()

    def _fill_slots(self) -> None:
        if self._suspect is not None:
            self._start_alone(*self._suspect)
        while self._waiting and len(self._executing) < self.limits.concurrency_limit and not self.draining:
            if self._isolation.suspect is not None:
                return
            leased, since = self._waiting.popleft()
            executor = self._held.get(leased.ref)
            if executor is None or executor.token != leased.token:
                continue
            self._executing.add(executor)
            self._start(executor, leased, since)

    def _start_alone(self, leased: LeasedRun, since: float) -> None:
        """Start the suspect, but not before the others are safe: a death now would be held against them."""
        executing = len(self._executing)
        if self.draining or executing >= self.limits.concurrency_limit or self.errands.handing_back:
            return
        if not self._isolation.may_begin(in_company=executing > 0):
            return
        self._suspect = None
        executor = self._held[leased.ref]
        self._executing.add(executor)
        self._isolation.begin()
        self._call_later(ALONE_S, self._alone_long_enough, leased.ref)
        self._start(executor, leased, since)

    def _alone_long_enough(self, ref: RunRef) -> None:
        if self._isolation.alone_long_enough(ref):
            self._others_again()

    def _cleared(self, ref: RunRef) -> None:
        """The run has made a record, or is here no more."""
        if self._suspect is not None and self._suspect[0].ref == ref and ref not in self._held:
            self._suspect = None
        if self._isolation.recorded(ref):
            self._others_again()

    def _others_again(self) -> None:
        self.changed.set()
        self.start_waiting()

    def _start(self, executor: RunExecutor, leased: LeasedRun, since: float) -> None:
        if executor.cacheable:
            self.guard(RunExecutor.resume, executor, leased, since)
            return
        if executor.needs_history:
            if executor.history is not None:
                self._replay(executor, executor.history)
            return
        definition = self._definition_of(executor)
        if definition is None:
            return
        try:
            executor.begin(leased, definition)
        except BaseException as error:  # noqa: BLE001 - as in `guard`, without a further call for each run
            self.broke(executor, error)

    def _definition_of(self, executor: RunExecutor) -> WorkflowDefinition | None:
        """The workflow's code; without it the run goes back, for a worker that has it."""
        workflow, _ = split_run_ref(executor.ref)
        definition = self.app.find_workflow(workflow, executor.version)
        if definition is None:
            self.give_back(executor, _UNKNOWN_CODE_DELAY_MS)
        return definition

    def loaded(self, executor: RunExecutor, loaded: Loaded | None) -> None:
        """History and mailbox of a run that is not in memory."""
        if self._held.get(executor.ref) is not executor:
            return
        if loaded is None:
            self.lose(executor, "fenced")
        elif executor in self._executing:
            self._replay(executor, loaded)
        else:
            executor.history = loaded

    def _replay(self, executor: RunExecutor, history: Loaded) -> None:
        definition = self._definition_of(executor)
        if definition is not None:
            self.guard(RunExecutor.replay, executor, history, definition)

    def hand_back_overdue(self) -> None:
        """Hand back what has waited too long for a slot: another worker may have one."""
        limit = self._environment.monotonic() - self.limits.start_within_ms / 1000
        while self._waiting and (self.draining or self._waiting[0][1] < limit):
            leased, _ = self._waiting.popleft()
            executor = self._held.get(leased.ref)
            if executor is not None and executor.token == leased.token:
                self.give_back(executor)
        if self._suspect is not None and (self.draining or self._suspect[1] < limit - ALONE_S):
            self.give_back(self._held[self._suspect[0].ref], 0 if self.draining else NOT_BEFORE_MS)

    # ---------------------------------------------------------------------------------------------- committer's side

    def recording(self, executor: RunExecutor) -> None:
        """The commit under way is to be the run's last for now: its slot is free; `start_waiting` fills it."""
        self._executing.discard(executor)

    def still_executing(self, executor: RunExecutor) -> None:
        """The store did not let it go: it needs a slot again, even above the limit."""
        if self._held.get(executor.ref) is executor:
            self._executing.add(executor)
            self._signs.executing = len(self._executing)

    def holds(self, executor: RunExecutor) -> bool:
        """Whether this lease of the run is still ours."""
        return self._held.get(executor.ref) is executor

    # ----------------------------------------------------------------------------------------------- session's side

    def pairs(self) -> list[tuple[RunRef, int]]:
        """All held runs with their tokens. Called from the session keeper's thread: `list` of a dict's items is one
        step for the interpreter."""
        return [(ref, executor.token) for ref, executor in list(self._held.items())]

    def reconcile(self, lost: tuple[tuple[RunRef, int], ...], mail: tuple[RunRef, ...]) -> None:
        """What a renewal said: pairs that are ours no more, and runs for which mail has come."""
        for ref, token in lost:
            executor = self._held.get(ref)
            if executor is not None and executor.token == token and not executor.recording_last:
                self.lose(executor, "lost at renewal")
        for ref in mail:
            self.hint(ref)

    def hint(self, ref: RunRef) -> None:
        """Mail may have come for a held run."""
        executor = self._held.get(ref)
        if executor is None:
            return
        if executor in self._executing:
            self.guard(RunExecutor.poll_mail, executor)
        else:
            executor.note_mail()

    def drop_all(self, reason: str) -> None:
        """The session is gone: nothing that we hold is ours any more."""
        self._waiting.clear()
        self._suspect = None
        for executor in list(self._held.values()):
            self.lose(executor, reason)
        self.errands.clear()
        self.interrupt.set()

    def forget_runs(self) -> None:
        """What is remembered of runs that are not held belongs to another namespace."""
        self.cache.clear()
        self._broken.clear()

    def begin_drain(self) -> None:
        """Take no new work; let what executes reach the end of its attempts."""
        self.draining = True
        self.interrupt.set()
        self.hand_back_overdue()
        for executor in list(self._executing):
            self.guard(RunExecutor.settle, executor)
        self.changed.set()

    def abandon_all(self) -> None:
        """Stop every attempt and drop every run; they go back with the session.

        Not the attempts alone: a run without attempts would seem to wait, and be released without its actions.
        """
        self._waiting.clear()
        self._suspect = None
        self.errands.forget_loads()
        for executor in list(self._held.values()):
            self._remove(executor)
            executor.close()

    @property
    def empty(self) -> bool:
        """Whether nothing is held and nothing is left to say."""
        return not self._held and self.errands.empty

    # -------------------------------------------------------------------------------------------------------- the Host

    def now_ms(self) -> int:
        """The server's time."""
        return self._clock.now_ms()

    def next_commit_id(self) -> CommitId:
        """A commit id that was never used: (session, number)."""
        self._commits += 1
        return CommitId(f"{self.session}/{self._commits}")

    def perform(self, executor: RunExecutor, start: StartAction) -> Attempt:
        """Begin one attempt."""
        assert self.performer is not None
        return self.performer.perform(executor, start)

    def call_at(self, due_ms: int, executor: RunExecutor) -> Alarm:
        """Settle the run when `due_ms` has come."""
        delay_s = max(0, due_ms - self._clock.now_ms()) / 1000
        return self._call_later(delay_s, self.guard, RunExecutor.settle, executor)

    def recorded(self, executor: RunExecutor, progress: Progress, failed: bool) -> None:
        """A commit was accepted: count its events."""
        if progress.records and self._isolation.watches:
            self._cleared(executor.ref)
        self.reporting.recorded(executor.ref, progress, failed)

    def rejected(self, ref: RunRef, entry: str, reason: str) -> None:
        """A mail does not fit its class."""
        self.reporting.rejected(ref, entry, reason)

    def ended_attempt(self, executor: RunExecutor, ended: Ended) -> None:
        """Report and count one attempt."""
        if ended.failure is not None or self.limits.detail:
            self.reporting.attempt_ended(executor.ref, ended)

    def attempt_started(self, executor: RunExecutor, start: StartAction) -> None:
        """An attempt begins."""
        self.reporting.attempt_started(executor.ref, start)

    def attempt_log(self, executor: RunExecutor, start: StartAction) -> AttemptLog:
        """The logger behind ``action.log``."""
        return self.reporting.attempt_log(executor.ref, start)

    def attempt_ended(self, executor: RunExecutor, attempt: Attempt, ended: Ended) -> None:
        """An attempt is over; the run goes on with what it brought."""
        try:
            executor.attempt_ended(attempt, ended)
        except BaseException as error:  # noqa: BLE001 - as in `guard`, without a further call for each attempt
            self.broke(executor, error)

    def attempt_left(self, executor: RunExecutor, attempt: Attempt) -> None:
        """An attempt was given up and its body goes on: the run's next attempt must have a higher token."""
        if self.holds(executor) and executor.token == attempt.token:
            executor.note_left(attempt)

    def attempt_hung(self, executor: RunExecutor, attempt: Attempt, hanging: int) -> None:
        """That body does not end."""
        self.reporting.attempt_hung(executor.ref, as_seen(attempt.start), hanging)

    def attempt_gone(self, executor: RunExecutor, hanging: int) -> None:
        """The body of an attempt that was given up has ended after all."""
        self.reporting.hanging(hanging)
        if self.holds(executor) and executor in self._executing:
            self.guard(RunExecutor.settle, executor)

    def rest(self, executor: RunExecutor, status: RunStatus, failure: Failure | None) -> None:
        """The run left this worker's hands in good order."""
        self._remove(executor)
        if status is RunStatus.WAITING and executor.cacheable:
            due = executor.next_due
            self.reporting.complained(executor.ref, executor.complaints)
            self.cache.put(executor)
            if due is not None:
                self.on_wake(due)
        else:
            self._close(executor)
        self.reporting.rested(executor.ref, status, failure, executor.records, executor.leased_at)

    def give_back(self, executor: RunExecutor, delay_ms: int = 0) -> None:
        """Hand the run back to ``ready``, uncounted; its memory is dropped, since it may be ahead of the store."""
        self.errands.hand_back(executor.ref, executor.token, delay_ms)
        self._remove(executor)
        self._close(executor)

    def lose(self, executor: RunExecutor, word: str) -> None:
        """The run is another's now."""
        self._remove(executor)
        self._close(executor)
        self.reporting.lost(executor.ref, executor.token, word)

    def _close(self, executor: RunExecutor) -> None:
        """Destroy the run in memory, and tell what nobody in it wanted to hear."""
        complaints = executor.complaints
        if complaints:
            self.reporting.complained(executor.ref, complaints)
        executor.close()

    def _remove(self, executor: RunExecutor) -> None:
        if self._held.get(executor.ref) is executor:
            del self._held[executor.ref]
            if self._isolation.watches:
                self._cleared(executor.ref)
        self._forget(executor)
        self.start_waiting()

    def _forget(self, executor: RunExecutor) -> None:
        self._executing.discard(executor)
        self.commits.discard(executor)
