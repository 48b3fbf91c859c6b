"""What held runs want of the store: commits, loads and hand-backs, from who wants them to who sends them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sized
from itertools import islice

from workflow_worker.model.ids import RunRef
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.planning import WORTH_A_CALL


class CommitQueue:
    """Runs that want to be in the next group commit.

    Args:
        slots: How many runs execute at once, at most.
        waiting: The runs that wait for a slot.
    """

    def __init__(self, slots: int, waiting: Sized) -> None:
        self._slots = slots
        self._waiting = waiting
        self._wanting: dict[RunExecutor, None] = {}
        self.wanted = asyncio.Event()
        self.piled = asyncio.Event()
        """Set while a commit is worth its price though others are under way."""

    def ask(self, executor: RunExecutor) -> None:
        """Take the run into the next group commit."""
        self._wanting[executor] = None
        wanting = len(self._wanting)
        if wanting == 1:
            self.wanted.set()  # for the others it is set already
        if self._piled(wanting):
            self.piled.set()

    def take(self, most: int) -> list[RunExecutor]:
        """At most `most` of them, in the order in which they asked."""
        chosen = list(islice(self._wanting, most))
        for executor in chosen:
            del self._wanting[executor]
        if not self._wanting:
            self.wanted.clear()
        if not self._piled(len(self._wanting)):
            self.piled.clear()
        return chosen

    def discard(self, executor: RunExecutor) -> None:
        """It is held no more."""
        self._wanting.pop(executor, None)

    def _piled(self, wanting: int) -> bool:
        """Whether many want to commit, or all slots are taken by those who do while others wait for one."""
        return wanting >= WORTH_A_CALL or (wanting >= self._slots and len(self._waiting) > 0)


class ErrandQueue:
    """Runs whose history must be read, and runs to hand back."""

    def __init__(self) -> None:
        self._loads: deque[RunExecutor] = deque()
        self._hand_backs: deque[tuple[RunRef, int, int]] = deque()
        self._under_way = False
        self.wanted = asyncio.Event()

    @property
    def handing_back(self) -> bool:
        """Whether a run is to be handed back that the store does not have yet."""
        return self._under_way or bool(self._hand_backs)

    @property
    def empty(self) -> bool:
        """Whether nothing is left to hand back."""
        return not self._hand_backs

    def load(self, executor: RunExecutor) -> None:
        """Its history is needed."""
        self._loads.append(executor)
        self.wanted.set()

    def hand_back(self, ref: RunRef, token: int, delay_ms: int) -> None:
        """Another worker shall have it, not before the delay is over."""
        self._hand_backs.append((ref, token, delay_ms))
        self.wanted.set()

    def take_loads(self, most: int) -> list[RunExecutor]:
        """Runs whose history must be read, at most `most`."""
        return [self._loads.popleft() for _ in range(min(most, len(self._loads)))]

    def take_hand_backs(self) -> list[tuple[RunRef, int, int]]:
        """All runs to hand back, with token and delay in ms; `handed_back` when the store has them."""
        taken = list(self._hand_backs)
        self._hand_backs.clear()
        self._under_way = bool(taken)
        return taken

    def handed_back(self) -> None:
        """All that `take_hand_backs` gave is with the store."""
        self._under_way = False

    def forget_loads(self) -> None:
        """Nobody waits for a history any more."""
        self._loads.clear()

    def clear(self) -> None:
        """The session is gone, and with it all that was held."""
        self._loads.clear()
        self._hand_backs.clear()
