"""Group commit: whatever is ready goes in one call; each run learns what became of its part.

While one call is under way the next batch gathers, so the batch size follows the load by itself: one run on an idle
worker, a hundred on a busy one. There a few calls are under way at once, of different runs, so that the store works
while the worker does: neither waits for the other.
"""

from __future__ import annotations

import asyncio

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.ids import RunRef
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Commit, CommitOutcome, Mode
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.part import Patience
from workflow_worker.worker.planning import COMMIT_AT_ONCE
from workflow_worker.worker.standstill import COMMITTER

_KEEP = Mode.KEEP  # a look at an enum costs ten times as much as one at a global


class Committer:
    """Loop: gather, commit, tell. A `further` one works only beside another, and only for many runs."""

    def __init__(
        self,
        store: Store,
        holdings: Holdings,
        patience: Patience,
        clock: ServerClock,
        environment: Environment,
        *,
        further: bool = False,
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._patience = patience
        self._clock = clock
        self._fault = environment.fault
        self._further = further

    async def run(self) -> None:
        """Commit until cancelled; an unanswered batch is repeated unchanged."""
        wanted = self._holdings.commits.piled if self._further else self._holdings.commits.wanted
        while True:
            await wanted.wait()
            if self._further:
                await asyncio.sleep(0)  # what another has gathered in this turn is written before more is made ready
            await self.turn()

    async def turn(self) -> tuple[RunRef, ...]:
        """Commit once what is ready now; which runs that were."""
        executors = self._holdings.commits.take(COMMIT_AT_ONCE)
        if not executors:
            return ()
        with self._patience.turn(COMMITTER):
            taken, batch = self._gather(executors)
            if batch:
                await self._commit(batch)
        return tuple([executor.ref for executor in taken])

    def _gather(self, executors: list[RunExecutor]) -> tuple[list[RunExecutor], list[tuple[RunExecutor, Commit]]]:
        """The runs that were asked for a commit, with those that became ready meanwhile; and what they want written."""
        holdings = self._holdings
        taken: list[RunExecutor] = []
        batch: list[tuple[RunExecutor, Commit]] = []
        while executors:
            taken += executors
            for executor in executors:
                try:
                    commit = executor.build_commit()
                except BaseException as error:  # noqa: BLE001 - as in `Holdings.guard`, without a further call
                    holdings.broke(executor, error)
                    continue
                batch.append((executor, commit))
                if commit.mode is not _KEEP:
                    holdings.recording(executor)
            # The slots of the runs that this commit lets go are free; those that take them may be ready to commit at
            # once. With few slots and short runs that makes calls for many runs out of calls for five.
            holdings.start_waiting()
            executors = holdings.commits.take(COMMIT_AT_ONCE - len(batch))
        return taken, batch

    async def _commit(self, batch: list[tuple[RunExecutor, Commit]]) -> None:
        holdings, fault = self._holdings, self._fault
        session = holdings.session
        commits = [commit for _, commit in batch]
        if fault is not None:
            fault("commit.before")
        try:
            outcomes = await self._patience.call(
                lambda: self._store.commit(commits), wanted=lambda: holdings.session == session, part=COMMITTER
            )
        except Refused as error:
            await self._find_culprit(batch, error)
            return
        if fault is not None:
            fault("commit.done")
        if outcomes is None:
            return  # the session was lost meanwhile, and with it all of these runs
        self._clock.observe(outcomes[0].now)
        with holdings:
            for (executor, commit), outcome in zip(batch, outcomes, strict=True):
                self._tell(executor, commit, outcome)

    async def _find_culprit(self, batch: list[tuple[RunExecutor, Commit]], error: Refused) -> None:
        """The script failed on one of the runs: one by one, so that only that one pays for it."""
        if len(batch) == 1:
            executor, _ = batch[0]
            if self._holdings.holds(executor):
                self._holdings.broke(executor, error)
            return
        session = self._holdings.session
        for executor, commit in batch:
            try:
                outcomes = await self._patience.call(
                    lambda one=commit: self._store.commit([one]),
                    wanted=lambda: self._holdings.session == session,
                    part=COMMITTER,
                )
            except Refused as refusal:
                await self._find_culprit([(executor, commit)], refusal)
                continue
            if outcomes is None:
                return
            self._clock.observe(outcomes[0].now)
            with self._holdings:
                self._tell(executor, commit, outcomes[0])

    def _tell(self, executor: RunExecutor, commit: Commit, outcome: CommitOutcome) -> None:
        holdings = self._holdings
        if not holdings.holds(executor) or executor.token != commit.token:
            if outcome.word in ("ok", "again"):
                executor.count_accepted()
            return
        if commit.mode is not _KEEP and (outcome.held or outcome.word == "mail"):
            holdings.still_executing(executor)
        try:
            executor.commit_answered(outcome)
        except BaseException as error:  # noqa: BLE001 - as in `Holdings.guard`, without a further call
            holdings.broke(executor, error)
