"""`ServerClock`: the store's time between two replies, by the local monotonic clock."""

from __future__ import annotations

from workflow_worker.model.environment import Environment


class ServerClock:
    """Milliseconds since 1970 as the store counts them.

    Timers and records go by the server's clock, so that all workers agree; between replies the local monotonic clock
    carries it on. Replies always bring a time that is a little old, so the latest estimate is the highest one, and a
    server clock that was set back is believed when the difference is larger than any round trip.
    """

    _JUMP_MS = 1_000

    def __init__(self, environment: Environment) -> None:
        self._monotonic = environment.monotonic
        self._offset: float | None = None
        self._environment = environment

    def observe(self, server_now_ms: int) -> None:
        """Learn from a reply that carries the server's time."""
        if not server_now_ms:
            return
        offset = server_now_ms - self._monotonic() * 1000
        if self._offset is None or offset > self._offset or self._offset - offset > self._JUMP_MS:
            self._offset = offset

    def now_ms(self) -> int:
        """The server's time now; the wall clock of this machine before the first reply."""
        if self._offset is None:
            return self._environment.now_ms()
        return int(self._monotonic() * 1000 + self._offset)
