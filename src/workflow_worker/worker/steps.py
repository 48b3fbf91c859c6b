"""`Steps`: the actions and timers of one run: what may start, what runs, what is tried again, what is due when.

Bookkeeping only: nothing is started, stopped or recorded here but what a method says. It is made when a run asks for
its first step; many never do.
"""

from __future__ import annotations

import msgspec

from workflow_worker.errors.retry import ParkRun, RetryIn
from workflow_worker.model.command import CancelAction, CancelTimer, StartAction, StartTimer
from workflow_worker.model.exceptions import ActionCancelled
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.record import ActionCompleted, ActionParked, ActionRaised, AttemptFailed
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.histories import counts_as_transient


class Steps:
    """Starts that wait for the records that they depend on, attempts under way, retries and timers to come."""

    __slots__ = (
        "_cleared",
        "_failed_transiently",
        "_left",
        "_stopping",
        "attempts",
        "parked",
        "retries",
        "starts",
        "timers",
        "unheard",
    )

    def __init__(self) -> None:
        self.starts: list[StartAction] = []
        """What the run asked for and no commit has cleared yet."""
        self.attempts: dict[int, Attempt] = {}
        """What is under way, by number."""
        self.parked: tuple[int, Failure] | None = None
        """The action that failed for good: the run is suspended at it once nothing else is under way."""
        self.unheard: list[tuple[CancelAction, bool]] = []
        """Steps that were given up with no attempt under way, and whether they never began: nobody else tells how they
        ended."""
        self.timers: dict[int, int] = {}
        """When each is due."""
        self.retries: dict[int, StartAction] = {}
        """Attempts to come, each at its `StartAction.due`."""
        self._cleared: list[StartAction] = []
        self._failed_transiently: dict[int, int] = {}
        self._left: list[Attempt] = []
        self._stopping: set[int] = set()

    # ------------------------------------------------------------------------------------------ what the run asks for

    def want(self, start: StartAction) -> None:
        """An action is asked for, now or at its due time."""
        if start.due:
            self.retries[start.number] = start
        else:
            self.starts.append(start)

    def obey(self, command: CancelAction | StartTimer | CancelTimer) -> None:
        """Note what the run wants besides; actions that it gives up stop."""
        match command:
            case CancelAction(wait=True):
                self._stop(command)
            case CancelAction(number=number):
                self._cancel(number)
            case StartTimer(number=number, due=due):
                self.timers[number] = due
            case CancelTimer(number=number):
                self.timers.pop(number, None)

    def _cancel(self, number: int) -> None:
        self.starts = [start for start in self.starts if start.number != number]
        self._cleared = [start for start in self._cleared if start.number != number]
        self.retries.pop(number, None)
        if self.parked is not None and self.parked[0] == number:
            self.parked = None
        attempt = self.attempts.pop(number, None)
        if attempt is not None:
            self._stopping.discard(number)
            attempt.abandon()

    def _stop(self, command: CancelAction) -> None:
        """End a step of which somebody must know how it ended. A body in a thread ends by itself or by its time limit;
        what no attempt is under way for ends at once."""
        number = command.number
        attempt = self.attempts.get(number)
        if attempt is not None:
            self._stopping.add(number)
            if attempt.task is not None and not attempt.in_thread:
                attempt.task.cancel()
            return
        fresh = any(start.number == number and not start.attempts for start in (*self.starts, *self._cleared))
        self._cancel(number)
        self.unheard.append((command, fresh))

    def take_unheard(self, at: int) -> ActionRaised:
        """The oldest `unheard` end: a step that never began did nothing; of any other (its worker may have died) nobody
        knows."""
        command, fresh = self.unheard.pop(0)
        text = "given up before it began" if fresh else "given up between two attempts, or with its worker"
        kind = ErrorKind.PERMANENT if fresh else ErrorKind.RECOVERABLE
        failure = describe(ActionCancelled(text), kind)
        return ActionRaised(at, command.number, command.name, command.checksum, failure)

    # ---------------------------------------------------------------------------------------------- write ahead, start

    def send(self) -> None:
        """A commit is under way that keeps the run: what was asked for so far may start when it is accepted."""
        self._cleared, self.starts = self.starts, []

    def refused(self) -> None:
        """That commit was not taken; the run goes on from what came instead."""
        self._cleared.clear()

    def take_cleared(self, withhold: bool) -> list[StartAction]:
        """What an accepted commit lets start, each once; withheld, it stays with what waits."""
        cleared, self._cleared = self._cleared, []
        if not withhold:
            return cleared
        self.starts = cleared + self.starts
        return []

    def take_starts(self) -> list[StartAction]:
        """All that waits, where nothing is left to commit."""
        starts, self.starts = self.starts, []
        return starts

    # ------------------------------------------------------------------------------------------------------- attempts

    def ended(
        self, attempt: Attempt, ended: Ended, at: int
    ) -> ActionCompleted | ActionRaised | AttemptFailed | ActionParked | None:
        """What the end of an attempt under way is in the history; None: nothing."""
        start, failure = attempt.start, ended.failure
        number = start.number
        del self.attempts[number]
        stopped = number in self._stopping
        if stopped:
            self._stopping.discard(number)
        if failure is None:
            if start.recovery is not None:
                return self._recovered(at, start, stopped)
            if self._failed_transiently:
                self._failed_transiently.pop(number, None)
            return ActionCompleted(
                at, number, start.name, start.checksum, ended.result, ended.attempt, int(ended.took_ms)
            )
        if stopped:
            return ActionRaised(at, number, start.name, start.checksum, failure)
        return self._failed(at, start, ended, failure)

    def _recovered(self, at: int, start: StartAction, stopped: bool) -> ActionRaised | None:
        """What the action needs first is done, which no record says: it follows at once."""
        if stopped:
            failure = describe(ActionCancelled("given up behind its recovery"), ErrorKind.RECOVERABLE)
            return ActionRaised(at, start.number, start.name, start.checksum, failure)
        self.starts.append(msgspec.structs.replace(start, due=0, recovery=None))
        return None

    def _failed(
        self, at: int, start: StartAction, ended: Ended, failure: Failure
    ) -> ActionRaised | AttemptFailed | ActionParked:
        number, name, checksum = start.number, start.name, start.checksum
        decision, undone = ended.decision, getattr(start.options, "compensates", None)
        attempts = ended.attempt if start.recovery is None else start.attempts
        if undone is not None and not isinstance(decision, RetryIn):
            # What must succeed is a person's when it cannot: an error at the `await` would end the saga half undone.
            text = f"compensation {name} of {undone} failed: {failure.message}"
            decision, failure = ParkRun(), msgspec.structs.replace(failure, message=text)
        match decision:
            case RetryIn(delay_ms=delay_ms, recovery=recovery):
                due = at + delay_ms
                record = AttemptFailed(at, number, name, checksum, failure, attempts, due, recovery)
                if counts_as_transient(record):
                    self._failed_transiently[number] = self._failed_transiently.get(number, 0) + 1
                needed = None if recovery is None else recovery.about(failure)
                self.retries[number] = StartAction(
                    number, name, start.arguments, checksum, attempts, due, start.options, needed
                )
                return record
            case ParkRun(reason=reason):
                self.parked = (number, failure)
                return ActionParked(at, number, name, checksum, failure, attempts, reason)
            case _:
                return ActionRaised(at, number, name, checksum, failure)

    def note_transient(self, failed: dict[int, int]) -> None:
        """How often each step has failed transiently, as the history tells."""
        self._failed_transiently = failed

    def transient_failures(self, number: int) -> int:
        """How often this step failed transiently so far."""
        return self._failed_transiently.get(number, 0)

    def note_left(self, attempt: Attempt) -> None:
        """The body of an attempt that was given up runs on, with our token."""
        self._left.append(attempt)

    def forget_left(self) -> None:
        """A new lease: such a body has an old token now."""
        self._left.clear()

    def of_next_history(self) -> Steps | None:
        """What stays when the run begins anew in place: bodies that were left, because they have our token still."""
        if not self._left:
            return None
        following = Steps()
        following._left = self._left
        return following

    @property
    def left_running(self) -> bool:
        """Whether a body that we cannot stop has our token. One that was cancelled, not timed out, is forgiven when it
        ends."""
        return bool(self._left) and any(attempt.timed_out or attempt.runs_on for attempt in self._left)

    def abandon(self) -> None:
        """Stop all that is under way; its results are not wanted any more."""
        if not self.attempts:
            return
        attempts, self.attempts = self.attempts, {}
        self._stopping.clear()
        for attempt in attempts.values():
            attempt.abandon()

    # --------------------------------------------------------------------------------------------------------- timers

    @property
    def next_due(self) -> int | None:
        """When the next timer or retry is due."""
        if not self.timers and not self.retries:
            return None
        return min([*self.timers.values(), *(start.due for start in self.retries.values())])

    def take_due_timer(self, now: int) -> tuple[int, int] | None:
        """Number and due time of the timer that fires next, if it is due: by (due, number), one at a time."""
        if not self.timers:
            return None
        due, number = min((due, number) for number, due in self.timers.items())
        if due > now:
            return None
        del self.timers[number]
        return number, due

    def start_due_retries(self, now: int) -> None:
        """Retries that are due become starts."""
        for number in [number for number, start in self.retries.items() if start.due <= now]:
            self.starts.append(self.retries.pop(number))
