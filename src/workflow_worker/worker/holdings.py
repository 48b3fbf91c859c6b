"""`Holdings`: every run that this worker holds, from its lease to its rest, and the slots in which they execute."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from workflow_worker.app.attempt import AttemptLog
from workflow_worker.app.registry import App
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.model.command import StartAction
from workflow_worker.model.environment import Environment
from workflow_worker.model.facts import (
    AttemptEnded,
    AttemptLogged,
    AttemptStarted,
    CommitRefused,
    Emit,
    EventProcessed,
    LeaseLost,
    MailRejected,
    PartFailed,
    RunLeased,
    RunRested,
)
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId, split_run_ref
from workflow_worker.model.run import RunStatus
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.store.transitions import LeasedRun, Loaded
from workflow_worker.worker.actions import Performer
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.cache import Cache
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.planning import Load
from workflow_worker.worker.progress import Progress

_UNKNOWN_CODE_DELAY_MS = 1_000
_BROKEN_RUN_DELAY_MS = 5_000
_BROKEN_AT_MOST = 3
SUSPECT_STRIKES = 2
"""Deaths of its holder without a record in between that make a run suspect. One is nobody's fault: every run that the
worker held has it."""
_BROKEN_RUNS_NOTED = 1_000

P = ParamSpec("P")
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
        self._worker = worker
        self._environment = environment
        self._clock = clock
        self._signs = signs
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._held: dict[RunRef, RunExecutor] = {}
        self._waiting: deque[tuple[LeasedRun, float]] = deque()
        self._executing: set[RunExecutor] = set()
        self._to_commit: dict[RunExecutor, None] = {}
        self._to_load: deque[RunExecutor] = deque()
        self._to_hand_back: deque[tuple[RunRef, int, int]] = deque()
        self._commits = 0
        self._starting = False
        self._broken: dict[RunRef, int] = {}
        self._handing_back = False
        self.suspect: RunRef | None = None
        """The run that is executed alone; there is no room for others meanwhile."""
        self.cache = Cache(limits.cached_runs)
        self.performer: Performer | None = None
        self.changed = asyncio.Event()
        """Set whenever room, work to commit, to load or to hand back may have appeared; the parts clear what they
        wait on by themselves."""
        self.interrupt = asyncio.Event()
        """Set while the intake must not take more: the worker drains, or its session is gone."""
        self.commit_wanted = asyncio.Event()
        self.errand_wanted = asyncio.Event()
        self.on_wake: Callable[[int], None] = lambda due_ms: None

    def guard(
        self, step: Callable[Concatenate[RunExecutor, P], R], executor: RunExecutor, *args: P.args, **kwargs: P.kwargs
    ) -> R | None:
        """Take one step of one run; an error that nobody foresaw costs this run a delay, and the others nothing.

        The third time within this worker's life the run is suspended with the error, for a person to look at.
        """
        try:
            return step(executor, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the boundary between runs; authors' code may raise SystemExit
            self.broke(executor, error)
            return None

    def report(self, part: str, error: BaseException) -> None:
        """Something failed that nobody foresaw, and the work goes on."""
        self._emit(PartFailed(self._worker, part, describe(error)))

    def broke(self, executor: RunExecutor, error: BaseException) -> None:
        """A run could not be driven."""
        failure = describe(error, ErrorKind.PERMANENT)
        self._emit(PartFailed(self._worker, f"run {executor.ref}", failure))
        times = self._broken[executor.ref] = self._broken.pop(executor.ref, 0) + 1
        while len(self._broken) > _BROKEN_RUNS_NOTED:
            del self._broken[next(iter(self._broken))]
        if times < _BROKEN_AT_MOST or not self.holds(executor) or not executor.break_off(failure):
            self.give_back(executor, _BROKEN_RUN_DELAY_MS)

    # ------------------------------------------------------------------------------------------------------ intake side

    def load(self) -> Load:
        """What the intake must know to plan."""
        executing, leased = len(self._executing), len(self._waiting)
        recording = len(self._held) - executing - leased
        return Load(executing=executing, leased=leased, recording=recording, alone=self.suspect is not None)

    def accept(self, runs: tuple[LeasedRun, ...]) -> None:
        """Runs that an ingest leased for us."""
        now = self._environment.monotonic()
        for leased in self._isolated(runs):
            older = self._held.pop(leased.ref, None)
            if older is not None:
                self._forget(older)
                older.close()
            executor = self.cache.take(leased.ref, leased.cid) if leased.cid != NO_COMMIT else None
            if executor is None:
                executor = RunExecutor(self, leased, now)
            self._held[leased.ref] = executor
            executor.token = leased.token
            self._waiting.append((leased, now))
            self._signs.takeovers += 1 if leased.strikes else 0
            if self.limits.detail or leased.strikes:
                self._emit(RunLeased(self._worker, leased.ref, leased.token, leased.strikes, len(leased.mail)))
        self._signs.held = len(self._held)
        if self.draining:
            self.hand_back_overdue()  # an ingest that was under way when the drain began
        self.start_waiting()

    def _isolated(self, runs: tuple[LeasedRun, ...]) -> tuple[LeasedRun, ...]:
        """A run whose holders died again and again may be what kills them, and must not drag others along: it is
        executed alone until it has made a record, and the others go to somebody else."""
        suspect = next((leased for leased in runs if leased.strikes >= SUSPECT_STRIKES), None)
        if suspect is None:
            return runs
        self.suspect = suspect.ref
        for leased in runs:
            if leased is not suspect:
                self._to_hand_back.append((leased.ref, leased.token, 0))
                self._handing_back = True
                self.errand_wanted.set()
        return (suspect,)

    def _cleared(self, ref: RunRef) -> None:
        if ref == self.suspect:
            self.suspect = None
            self.changed.set()

    def start_waiting(self) -> None:
        """Give free slots to leased runs, in the order in which they came."""
        if self._starting:
            return  # called again by a run that ended at once: the loop below goes on with the next
        self._starting = True
        try:
            self._fill_slots()
        finally:
            self._starting = False

    def _fill_slots(self) -> None:
        while self._waiting and len(self._executing) < self.limits.concurrency_limit and not self.draining:
            if self._waiting[0][0].ref == self.suspect and (self._executing or self._handing_back):
                return  # not before the others are safe: a death now would be held against them
            leased, since = self._waiting.popleft()
            executor = self._held.get(leased.ref)
            if executor is None or executor.token != leased.token:
                continue
            self._executing.add(executor)
            self._signs.executing = len(self._executing)
            self._start(executor, leased, since)

    def _start(self, executor: RunExecutor, leased: LeasedRun, since: float) -> None:
        if executor.cacheable:
            self.guard(RunExecutor.resume, executor, leased, since)
            return
        if leased.cid != NO_COMMIT or leased.start is None:
            self._to_load.append(executor)
            self.errand_wanted.set()
            return
        definition = self._definition_of(executor)
        if definition is not None:
            self.guard(RunExecutor.begin, executor, leased, definition)

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
            return
        definition = self._definition_of(executor)
        if definition is not None:
            self.guard(RunExecutor.replay, executor, loaded, definition)

    def hand_back_overdue(self) -> None:
        """Hand back what has waited too long for a slot: another worker may have one."""
        limit = self._environment.monotonic() - self.limits.start_within_ms / 1000
        while self._waiting and (self.draining or self._waiting[0][1] < limit):
            leased, _ = self._waiting.popleft()
            executor = self._held.get(leased.ref)
            if executor is not None and executor.token == leased.token:
                self.give_back(executor)

    # ---------------------------------------------------------------------------------------------- committer's side

    def take_commits(self, most: int) -> list[RunExecutor]:
        """Runs that want to commit, at most `most`."""
        chosen: list[RunExecutor] = []
        while self._to_commit and len(chosen) < most:
            executor = next(iter(self._to_commit))
            del self._to_commit[executor]
            chosen.append(executor)
        if not self._to_commit:
            self.commit_wanted.clear()
        return chosen

    def recording(self, executor: RunExecutor) -> None:
        """The commit under way is to be the run's last for now: its slot is free."""
        self._executing.discard(executor)
        self._signs.executing = len(self._executing)

    def still_executing(self, executor: RunExecutor) -> None:
        """The store did not let it go: it needs a slot again, even above the limit."""
        if self._held.get(executor.ref) is executor:
            self._executing.add(executor)
            self._signs.executing = len(self._executing)

    def holds(self, executor: RunExecutor) -> bool:
        """Whether this lease of the run is still ours."""
        return self._held.get(executor.ref) is executor

    # ------------------------------------------------------------------------------------------------- errands (loads)

    def take_loads(self, most: int) -> list[RunExecutor]:
        """Runs whose history must be read."""
        return [self._to_load.popleft() for _ in range(min(most, len(self._to_load)))]

    def take_hand_backs(self) -> list[tuple[RunRef, int, int]]:
        """Pairs to hand back, with the delay in ms."""
        taken = list(self._to_hand_back)
        self._to_hand_back.clear()
        self._handing_back = bool(taken)
        return taken

    def handed_back(self) -> None:
        """All that `take_hand_backs` gave is with the store."""
        self._handing_back = bool(self._to_hand_back)
        self.start_waiting()

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
        if executor is not None and executor in self._executing:
            self.guard(RunExecutor.poll_mail, executor)

    def drop_all(self, reason: str) -> None:
        """The session is gone: nothing that we hold is ours any more."""
        self._waiting.clear()
        for executor in list(self._held.values()):
            self.lose(executor, reason)
        self._to_load.clear()
        self._to_hand_back.clear()
        self.interrupt.set()

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
        self._to_load.clear()
        for executor in list(self._held.values()):
            self._remove(executor)
            executor.close()

    @property
    def empty(self) -> bool:
        """Whether nothing is held and nothing is left to say."""
        return not self._held and not self._to_hand_back

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

    def ask_commit(self, executor: RunExecutor) -> None:
        """Take the run into the next group commit."""
        self._to_commit[executor] = None
        self.commit_wanted.set()

    def call_at(self, due_ms: int, executor: RunExecutor) -> asyncio.TimerHandle:
        """Settle the run when `due_ms` has come."""
        delay_s = max(0, due_ms - self._clock.now_ms()) / 1000
        return self._loop.call_later(delay_s, self.guard, RunExecutor.settle, executor)

    def recorded(self, executor: RunExecutor, progress: Progress, failed: bool) -> None:
        """Count the events of an accepted commit."""
        signs = self._signs
        signs.commits += 1
        if progress.records:
            self._cleared(executor.ref)
        if not progress.events:
            return
        rejected = {entry for entry, _ in progress.rejects}
        now = self._environment.monotonic()
        for entry, event, since in progress.events:
            took_ms = (now - since) * 1000
            bad = failed or entry in rejected
            signs.processed += 1
            if bad:
                signs.failed += 1
            else:
                signs.succeeded += 1
            signs.observe_latency(int(took_ms))
            if self.limits.detail:
                self._emit(
                    EventProcessed(
                        self._worker,
                        executor.ref,
                        event.id,
                        event.type,
                        event.subject or "",
                        took_ms,
                        "failed" if bad else "succeeded",
                    )
                )

    def rejected(self, executor: RunExecutor, entry: str, reason: str) -> None:
        """A mail does not fit its class."""
        self._signs.dead += 1
        self._emit(MailRejected(self._worker, executor.ref, entry, reason))

    def attempt_started(self, executor: RunExecutor, start: StartAction) -> None:
        """An attempt begins."""
        self._signs.attempts += 1
        if start.attempts:
            self._signs.retries += 1
        if self.limits.detail:
            self._emit(AttemptStarted(self._worker, executor.ref, start.name, start.number, start.attempts + 1))

    def attempt_ended(self, executor: RunExecutor, attempt: Attempt, ended: Ended) -> None:
        """An attempt is over; the run goes on with what it brought."""
        self.guard(RunExecutor.attempt_ended, executor, attempt, ended)

    def attempt_log(self, executor: RunExecutor, start: StartAction) -> AttemptLog:
        """The logger behind ``action.log``."""
        return _FactLog(self._emit, self._worker, executor.ref, start)

    def ended_attempt(self, executor: RunExecutor, ended: Ended) -> None:
        """Report and count one attempt."""
        if ended.failure is not None:
            self._signs.attempts_failed += 1
        elif not self.limits.detail:
            return
        self._emit(
            AttemptEnded(
                worker=self._worker,
                run=executor.ref,
                action=ended.action,
                step=ended.step,
                attempt=ended.attempt,
                took_ms=ended.took_ms,
                failure=ended.failure,
                decision=ended.decision.word if ended.decision is not None else "",
                retry_in_ms=getattr(ended.decision, "delay_ms", 0),
                rule=ended.rule,
            )
        )

    def rest(self, executor: RunExecutor, status: RunStatus, failure: Failure | None) -> None:
        """The run left this worker's hands in good order."""
        self._remove(executor)
        if status.ended:
            self._signs.runs_ended += 1
        if status is RunStatus.WAITING and executor.cacheable:
            due = executor.next_due
            self.cache.put(executor)
            if due is not None:
                self.on_wake(due)
        else:
            executor.close()
        if self.limits.detail or failure is not None:
            took_ms = (self._environment.monotonic() - executor.leased_at) * 1000
            self._emit(RunRested(self._worker, executor.ref, status, executor.records, took_ms, failure))

    def give_back(self, executor: RunExecutor, delay_ms: int = 0) -> None:
        """Hand the run back to ``ready``, uncounted; its memory is dropped, since it may be ahead of the store."""
        self._to_hand_back.append((executor.ref, executor.token, delay_ms))
        self._remove(executor)
        executor.close()
        self.errand_wanted.set()

    def lose(self, executor: RunExecutor, word: str) -> None:
        """The run is another's now."""
        self._remove(executor)
        executor.close()
        if word in ("fenced", "gone"):
            self._signs.refused_commits += 1
            self._emit(CommitRefused(self._worker, executor.ref, executor.token, word))
        self._emit(LeaseLost(self._worker, executor.ref, executor.token, word))

    def _remove(self, executor: RunExecutor) -> None:
        if self._held.get(executor.ref) is executor:
            del self._held[executor.ref]
            self._cleared(executor.ref)
        self._forget(executor)
        self._signs.held = len(self._held)
        self.start_waiting()
        self.changed.set()

    def _forget(self, executor: RunExecutor) -> None:
        self._executing.discard(executor)
        self._to_commit.pop(executor, None)
        self._signs.executing = len(self._executing)


class _FactLog:
    """``action.log``: an author's own lines, as facts."""

    __slots__ = ("_emit", "_run", "_start", "_worker")

    def __init__(self, emit: Emit, worker: str, run: RunRef, start: StartAction) -> None:
        self._emit = emit
        self._worker = worker
        self._run = run
        self._start = start

    def _say(self, level: str, event: str, fields: dict[str, object]) -> None:
        start = self._start
        self._emit(AttemptLogged(self._worker, self._run, start.name, start.attempts + 1, level, event, fields))

    def debug(self, event: str, **fields: object) -> None:
        self._say("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._say("error", event, fields)
