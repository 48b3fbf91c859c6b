"""What can be looked at: runs with their histories, dead letters, how much waits. No decision may rest on it."""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker.client.operations import Operations
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.exceptions import NotFound
from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunView
from workflow_worker.store.transitions import Audit, Depth, OperatorAct, Recorded, RunPage, RunQuery


@dataclass(frozen=True, slots=True)
class Views:
    """Read-only; each answer is of one moment, and two answers may be of two."""

    operations: Operations

    async def run(self, run_id: str) -> RunView:
        """One run, by its id with or without its workflow.

        Raises:
            NotFound: There is none.
            Refused: Runs of several workflows have this id.
        """
        return await self.operations.find(run_id)

    async def runs(self, query: RunQuery) -> RunPage:
        """One page of runs by status, workflow and subject, the newest first; `RunQuery.after` asks for the next."""
        return await self.operations.patience.call(lambda: self.operations.store.runs(query))

    async def history(self, ref: str) -> list[bytes]:
        """A run's encoded records by its full name, oldest first (`decode_record`); empty without such a run."""
        return await self.operations.patience.call(lambda: self.operations.store.history(RunRef(ref)))

    async def recorded(self, ref: str) -> Recorded:
        """A run's history with what a replay of it needs, by its full name.

        Raises:
            NotFound: There is no such run (any more).
        """
        found = await self.operations.patience.call(lambda: self.operations.store.recorded(RunRef(ref)))
        if found is None:
            raise NotFound(f"there is no run {ref}")
        return found

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Dead letters that were not sent again, the oldest first; `after` is the id of the last one seen."""
        return await self.operations.patience.call(lambda: self.operations.store.dead_letters(limit, after))

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """One dead letter.

        Raises:
            NotFound: There is none.
        """
        found = await self.operations.patience.call(lambda: self.operations.store.dead_letter(letter_id))
        if found is None:
            raise NotFound(f"there is no dead letter {letter_id}: `workflow-worker dead list` shows those there are")
        return found

    async def operator_log(self, limit: int = 100) -> list[OperatorAct]:
        """What people did to runs and dead letters, the newest first; about the last 10,000 acts are kept."""
        return await self.operations.patience.call(lambda: self.operations.store.operator_log(limit))

    async def depth(self) -> Depth:
        """How much waits; `events` is the signal to scale by."""
        return await self.operations.patience.call(self.operations.store.depth)

    async def audit(self) -> Audit:
        """The store's invariants, checked now."""
        return await self.operations.patience.call(self.operations.store.audit)
