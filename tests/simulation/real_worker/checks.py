"""What must hold: watched at each commit and each end of a run, and looked at when the world has come to rest."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import Any, cast

import msgspec

from tests.simulation.real_worker.effects import Effects
from tests.simulation.real_worker.loop import current_host
from tests.simulation.real_worker.process import Process
from workflow_worker.app.attempt import action
from workflow_worker.app.registry import App
from workflow_worker.model.command import Cancelled, Command, Complete, Fail, StartAction, Suspend
from workflow_worker.model.ids import CANCEL_TYPE, RunRef
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
    RunStarted,
    RunSuspended,
    TimerFired,
    decode_record,
)
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.execution import Execution
from workflow_worker.store.memory.machine.audit import audit
from workflow_worker.store.memory.machine.entries import mail_of
from workflow_worker.store.memory.machine.facts import Committed, Ended, Leased, MachineFact
from workflow_worker.store.memory.machine.state import RunState
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import Commit
from workflow_worker.worker.standstill import StoodStill

ATTEMPTS = (ActionCompleted, ActionRaised, AttemptFailed, ActionParked)
ENDS = (RunCompleted, RunFailed, RunCancelled)
EXPECTED_ERRORS = ("RuntimeError", "ExceptionGroup", "Declined", "Fenced")


class Violation(AssertionError):
    """The worker broke a promise; the message says which."""


def require(holds: bool, *promise: object) -> None:
    """Raise `Violation` unless a promise holds."""
    if not holds:
        raise Violation(" ".join(map(str, promise))[:2_000])


class Checks:
    """Watches one world."""

    def __init__(self, memory: MemoryStore, effects: Effects, app: App) -> None:
        self.memory = memory
        self.effects = effects
        self.app = app
        self.counts = Counter[str]()
        self.resumed = Counter[RunRef]()
        self.recorded_events = 0
        self._leases = Counter[RunRef]()
        effects.watch = self._acts
        self.flushed = False
        self._broken: list[Violation] = []
        self._passed_on = memory.partition.tell
        memory.partition.tell = self._watch

    # -------------------------------------------------------------------------------------------------- as it happens

    def _watch(self, fact: MachineFact) -> None:
        try:
            if isinstance(fact, Committed):
                self._committed(fact.commit, fact.taken)
            elif isinstance(fact, Leased):
                self._leases[fact.ref] += 1
            elif isinstance(fact, Ended):
                self._ended(self.memory.partition.state.runs[fact.ref])
        except Violation as broken:  # raised in the next look: here it would be the asking worker's error
            self._broken.append(broken)
        self._passed_on(fact)

    def _acts(self) -> None:
        try:
            self._check_act(RunRef(action.run), action.step)
        except Violation as broken:
            self._broken.append(broken)

    def _check_act(self, ref: RunRef, step: int) -> None:
        """An action begins only for a run that its worker holds, for a step that the run waits for (in memory), and
        that the committed history leads to (write ahead)."""
        host = current_host()
        executor = attrgetter("_holdings._held")(host.worker).get(ref)
        require(executor is not None, host, "acts for a run that it does not hold:", ref, step)
        execution: Execution = attrgetter("_course.execution")(executor)
        require(step in execution.pending_numbers, host, "acts, and nobody waits for it:", ref, step)
        run = self.memory.partition.state.runs.get(ref)
        if run is None or run.token != action.fencing_token:
            return  # the lease was lost: whether that may be is another question
        replayed, _ = self._fed(run, [decode_record(raw) for raw in run.history])
        attempts = [start.attempts for start in replayed if isinstance(start, StartAction) and start.number == step]
        require(attempts == [action.attempt - 1], "not written ahead:", ref, step, action.attempt, attempts)
        self.counts["acts checked"] += 1

    def _fed(self, run: RunState, history: list[Record]) -> tuple[list[Command], list[Command]]:
        """What a replay of this history leaves outstanding, and what it asks for."""
        start = mail_of(run.start).event
        definition = self.app.find_workflow(run.workflow, run.version)
        assert definition is not None
        execution = Execution(
            ref=run.ref,
            subject=start.subject,
            started_at=run.created_at,
            seed=f"{run.ref}/{start.id}",
            main=definition.main(start, self.app.events),
            events=self.app.events,
            encode=definition.encode_result,
        )
        try:
            asked = execution.feed(history)
            return execution.outstanding(), asked
        finally:
            execution.close()

    def _check_park(self, run: RunState, item: Commit, records: list[Record]) -> None:
        """A run is parked at a step that it still waits for."""
        if item.status is not RunStatus.SUSPENDED or any(isinstance(record, RunSuspended) for record in records):
            return
        history = [*(decode_record(raw) for raw in run.history), *records]
        parked = [record.number for record in history if isinstance(record, ActionParked)]
        outstanding, _ = self._fed(run, history)
        waiting = {start.number for start in outstanding if isinstance(start, StartAction)}
        require(bool(waiting & set(parked)), "parked at no step that it waits for:", item.ref, parked, waiting)

    def flush(self) -> None:
        """The store has lost everything: what was promised about its runs holds for those that come now."""
        self.flushed = True
        self._leases.clear()
        self.resumed.clear()

    def look(self) -> None:
        """Raise what was found since the last look."""
        if self._broken:
            raise self._broken[0]

    def _committed(self, item: Commit, taken: tuple[str, ...]) -> None:
        run = self.memory.partition.state.runs[item.ref]
        rejected = {entry for entry, _ in item.rejects}
        records = [decode_record(raw) for raw in item.records]
        mail = [record.entry for record in records if isinstance(record, EventReceived | CancelRequested)]
        wanted = [entry for entry in taken if entry not in rejected]
        require(mail == wanted, "B: mail recorded", mail, "taken", wanted, item.ref)
        events = [entry for entry in run.mailbox[: item.taken] if mail_of(entry).event.type != CANCEL_TYPE]
        self.recorded_events += len(events) + any(isinstance(record, RunStarted) for record in records)
        self._check_park(run, item, records)
        both = set(item.waits_added) & set(item.waits_removed)
        require(not both, "waits added and removed at once:", item.ref, both)

    def _ended(self, run: RunState) -> None:
        self.counts["ended " + run.status.value] += 1
        history = [decode_record(raw) for raw in run.history]
        check_history(run, history)
        if not run.start_rejected:
            _, asked = self._fed(run, history)
            check_end(run, history[-1], asked)
            self._steps(run, history)
        del self._leases[run.ref]

    def _steps(self, run: RunState, history: list[Record]) -> None:
        start = mail_of(run.start).event
        for record in history:
            if isinstance(record, ActionCompleted):
                serial = msgspec.msgpack.decode(record.result, type=int)
                effect = self.effects.done[serial - 1]
                key = f"{run.ref}/{start.id}/{record.number}"
                require(effect.key == key, "result of another step:", effect, "in", key)
                self.counts["steps"] += 1
        attempts = Counter(record.number for record in history if isinstance(record, ATTEMPTS))
        for number, recorded in attempts.items():
            called = self.effects.calls[f"{run.ref}/{start.id}/{number}"]
            most = recorded + self._leases[run.ref]
            require(called <= most, "step", number, "of", run.ref, "called", called, "times, at most", most)

    # ------------------------------------------------------------------------------------------------------ in the end

    def between(self) -> None:
        """Everything ended or needs a person."""
        self._audit()
        for ref, run in self.memory.partition.state.runs.items():
            if run.status is RunStatus.SUSPENDED:
                self.counts["suspended"] += 1
                require(run.error is not None, "suspended for no known reason:", ref)

    def _check_suspended(self) -> None:
        """A cancel after the failure ended the run; only one that the code took before it failed cannot help."""
        for ref, run in self.memory.partition.state.runs.items():
            kinds = [type(decode_record(raw)) for raw in run.history]
            if run.status is RunStatus.SUSPENDED and RunSuspended in kinds:
                after = kinds[kinds.index(RunSuspended) :]
                require(CancelRequested not in after, "a failed run cannot be cancelled:", ref, after)

    def finish(self, processes: list[Process], *, faulty: bool) -> None:
        """The world stands still."""
        self._audit()
        self._check_suspended()
        self._check_effects(faulty)
        for letter in self.memory.partition.state.dead.values():
            known = ("undeclared", "unclaimed", "rejected", "no such run", "run ended", "too many", "nobody can")
            require(letter.reason.startswith(known), "dead for no known reason:", letter.reason)
            self.counts["dead " + letter.reason.split(":")[0]] += 1
        processed = 0
        for process in processes:
            self.drained(process)
            require(not process.failed_parts, "a step of a run failed:", process.failed_parts[:1])
            for signs in process.signs:
                require(signs.processed == signs.succeeded + signs.failed, "signs do not add up", process.name)
                processed += signs.processed
            self.counts.update({"fact " + name: count for name, count in process.facts.items()})
        if not faulty:
            require(processed == self.recorded_events, "processed", processed, "recorded", self.recorded_events)
        require(processed <= self.recorded_events, "processed", processed, "recorded", self.recorded_events)
        self.counts["processed"] += processed
        self.counts["recorded"] += self.recorded_events

    def drained(self, process: Process) -> None:
        """A worker that ended in good order left nothing behind."""
        if process.host.dead:
            return
        signs = process.signs[-1]
        require(signs.executing == 0 and signs.held == 0, process.host, "ended holding", signs.executing, signs.held)
        left = [task for task in process.host.tasks if not task.done() and not task.cancelling()]
        require(not left, process.host, "left tasks running:", left[:3])
        errors = [
            task.exception()
            for task in process.host.tasks
            if task.done() and not task.cancelled() and not stood_still(task.exception())
        ]
        errors = [error for error in errors if error is not None]
        require(not errors, process.host, "had tasks that failed unheard:", errors[:3])

    def unfinished(self) -> list[str]:
        """Runs that are still under way, for a complaint."""
        state = self.memory.partition.state
        found = [
            f"{ref} {run.status.value} owner={run.owner!r} mails={len(run.mailbox)} waits={list(run.waits)}"
            f" wake={state.wakes.get(ref)} cancel={run.cancel_requested} token={run.token}"
            f" history={[type(decode_record(raw)).__name__ for raw in run.history]}"
            for ref, run in state.runs.items()
            if not run.status.ended
        ]
        return [f"events={len(state.events)} delayed={len(state.delayed)} early={len(state.early)}", *found]

    def _audit(self) -> None:
        self.look()
        found = audit(self.memory.partition)
        require(found.balanced, "audit:", found.problems)

    def _check_effects(self, faulty: bool) -> None:
        keys: dict[str, tuple[str, int, str]] = {}
        tokens: dict[str, int] = {}
        for effect in self.effects.done:
            step = (effect.run, effect.step, effect.name)
            require(keys.setdefault(effect.key, step) == step, "one key for two steps:", effect)
            require(effect.token >= tokens.get(effect.run, 0), "tokens go down:", effect)
            tokens[effect.run] = effect.token
        unexcused = [refused for refused in self.effects.refused if not refused[0].excused]
        require(faulty or not self.effects.refused, "fenced without a fault:", self.effects.refused[:3])
        require(not unexcused, "went on with a lost lease:", unexcused[:3])
        self.counts["effects"] += len(self.effects.done)
        self.counts["effects fenced"] += len(self.effects.refused)
        require(not self.effects.overlaps, "began with a hung body's token:", self.effects.overlaps[:3])
        self.counts["late effects refused"] += sum(not accepted for _, _, accepted in self.effects.late)
        self.counts["late effects accepted"] += sum(accepted for _, _, accepted in self.effects.late)


def stood_still(error: BaseException | None) -> bool:
    """Whether a worker, or a part of it, ended because an answer never came."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(stood_still(inner) for inner in group.exceptions)
    return isinstance(error, StoodStill)


