"""`Environment`: clock, sleep, randomness, new ids and fault points, handed in and never reached for.

Production builds one from the standard library (`worker/reality.py`), simulations build a virtual one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol


class RandomSource(Protocol):
    """The part of `random.Random` that we use."""

    def random(self) -> float:
        """A number from [0, 1)."""
        ...


class Alarm(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Never call it."""
        ...


class CallLater(Protocol):
    """As `asyncio.loop.call_later`."""

    def __call__(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> Alarm:
        """Call back in so many seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Environment:
    """The world as a worker or a client sees it.

    `monotonic` counts seconds, for deadlines; `now_ms` is the wall clock, for what people read; `fault` is called with
    the name of each crash and pause point (RELIABILITY: ``commit.sent`` and so on), None in production. `call_later`
    stands in for the event loop's own where time is moved by hand.
    """

    monotonic: Callable[[], float]
    now_ms: Callable[[], int]
    sleep: Callable[[float], Awaitable[None]]
    random: RandomSource
    new_id: Callable[[], str]
    fault: Callable[[str], None] | None = None
    call_later: CallLater | None = None
