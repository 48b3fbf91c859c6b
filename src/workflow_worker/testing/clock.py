"""`VirtualClock`: one time for store and worker, which stands still until somebody moves it."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any


class Alarm:
    """A callback that waits for its time."""

    __slots__ = ("args", "callback", "cancelled", "due_ms", "number")

    def __init__(self, due_ms: int, number: int, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.due_ms = due_ms
        self.number = number
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        """Never call it."""
        self.cancelled = True

    def __lt__(self, other: Alarm) -> bool:
        return (self.due_ms, self.number) < (other.due_ms, other.number)


class VirtualClock:
    """Milliseconds since 1970, and the alarms of the worker: deadlines of attempts, timers of runs that it holds."""

    def __init__(self, start_ms: int) -> None:
        self._now_ms = start_ms
        self._alarms: list[Alarm] = []
        self._numbers = itertools.count()

    def now_ms(self) -> int:
        """The time."""
        return self._now_ms

    def monotonic(self) -> float:
        """The same in seconds: a clock that never goes back."""
        return self._now_ms / 1000

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> Alarm:
        """Call back when the clock has been moved so far; never before `fire`."""
        alarm = Alarm(self._now_ms + max(0, math.ceil(delay_s * 1000)), next(self._numbers), callback, args)
        heapq.heappush(self._alarms, alarm)
        return alarm

    @property
    def next_due(self) -> int | None:
        """When the next alarm is due."""
        while self._alarms and self._alarms[0].cancelled:
            heapq.heappop(self._alarms)
        return self._alarms[0].due_ms if self._alarms else None

    def move_to(self, instant_ms: int) -> None:
        """Let it be that time; a time that has passed changes nothing."""
        self._now_ms = max(self._now_ms, instant_ms)

    def fire(self) -> bool:
        """Call whatever is due, in order; whether there was something."""
        fired = False
        while (due := self.next_due) is not None and due <= self._now_ms:
            alarm = heapq.heappop(self._alarms)
            alarm.callback(*alarm.args)
            fired = True
        return fired
