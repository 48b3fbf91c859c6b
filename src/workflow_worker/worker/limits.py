"""`WorkerLimits`: the numbers that a worker obeys, taken from the settings by its process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Spans are milliseconds.

    `detail` turns on the facts of every event and attempt (LOG_LEVEL=debug); failures are always reported.
    """

    batch_size: int = 10
    concurrency_limit: int = 5
    poll_interval_ms: int = 1_000
    max_retries: int = 3
    lease_ttl_ms: int = 10_000
    stall_limit_ms: int = 30_000
    shutdown_grace_ms: int = 30_000
    max_takeovers: int = 3
    cached_runs: int = 2_000
    start_within_ms: int = 1_000
    """A leased run that found no slot for so long is handed back, uncounted."""
    linger_ms: int = 100
    """A run whose next timer is nearer than this is kept instead of released."""
    closing_ms: int = 4_000
    """What may follow the grace: bodies that do not end, the session, the connections; hung ones are left behind."""
    memory_high_water: int = 85
    """Percent of maxmemory above which the store is reported as filling up; 0 for never."""
    history_warn_records: int = 10_000
    """Records from which on a run is complained about, because each replay of it takes a tenth of a second and more; 0
    for never."""
    detail: bool = False
