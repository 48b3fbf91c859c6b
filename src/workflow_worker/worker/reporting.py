"""`Reporting`: what a worker counts and tells: here what happens to runs becomes vital signs and facts."""

from __future__ import annotations

from bisect import bisect_left

from workflow_worker.app.attempt import AttemptLog
from workflow_worker.model.command import StartAction
from workflow_worker.model.environment import Environment
from workflow_worker.model.facts import (
    AttemptEnded,
    AttemptHung,
    AttemptLogged,
    AttemptStarted,
    CommitRefused,
    DeadLettered,
    Emit,
    EventProcessed,
    LeaseLost,
    MailRejected,
    PartFailed,
    RunComplained,
    RunLeased,
    RunRested,
)
from workflow_worker.model.failure import Failure, describe
from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunStatus
from workflow_worker.model.vitals import LATENCY_BOUNDS_MS, VitalSigns
from workflow_worker.store.transitions import Ingested, LeasedRun
from workflow_worker.worker.attempt import Ended
from workflow_worker.worker.progress import Progress

_RUNS_NOTED = 1_000


class Reporting:
    """Counts in the worker's vital signs, and facts for its subscribers. Nothing here decides anything.

    With `detail` (LOG_LEVEL=debug) every lease, attempt, event and rest is a fact; failures always are.
    """

    def __init__(self, *, worker: str, detail: bool, environment: Environment, signs: VitalSigns, emit: Emit) -> None:
        self._worker = worker
        self._detail = detail
        self._now_s = environment.monotonic
        self._signs = signs
        self._emit = emit
        self._complained: dict[RunRef, None] = {}
        self._commits = self._succeeded = self._failed = self._ended = self._took_ms = 0
        self._latencies: dict[int, int] = {}

    def show_counts(self) -> None:
        """Add to the vital signs what was counted since the last time: once for many runs, because these are memory
        that processes share, fifty times as dear as a variable."""
        if not (self._commits or self._ended):
            return
        signs = self._signs
        signs.commits += self._commits
        signs.runs_ended += self._ended
        signs.processed += self._succeeded + self._failed
        signs.succeeded += self._succeeded
        signs.failed += self._failed
        signs.latency_sum += self._took_ms
        for bucket, count in self._latencies.items():
            signs.latency_buckets[bucket] += count
        self._commits = self._succeeded = self._failed = self._ended = self._took_ms = 0
        self._latencies.clear()

    # ------------------------------------------------------------------------------------------------------ intake side

    def ingested(self, answer: Ingested) -> None:
        """What became of the entries that one request took from the stream."""
        signs, fates = self._signs, answer.fates
        signs.ingested += answer.read
        if fates.routed != answer.read:
            signs.duplicates += fates.duplicate
            signs.early += fates.early
            signs.dead += fates.dead
        for letter in answer.letters:
            self._emit(DeadLettered(self._worker, letter.dead_id, letter.type, letter.reason, letter.run))

    def leased(self, leased: LeasedRun) -> None:
        """A run is ours now."""
        if leased.strikes:
            self._signs.takeovers += 1
        if self._detail or leased.strikes:
            self._emit(RunLeased(self._worker, leased.ref, leased.token, leased.strikes, len(leased.mail)))

    def part_failed(self, part: str, failure: Failure | BaseException) -> None:
        """Something failed that nobody foresaw."""
        known = failure if isinstance(failure, Failure) else describe(failure)
        self._emit(PartFailed(self._worker, part, known))

    # ---------------------------------------------------------------------------------------------------------- commits

    def recorded(self, ref: RunRef, progress: Progress, failed: bool) -> None:
        """An accepted commit recorded these events; `failed`: it also suspended or failed the run."""
        self._commits += 1
        if not progress.events:
            return
        rejected = [entry for entry, _ in progress.rejects]
        now = self._now_s()
        for entry, event, since in progress.events:
            took_ms = (now - since) * 1000
            bad = failed or entry in rejected
            if bad:
                self._failed += 1
            else:
                self._succeeded += 1
            self._took_ms += int(took_ms)
            bucket = bisect_left(LATENCY_BOUNDS_MS, int(took_ms))
            self._latencies[bucket] = self._latencies.get(bucket, 0) + 1
            if self._detail:
                outcome = "failed" if bad else "succeeded"
                self._emit(
                    EventProcessed(self._worker, ref, event.id, event.type, event.subject or "", took_ms, outcome)
                )

    def rejected(self, ref: RunRef, entry: str, reason: str) -> None:
        """A mail does not fit its class."""
        self._signs.dead += 1
        self._emit(MailRejected(self._worker, ref, entry, reason))

    # --------------------------------------------------------------------------------------------------------- attempts

    def attempt_started(self, ref: RunRef, start: StartAction) -> None:
        """An attempt begins."""
        self._signs.attempts += 1
        if start.attempts:
            self._signs.retries += 1
        if self._detail:
            self._emit(AttemptStarted(self._worker, ref, start.name, start.number, start.attempts + 1))

    def attempt_log(self, ref: RunRef, start: StartAction) -> AttemptLog:
        """The logger behind ``action.log``."""
        return _FactLog(self._emit, self._worker, ref, start)

    def attempt_ended(self, ref: RunRef, ended: Ended) -> None:
        """An attempt is over."""
        if ended.failure is not None:
            self._signs.attempts_failed += 1
        elif not self._detail:
            return
        self._emit(
            AttemptEnded(
                worker=self._worker,
                run=ref,
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

    def attempt_hung(self, ref: RunRef, start: StartAction, hanging: int) -> None:
        """An attempt was given up and its body does not end; `hanging` such bodies run now."""
        self._signs.hung += 1
        self._signs.hanging = hanging
        self._emit(AttemptHung(self._worker, ref, start.name, start.number, start.attempts + 1))

    def hanging(self, count: int) -> None:
        """So many bodies of given up attempts run now."""
        self._signs.hanging = count

    # ------------------------------------------------------------------------------------------------ the ways it ends

    def rested(self, ref: RunRef, status: RunStatus, failure: Failure | None, records: int, leased_at: float) -> None:
        """The run left this worker's hands in good order."""
        if status.ended:
            self._ended += 1
        if self._detail or failure is not None:
            took_ms = (self._now_s() - leased_at) * 1000
            self._emit(RunRested(self._worker, ref, status, records, took_ms, failure))

    def complained(self, ref: RunRef, complaints: tuple[str, ...]) -> None:
        """Errors of the run that nobody awaited; said once per run."""
        if not complaints or ref in self._complained:
            return
        self._complained[ref] = None
        while len(self._complained) > _RUNS_NOTED:
            del self._complained[next(iter(self._complained))]
        self._emit(RunComplained(self._worker, ref, complaints))

    def lost(self, ref: RunRef, token: int, word: str) -> None:
        """The run is another's now; `word` is the refusal, or how else that became known."""
        if word in ("fenced", "gone"):
            self._signs.refused_commits += 1
            self._emit(CommitRefused(self._worker, ref, token, word))
        self._emit(LeaseLost(self._worker, ref, token, word))


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
