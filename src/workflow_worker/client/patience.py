"""Repeating a call of the store while Redis is away: same arguments, jittered pauses, up to a deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreUnavailable

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client goes on when the store does not answer. Every verb of the store may be repeated."""

    environment: Environment
    seconds: float

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The answer of `attempt`, which is made anew until it comes; each must have the same arguments.

        Raises:
            StoreUnavailable: No answer within `seconds`. What was asked for may have happened all the same.
        """
        deadline = self.environment.monotonic() + self.seconds
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await attempt()
            except StoreUnavailable:
                left = deadline - self.environment.monotonic()
                if left <= 0:
                    raise
            await self.environment.sleep(min(left, pause * (0.5 + self.environment.random.random() / 2)))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
