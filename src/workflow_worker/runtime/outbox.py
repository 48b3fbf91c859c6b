"""`Outbox`: the follow-up events that a run's code asked for, until the worker commits them.

What was emitted while one record was worked off is committed with that record, so in a replay all of it but the last
is known to be out. The last is sent again, because a person may have let a suspended run go on with other code; the
store skips the numbers that it has.
"""

from __future__ import annotations

from workflow_worker.model.command import EmitEvent
from workflow_worker.model.event import Event
from workflow_worker.runtime.ledger import Ledger


class Outbox:
    """Numbers events like steps and hands each to the worker once."""

    __slots__ = ("_fresh", "_ledger", "_sealed", "_withheld")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._fresh: list[EmitEvent] = []
        self._sealed: list[EmitEvent] = []
        self._withheld: list[EmitEvent] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was emitted since the last record."""
        return not self._fresh

    def post(
        self, event: Event, *, workflow: str | None = None, run: str | None = None, delay_ms: int = 0
    ) -> EmitEvent:
        """Send an event with the next commit."""
        command = EmitEvent(self._ledger.take_number(), event, workflow, run, delay_ms)
        self._fresh.append(command)
        return command

    def retract(self, command: EmitEvent) -> bool:
        """Take an event back; False if it is on its way already. It keeps its number, the same in every replay."""
        if command not in self._fresh:
            return False
        self._fresh.remove(command)
        return True

    def next_record(self, replayed: bool) -> None:
        """Another record follows: what was emitted before it is out (in a replay), or cannot be taken back."""
        if not replayed:
            self._sealed += self._fresh
        self._fresh.clear()

    def withhold(self) -> None:
        """An error of the code suspends the run: what it sent since the last record waits for a person's word.

        Mended code is run from that record again. Sent now, a lock would be free for others that the code will hold.
        """
        self._withheld += self._fresh
        self._fresh.clear()

    def release(self, *types: str) -> None:
        """The run ends without being run again: send what was withheld, of these types."""
        self._fresh += [command for command in self._withheld if command.event.type in types]
        self._withheld.clear()

    def commands(self) -> list[EmitEvent]:
        """What has to be committed now, each once, in order."""
        found = self._sealed + self._fresh
        self._sealed.clear()
        self._fresh.clear()
        return found
