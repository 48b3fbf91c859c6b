"""`Cache`: runs at rest in memory, so that waking on the same worker needs no replay."""

from __future__ import annotations

from collections import OrderedDict

from workflow_worker.model.ids import CommitId, RunRef
from workflow_worker.worker.executor import RunExecutor


class Cache:
    """Least recently rested goes first. What it drops is closed, never left to the garbage collector, because that
    would run the ``finally`` blocks of a suspended run at a random time inside another run."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._resting: OrderedDict[RunRef, RunExecutor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._resting)

    def put(self, executor: RunExecutor) -> None:
        """Keep a released run."""
        self.drop(executor.ref)
        self._resting[executor.ref] = executor
        while len(self._resting) > self._capacity:
            self._resting.popitem(last=False)[1].close()

    def take(self, ref: RunRef, cid: CommitId) -> RunExecutor | None:
        """The run, if its last commit is the one that the cache saw; an outdated one is closed."""
        executor = self._resting.pop(ref, None)
        if executor is not None and executor.base != cid:
            executor.close()
            return None
        return executor

    def drop(self, ref: RunRef) -> None:
        """Forget a run."""
        executor = self._resting.pop(ref, None)
        if executor is not None:
            executor.close()

    def clear(self) -> None:
        """Forget all runs."""
        while self._resting:
            self._resting.popitem()[1].close()
