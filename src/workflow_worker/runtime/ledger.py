"""`Ledger`: what a run has asked for, by number, and what the worker has been told of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar, cast

import msgspec

from workflow_worker.model.command import CancelAction, CancelTimer, StartAction, StartTimer
from workflow_worker.model.recovery import Recovery
from workflow_worker.runtime.places import Place

_Started = list[StartAction | StartTimer | CancelAction]
"""What steps with commands of their own say at the start."""
_NONE: Mapping[int, Step] = MappingProxyType({})
_Command = TypeVar("_Command", bound=StartAction | StartTimer | CancelAction | CancelTimer)


class Step(Protocol):
    """Something with a number that a record of the history will settle: an action's call, a timer, a child, a lock.

    Children and locks are asked for by events, which the `Outbox` sends; they have no commands of their own.
    """

    number: int
    place: Place | None

    def start(self) -> StartAction | StartTimer | CancelAction | None:
        """The command that asks for it; of one that was given up and whose end somebody waits for, that wish."""
        ...

    def stop(self) -> CancelAction | CancelTimer | None:
        """The command that takes it back."""
        ...

    def resume(self) -> None:
        """Forget past attempts."""
        ...

    def cancel(self) -> object:
        """Give it up."""
        ...


class Ledger:
    """Numbers the steps of one run and keeps apart what is pending, what was given up, and what is settled.

    Commands are not appended as they occur but derived at the end of a feed: what was started and settled or given up
    within it cancels out. That makes a replay's outcome and a live feed's the same question.
    """

    __slots__ = ("_new", "_recoveries", "_stops", "_told", "gone", "number", "pending", "reached")

    def __init__(self) -> None:
        self.number = 0
        """The last number given."""
        self.pending: dict[int, Step] = {}
        """Steps that a record can settle, by number, in order of their making."""
        self.gone: Mapping[int, Step] = _NONE
        """Steps given up after an idle point: their records may still come."""
        self.reached = 0
        """The last number given when the run last came to rest: a worker may have been told of every one so far. A step
        given up before its first rest was never asked of anybody, so a record of it cannot exist."""
        self._new: list[Step] = []
        self._stops: list[CancelAction | CancelTimer] | None = None
        self._told = 0
        self._recoveries: dict[int, Recovery] | None = None

    def add(self, step: Step) -> None:
        """Give a step its number."""
        self.number = number = self.number + 1
        step.number = number
        self.pending[number] = step
        self._new.append(step)

    def add_mailed(self, step: Step) -> None:
        """Give a number to a step that an event asks for: the worker is not told of it by a command."""
        step.number = number = self.take_number()
        self.pending[number] = step

    def take_number(self) -> int:
        """The next number, for what no record will settle: it moves all later ones, so a replay notices it."""
        self.number = number = self.number + 1
        return number

    def was_asked(self, step: Step) -> bool:
        """Whether a worker may have been told of the step: the run has been at rest since it was made."""
        return step.number <= self.reached

    def abandon(self, step: Step) -> None:
        """Nobody waits for this step any more; does nothing if it is settled."""
        number = step.number
        if self.pending.pop(number, None) is None:
            return
        if number <= self.reached:
            if self.gone is _NONE:
                self.gone = {}
            cast("dict[int, Step]", self.gone)[number] = step
        if number <= self._told:
            stop = step.stop()
            if stop is not None:
                self._take_back(stop)

    def hold(self, step: Step, wish: CancelAction) -> None:
        """The code gave this step up, but somebody waits for the record of its end: it stays pending until then.

        If the worker was not told of it yet, `Step.start` says the same.
        """
        if step.number <= self._told:
            self._take_back(wish)

    def _take_back(self, stop: CancelAction | CancelTimer) -> None:
        if self._stops is None:
            self._stops = []
        self._stops.append(stop)

    def commands(self) -> list[StartAction | StartTimer | CancelAction | CancelTimer]:
        """What the worker has to be told now, each once: first what is taken back, then what is new."""
        found: list[StartAction | StartTimer | CancelAction | CancelTimer] = []
        if self._stops:
            found, self._stops = [*self._stops], None
        if self._new:
            pending = self.pending
            for step in self._new:
                if step.number in pending:
                    started = step.start()
                    if started is not None:
                        found.append(started)
            if self._recoveries is not None:
                found = [self._with_recovery(command) for command in found]
            self._new.clear()
            self._told = self.number
        return found

    def stops(self) -> list[CancelAction | CancelTimer]:
        """Give up all that is pending, for a run that has ended; what is new is never asked for."""
        if self.pending:
            for step in list(self.pending.values()):
                self.abandon(step)
        found, self._stops = self._stops, None
        self._new.clear()
        return found or []

    def outstanding(self) -> list[StartAction | StartTimer | CancelAction]:
        """All that is pending, told before or not."""
        found = [step.start() for step in self.pending.values()]
        return [self._with_recovery(command) for command in found if command is not None]

    def recover(self, number: int, recovery: Recovery | None) -> None:
        """Remember what must be done before the next attempt of a step; None: nothing."""
        if recovery is not None:
            if self._recoveries is None:
                self._recoveries = {}
            self._recoveries[number] = recovery
        elif self._recoveries is not None:
            self._recoveries.pop(number, None)

    def _with_recovery(self, command: _Command) -> _Command:
        if self._recoveries is None or type(command) is not StartAction or command.number not in self._recoveries:
            return command
        return msgspec.structs.replace(command, recovery=self._recoveries[command.number])

    def resume(self) -> None:
        """A person let the run go on: attempts are counted from none again, and none is put off."""
        self._recoveries = None
        for step in self.pending.values():
            step.resume()

    def clear(self) -> None:
        """Forget everything, so that no cycle of references is left."""
        self.pending.clear()
        self.gone = _NONE
        self._new.clear()
        self._stops = None
