"""Virtual time: a heap of things to do, one seeded source of randomness, and a hash of all that happened."""

from __future__ import annotations

import heapq
import random
import zlib
from collections import Counter
from collections.abc import Callable


class Violation(AssertionError):
    """The protocol broke a promise; the message says which, and with what."""


def require(holds: bool, promise: str, *found: object) -> None:
    """Raise `Violation` unless a promise holds."""
    if not holds:
        raise Violation(" ".join([promise, *map(str, found)])[:1_500])


class Kernel:
    """The scheduler of one simulated world. Instants are milliseconds since its beginning."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 0
        self.counts: Counter[str] = Counter()
        self.trace = 0
        self._verbose = verbose
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, when: int, do: Callable[[], None]) -> None:
        """Do something at an instant; what is due at the same one is done in the order of asking."""
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, do))

    def after(self, delay: int, do: Callable[[], None]) -> None:
        """Do something after a while."""
        self.at(self.now + delay, do)

    def every(self, gap: Callable[[], int], do: Callable[[], None]) -> None:
        """Do something again and again, with a new gap each time."""

        def again() -> None:
            do()
            self.after(gap(), again)

        self.after(gap(), again)

    def run(self, until: int, stop: Callable[[], bool] | None = None) -> None:
        """Let time go on until an instant, or until `stop` says so (asked at each step)."""
        while self._heap and self._heap[0][0] <= until and not (stop and stop()):
            self.now, _, do = heapq.heappop(self._heap)
            do()

    def note(self, *what: object) -> None:
        """Add to the trace: hashed always, printed when asked."""
        self.trace = zlib.crc32(repr((self.now, what)).encode(), self.trace)
        if self._verbose:
            print(f"{self.now:6}", *what)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.random.random() * (high - low + 1))
