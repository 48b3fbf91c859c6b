"""`judge`: from the workers' vital signs to the health of a service, with reasons. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from workflow_worker.model.instants import iso_ms
from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import VitalSigns, WorkerPhase
from workflow_worker.worker.standstill import Standstill, longest_silence_ms, standstills

_LAG_LIMIT_MS = 1_000
_UNDEAD_LIMIT = 10


class HealthStatus(StrEnum):
    """The three answers."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """What is still well, in milliseconds."""

    poll_interval_ms: int
    lease_ttl_ms: int
    stall_limit_ms: int
    interval_ms: int
    memory_high_water: int = 0
    """Percent of the store's maxmemory; 0: any is well."""

    @classmethod
    def of(cls, settings: Settings) -> HealthLimits:
        """The limits that follow from the settings."""
        return cls(
            settings.poll_interval_ms,
            settings.lease_ttl_ms,
            settings.stall_limit_ms,
            settings.health_check_interval_ms,
            settings.memory_high_water,
        )

    @property
    def silence_ms(self) -> int:
        """The longest time between two round trips to the store: idle workers look every POLL_INTERVAL_MS."""
        return longest_silence_ms(self.poll_interval_ms)

    @property
    def renewal_ms(self) -> int:
        """A renewal lasts for two thirds of LEASE_TTL_MS; after that the session has expired."""
        return self.lease_ttl_ms * 2 // 3


@dataclass(frozen=True, slots=True)
class Observed:
    """One worker that should be there. `signs` is None while its process is gone."""

    worker: str
    signs: VitalSigns | None
    started_at: int
    restarted_at: int | None = None
    """When a new process took the place of one that died."""


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """The judgement of one worker; `reasons` is empty when it is healthy."""

    worker: str
    status: HealthStatus
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement of the service and of each of its workers."""

    status: HealthStatus
    workers: tuple[WorkerHealth, ...]

    def count(self, status: HealthStatus) -> int:
        """How many workers were judged so."""
        return sum(worker.status is status for worker in self.workers)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not better, worker by worker."""
        return tuple(f"{worker.worker}: {', '.join(worker.reasons)}" for worker in self.workers if worker.reasons)


def judge(workers: Sequence[Observed], limits: HealthLimits, now: int) -> Health:
    """All healthy: healthy. None healthy or degraded: unhealthy. Else degraded. `now` is monotonic milliseconds."""
    judged = tuple(_judge_worker(worker, limits, now) for worker in workers)
    found = {worker.status for worker in judged}
    if found == {HealthStatus.HEALTHY}:
        status = HealthStatus.HEALTHY
    elif found <= {HealthStatus.UNHEALTHY}:
        status = HealthStatus.UNHEALTHY
    else:
        status = HealthStatus.DEGRADED
    return Health(status, judged)


def health_report(health: Health, totals: VitalSigns, at_ms: int) -> dict[str, str | int]:
    """The ten fields of ``GET /api/health/worker``, in their order; the counts are the service's since its start."""
    return {
        "status": health.status.value,
        "workerCount": len(health.workers),
        "healthyWorkers": health.count(HealthStatus.HEALTHY),
        "degradedWorkers": health.count(HealthStatus.DEGRADED),
        "unhealthyWorkers": health.count(HealthStatus.UNHEALTHY),
        "eventsProcessed": totals.succeeded + totals.failed,
        "eventsSucceeded": totals.succeeded,
        "eventsFailed": totals.failed,
        "activeEvents": totals.executing,
        "timestamp": iso_ms(at_ms),
    }


def _judge_worker(worker: Observed, limits: HealthLimits, now: int) -> WorkerHealth:
    if worker.signs is None or worker.signs.phase == WorkerPhase.STOPPED:
        return WorkerHealth(worker.worker, HealthStatus.UNHEALTHY, ("process gone",))
    still = standstills(worker.signs, limits.poll_interval_ms, limits.lease_ttl_ms, now)
    hopeless = _hopeless(worker.signs, worker.started_at, still, limits, now)
    if hopeless:
        return WorkerHealth(worker.worker, HealthStatus.UNHEALTHY, hopeless)
    troubles = (*_troubles(worker, worker.signs, limits, now), *map(_described, still))
    return WorkerHealth(worker.worker, HealthStatus.DEGRADED if troubles else HealthStatus.HEALTHY, troubles)


def _hopeless(
    signs: VitalSigns, started_at: int, still: tuple[Standstill, ...], limits: HealthLimits, now: int
) -> tuple[str, ...]:
    """No contact with the store for a whole lease, whichever way it is made, or a loop or a part that stands still.

    The loop is left out of the first: a worker that turns and reaches nothing has been deaf all that time.
    """
    contact_at = max(signs.roundtrip_at, signs.renewed_at, started_at)
    reasons: list[str] = []
    if now - contact_at > limits.lease_ttl_ms:
        reasons.append(f"no contact with the store for {_span(now - contact_at)}")
    if signs.loop_at and now - signs.loop_at > limits.stall_limit_ms:
        reasons.append(f"event loop still for {_span(now - signs.loop_at)}")
    return (*reasons, *(_described(stood) for stood in still if stood.for_ms > limits.lease_ttl_ms))


def _described(stood: Standstill) -> str:
    return f"{stood.part} stands still for {_span(stood.for_ms)} though the store answers"


def _troubles(worker: Observed, signs: VitalSigns, limits: HealthLimits, now: int) -> tuple[str, ...]:
    reasons: list[str] = []
    if signs.phase == WorkerPhase.DRAINING:
        reasons.append("draining")
    if worker.restarted_at is not None and now - worker.restarted_at < limits.interval_ms:
        reasons.append(f"restarted {_span(now - worker.restarted_at)} ago")
    if signs.phase == WorkerPhase.STARTING:
        return (*reasons, "starting")
    if now - signs.roundtrip_at > limits.silence_ms:
        reasons.append(f"no round trip to the store for {_span(now - signs.roundtrip_at)}")
    lag = max(signs.loop_lag, now - signs.loop_at)
    if lag >= _LAG_LIMIT_MS:
        reasons.append(f"event loop {_span(lag)} late")
    if now - signs.renewed_at > limits.renewal_ms:
        reasons.append(f"session not renewed for {_span(now - signs.renewed_at)}")
    return (*reasons, *_warnings(signs, limits, now))


def _warnings(signs: VitalSigns, limits: HealthLimits, now: int) -> tuple[str, ...]:
    """What does not hinder the worker now and should be seen by a person."""
    reasons: list[str] = []
    if signs.store_replaced_at and now - signs.store_replaced_at < limits.interval_ms:
        reasons.append(f"the store was replaced {_span(now - signs.store_replaced_at)} ago")
    if limits.memory_high_water and signs.store_memory > limits.memory_high_water:
        reasons.append(f"the store uses {signs.store_memory} % of its memory (MEMORY_HIGH_WATER)")
    if signs.undead > _UNDEAD_LIMIT:
        reasons.append(f"{signs.undead} workflow coroutines refuse to end")
    return tuple(reasons)


def _span(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s"
