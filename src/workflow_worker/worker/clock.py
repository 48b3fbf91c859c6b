"""`ServerClock`: the store's time between two replies, by the local monotonic clock."""

from __future__ import annotations

from workflow_worker.model.environment import Environment


class ServerClock:
    """Milliseconds since 1970 as the store counts them.

    Timers and records go by the server's clock, so that all workers agree; between replies the local monotonic clock
    carries it on. Replies always bring a time that is a little old, so the best estimate is the highest one of the last
    seconds: not of all time, because the two clocks drift apart and a server's clock is set back now and then. A
    difference larger than any round trip is believed at once.
    """

    _JUMP_MS = 1_000
    _WINDOW_S = 10.0

    def __init__(self, environment: Environment) -> None:
        self._monotonic = environment.monotonic
        self._offset: float | None = None
        self._recent = self._older = 0.0
        self._window_began = 0.0
        self._environment = environment

    def observe(self, server_now_ms: int) -> None:
        """Learn from a reply that carries the server's time."""
        if not server_now_ms:
            return
        now = self._monotonic()
        offset = server_now_ms - now * 1000
        if self._offset is None or self._offset - offset > self._JUMP_MS:
            self._older = self._recent = offset
            self._window_began = now
        elif now - self._window_began >= self._WINDOW_S:
            self._older, self._recent = self._recent, offset
            self._window_began = now
        self._recent = max(self._recent, offset)
        self._offset = max(self._older, self._recent)

    def now_ms(self) -> int:
        """The server's time now; the wall clock of this machine before the first reply."""
        if self._offset is None:
            return self._environment.now_ms()
        return int(self._monotonic() * 1000 + self._offset)