def check_history(run: RunState, history: list[Record]) -> None:
    """The form of a complete history."""
    kinds = [type(record).__name__ for record in history]
    require(kinds.count("RunStarted") == 1, "not started once:", run.ref, kinds)
    ends = [record for record in history if isinstance(record, ENDS)]
    require(len(ends) == 1 and history[-1] is ends[0], "not ended once, and last:", run.ref, kinds)
    settled = Counter(
        record.number for record in history if isinstance(record, ActionCompleted | ActionRaised | TimerFired)
    )
    twice = [number for number, count in settled.items() if count > 1]
    require(not twice, "steps recorded twice:", run.ref, twice, kinds)
    entries = Counter(record.entry for record in history if isinstance(record, EventReceived | CancelRequested))
    require(all(count == 1 for count in entries.values()), "mail recorded twice:", run.ref, entries)
    instants = [
        record.at for record in history if not isinstance(record, RunStarted) and type(record).__name__ != "RunResumed"
    ]
    require(instants == sorted(instants), "time goes back in", run.ref, instants)
    for record in history:
        if isinstance(record, RunSuspended):
            kind = record.failure.type.rpartition(".")[2]
            require(kind in EXPECTED_ERRORS, "suspended by", record.failure.type, record.failure.message, run.ref)


def check_end(run: RunState, last: Record, commands: list[Command]) -> None:
    """A replay of the whole history comes to the same end."""
    final: Any = commands[-1] if commands else None
    for command in commands:
        if isinstance(command, Complete | Fail | Cancelled | Suspend):
            final = command
    match last:
        case RunCompleted():
            same = isinstance(final, Complete) and (final.result, final.unmatched) == (last.result, last.unmatched)
        case RunFailed():
            same = isinstance(final, Fail) and final.unmatched == last.unmatched
        case _:
            same = isinstance(final, Cancelled | Suspend)
    require(same, "replayed to", final, "recorded", last, run.ref)
