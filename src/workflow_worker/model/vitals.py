"""`VitalSigns`: what one worker says about itself, as plain integers that another process can read at any time.

The worker changes the attributes. In a worker process they are cells of memory that it shares with its supervisor
(`SharedSigns` in `service/board.py`), so that the counts survive the worker's death. Instants are milliseconds of the
machine's monotonic clock, which all processes of a machine share; spans are milliseconds.
"""

from __future__ import annotations

from enum import IntEnum

LATENCY_BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000)
"""Upper bounds of the histogram of an event's processing time (leased to recorded)."""


class WorkerPhase(IntEnum):
    """Where a worker stands in its life."""

    STARTING = 0
    RUNNING = 1
    DRAINING = 2
    STOPPED = 3


class VitalSigns:
    """Mutable on purpose and without locks: one writer, and each field is read on its own."""

    __slots__ = (
        "phase",
        "started_at",
        "roundtrip_at",
        "loop_at",
        "loop_lag",
        "renewed_at",
        "answering_since",
        "intake_since",
        "commit_since",
        "errand_since",
        "tick_since",
        "store_replaced_at",
        "store_memory",
        "hanging",
        "undead",
        "executing",
        "held",
        "processed",
        "succeeded",
        "failed",
        "duplicates",
        "early",
        "dead",
        "ingested",
        "runs_ended",
        "attempts",
        "attempts_failed",
        "retries",
        "takeovers",
        "refused_commits",
        "sessions_lost",
        "store_errors",
        "commits",
        "hung",
        "latency_sum",
        "latency_buckets",
    )

    SCALARS = __slots__[:-1]
    COUNTS = SCALARS[SCALARS.index("processed") :]
    """Numbers that only rise; the scalars before them are instants and states."""

    def __init__(self) -> None:
        self.phase = int(WorkerPhase.STARTING)
        self.started_at = 0
        self.roundtrip_at = 0
        """End of the last store round trip that succeeded."""
        self.loop_at = 0
        """Last time the worker's event loop turned."""
        self.loop_lag = 0
        """How late the loop's last timer was."""
        self.renewed_at = 0
        """Last successful renewal of the session."""
        self.answering_since = 0
        """Since when the store has answered somebody in this worker without a longer silence; 0 while it does not."""
        self.intake_since = 0
        """When the intake's present turn began (plan, sleep, ingest); 0 while it has nothing to do."""
        self.commit_since = 0
        """When the commit under way began, 0 without one; in the same way:"""
        self.errand_since = 0
        """Loads and hand backs."""
        self.tick_since = 0
        """Moving what is due."""
        self.store_replaced_at = 0
        """When a session found another namespace than the one before it (FLUSHALL, another server)."""
        self.store_memory = 0
        """Percent of its maxmemory that the store used at the last tick; 0 while that is not known."""
        self.hanging = 0
        """Bodies of given up attempts that run on now."""
        self.undead = 0
        """Coroutines of workflows that refused to end when their run left memory."""
        self.executing = 0
        """Runs executing now: the health report's activeEvents."""
        self.held = 0
        self.processed = 0
        """Events recorded by an accepted commit: succeeded + failed."""
        self.succeeded = 0
        self.failed = 0
        """Of the processed: that commit dead-lettered the event, or suspended or failed its run."""
        self.duplicates = 0
        self.early = 0
        self.dead = 0
        """Dead letters made by what this worker took in or recorded."""
        self.ingested = 0
        self.runs_ended = 0
        self.attempts = 0
        self.attempts_failed = 0
        self.retries = 0
        self.takeovers = 0
        self.refused_commits = 0
        self.sessions_lost = 0
        self.store_errors = 0
        self.commits = 0
        self.hung = 0
        """Attempts that were given up while their bodies went on."""
        self.latency_sum = 0
        self.latency_buckets = [0] * (len(LATENCY_BOUNDS_MS) + 1)

    def observe_latency(self, took_ms: int) -> None:
        """Count one event's processing time."""
        self.latency_sum += took_ms
        for index, bound in enumerate(LATENCY_BOUNDS_MS):
            if took_ms <= bound:
                self.latency_buckets[index] += 1
                return
        self.latency_buckets[-1] += 1

    def flatten(self) -> list[int]:
        """All numbers in a fixed order: the scalars as named in `SCALARS`, then the buckets."""
        return [getattr(self, name) for name in self.SCALARS] + self.latency_buckets

    @classmethod
    def unflatten(cls, numbers: list[int]) -> VitalSigns:
        """The inverse of `flatten`."""
        signs = cls()
        for name, number in zip(cls.SCALARS, numbers, strict=False):
            setattr(signs, name, number)
        signs.latency_buckets = list(numbers[len(cls.SCALARS) :])
        return signs


VITAL_NUMBERS = len(VitalSigns.SCALARS) + len(LATENCY_BOUNDS_MS) + 1
