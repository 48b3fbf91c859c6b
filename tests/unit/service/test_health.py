"""The judgement of workers and services, row by row of the definition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import VitalSigns, WorkerPhase
from workflow_worker.service.health import (
    HealthLimits,
    HealthStatus,
    Observed,
    health_report,
    judge,
)

NOW = 1_000_000
LIMITS = HealthLimits(
    poll_interval_ms=1_000, lease_ttl_ms=10_000, stall_limit_ms=30_000, interval_ms=30_000, memory_high_water=85
)
HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY


def signs(**ages: int) -> VitalSigns:
    """A running worker that is well, but for the ages (ms) or numbers given."""
    made = VitalSigns()
    made.phase = ages.pop("phase", int(WorkerPhase.RUNNING))
    made.loop_lag = ages.pop("loop_lag", 0)
    made.undead = ages.pop("undead", 0)
    made.store_memory = ages.pop("store_memory", 0)
    for name in ("roundtrip_at", "renewed_at", "loop_at", "answering_since"):
        setattr(made, name, NOW - ages.pop(name, 500_000 if name == "answering_since" else 50))
    for name in ("intake_since", "commit_since", "errand_since", "tick_since", "store_replaced_at"):
        if name in ages:
            setattr(made, name, NOW - ages.pop(name))
    assert not ages
    return made


def worker(made: VitalSigns | None, started: int = 600_000, restarted: int | None = None) -> Observed:
    return Observed("w", made, NOW - started, None if restarted is None else NOW - restarted)


@pytest.mark.parametrize(
    ("observed", "status", "reasons"),
    [
        (worker(signs()), HEALTHY, []),
        (worker(signs(roundtrip_at=3_000)), HEALTHY, []),
        (worker(signs(roundtrip_at=3_001)), DEGRADED, ["no round trip to the store for 3.0 s"]),
        (worker(signs(loop_lag=999)), HEALTHY, []),
        (worker(signs(loop_lag=1_000)), DEGRADED, ["event loop 1.0 s late"]),
        (worker(signs(loop_at=1_000)), DEGRADED, ["event loop 1.0 s late"]),
        (worker(signs(loop_at=30_000)), DEGRADED, ["event loop 30.0 s late"]),
        (worker(signs(loop_at=30_001)), UNHEALTHY, ["event loop still for 30.0 s"]),
        (worker(signs(renewed_at=6_666)), HEALTHY, []),
        (worker(signs(renewed_at=6_667)), DEGRADED, ["session not renewed for 6.7 s"]),
        (worker(signs(renewed_at=60_000)), DEGRADED, ["session not renewed for 60.0 s"]),
        (
            worker(signs(roundtrip_at=10_000, renewed_at=10_000)),
            DEGRADED,
            ["no round trip to the store for 10.0 s", "session not renewed for 10.0 s"],
        ),
        (worker(signs(roundtrip_at=10_001, renewed_at=12_000)), UNHEALTHY, ["no contact with the store for 10.0 s"]),
        (worker(signs(phase=WorkerPhase.DRAINING)), DEGRADED, ["draining"]),
        (worker(signs(phase=WorkerPhase.STOPPED)), UNHEALTHY, ["process gone"]),
        (worker(None), UNHEALTHY, ["process gone"]),
        (worker(signs(), restarted=29_999), DEGRADED, ["restarted 30.0 s ago"]),
        (worker(signs(), restarted=30_000), HEALTHY, []),
        (worker(signs(intake_since=4_000)), HEALTHY, []),
        (worker(signs(intake_since=4_001)), DEGRADED, ["intake stands still for 4.0 s though the store answers"]),
        (worker(signs(intake_since=10_000)), DEGRADED, ["intake stands still for 10.0 s though the store answers"]),
        (worker(signs(intake_since=10_001)), UNHEALTHY, ["intake stands still for 10.0 s though the store answers"]),
        (worker(signs(commit_since=3_000)), HEALTHY, []),
        (worker(signs(commit_since=60_000)), UNHEALTHY, ["committer stands still for 60.0 s though the store answers"]),
        (worker(signs(tick_since=5_000)), DEGRADED, ["ticker stands still for 5.0 s though the store answers"]),
        (
            worker(signs(tick_since=5_000, phase=WorkerPhase.STARTING)),
            DEGRADED,
            ["starting", "ticker stands still for 5.0 s though the store answers"],
        ),
        # In an outage the parts wait with everybody else.
        (
            worker(signs(intake_since=9_000, roundtrip_at=9_000, renewed_at=9_000)),
            DEGRADED,
            ["no round trip to the store for 9.0 s", "session not renewed for 9.0 s"],
        ),
        (worker(signs(store_replaced_at=29_999)), DEGRADED, ["the store was replaced 30.0 s ago"]),
        (worker(signs(store_replaced_at=30_000)), HEALTHY, []),
        (worker(signs(store_memory=85)), HEALTHY, []),
        (worker(signs(store_memory=86)), DEGRADED, ["the store uses 86 % of its memory (MEMORY_HIGH_WATER)"]),
        (worker(signs(undead=10)), HEALTHY, []),
        (worker(signs(undead=11)), DEGRADED, ["11 workflow coroutines refuse to end"]),
        (worker(VitalSigns(), started=500), DEGRADED, ["starting"]),
        (worker(VitalSigns(), started=10_001), UNHEALTHY, ["no contact with the store for 10.0 s"]),
    ],
)
def test_one_worker(observed: Observed, status: HealthStatus, reasons: list[str]) -> None:
    judged = judge([observed], LIMITS, NOW).workers[0]
    assert (judged.status, list(judged.reasons)) == (status, reasons)


def test_slow_polling_is_not_silence() -> None:
    slow = HealthLimits(poll_interval_ms=5_000, lease_ttl_ms=60_000, stall_limit_ms=30_000, interval_ms=30_000)
    assert judge([worker(signs(roundtrip_at=10_000))], slow, NOW).status is HEALTHY
    assert judge([worker(signs(roundtrip_at=10_001))], slow, NOW).status is DEGRADED


GOOD, POOR, GONE = worker(signs()), worker(signs(loop_lag=5_000)), worker(None)


@pytest.mark.parametrize(
    ("workers", "status"),
    [
        ([GOOD, GOOD], HEALTHY),
        ([GOOD, POOR], DEGRADED),
        ([GOOD, GONE], DEGRADED),
        ([POOR, POOR], DEGRADED),
        ([POOR, GONE], DEGRADED),
        ([GONE, GONE], UNHEALTHY),
        ([], UNHEALTHY),
    ],
)
def test_a_service(workers: Sequence[Observed], status: HealthStatus) -> None:
    health = judge(workers, LIMITS, NOW)
    assert health.status is status
    assert sum(health.count(each) for each in HealthStatus) == len(workers)


def test_the_report_has_ten_fields_in_their_order() -> None:
    totals = VitalSigns()
    totals.succeeded, totals.failed, totals.executing = 7, 2, 3
    report = health_report(judge([GOOD, POOR, GONE], LIMITS, NOW), totals, 1_795_556_220_007)
    assert list(report.items()) == [
        ("status", "degraded"),
        ("workerCount", 3),
        ("healthyWorkers", 1),
        ("degradedWorkers", 1),
        ("unhealthyWorkers", 1),
        ("eventsProcessed", 9),
        ("eventsSucceeded", 7),
        ("eventsFailed", 2),
        ("activeEvents", 3),
        ("timestamp", "2026-11-24T21:37:00.007Z"),
    ]


def test_limits_follow_from_the_settings() -> None:
    limits = HealthLimits.of(Settings.from_mapping({"POLL_INTERVAL_MS": "4000", "LEASE_TTL_MS": "9000"}))
    assert (limits.silence_ms, limits.renewal_ms, limits.interval_ms) == (8_000, 6_000, 30_000)
