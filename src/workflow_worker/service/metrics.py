"""The numbers of a service: one snapshot, from which the metrics line, ``/metrics`` and the health report are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from workflow_worker.model.vitals import LATENCY_BOUNDS_MS, VitalSigns
from workflow_worker.service.health import Health, HealthStatus
from workflow_worker.store.transitions import Depth

_COUNTERS = {
    "ww_events_processed": ("processed", "Events recorded by an accepted commit: succeeded + failed."),
    "ww_events_succeeded": ("succeeded", "Events processed without failing their run."),
    "ww_events_failed": ("failed", "Events that were dead-lettered by a run, or suspended or failed it."),
    "ww_events_ingested": ("ingested", "Entries taken from the event stream."),
    "ww_events_duplicate": ("duplicates", "Events whose id had been accepted before."),
    "ww_events_early": ("early", "Events that came before a run of their subject."),
    "ww_events_dead": ("dead", "Events that became dead letters."),
    "ww_runs_ended": ("runs_ended", "Runs that ended."),
    "ww_attempts": ("attempts", "Attempts of actions."),
    "ww_attempts_failed": ("attempts_failed", "Attempts that raised."),
    "ww_attempts_hung": ("hung", "Attempts that were given up while their bodies went on."),
    "ww_retries": ("retries", "Attempts after the first."),
    "ww_takeovers": ("takeovers", "Runs taken over from a dead worker."),
    "ww_commits": ("commits", "Commits accepted by the store."),
    "ww_commits_refused": ("refused_commits", "Commits refused by the store: another holds the run."),
    "ww_sessions_lost": ("sessions_lost", "Sessions that ended without their worker."),
    "ww_store_errors": ("store_errors", "Calls to Redis without a usable answer."),
}
_DEPTHS = {
    "ww_stream_events": ("events", "Events in the stream that nobody has taken in: scale by this."),
    "ww_ready_runs": ("ready", "Runs that have something to do and are held by nobody."),
    "ww_delayed_events": ("delayed", "Events that are not due yet."),
    "ww_dead_letters": ("dead", "Dead letters that wait for a person."),
    "ww_suspended_runs": ("suspended", "Runs that wait for a person."),
    "ww_sessions": ("sessions", "Workers alive in this namespace, on all servers."),
}


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a service knows of itself at one moment. `depth` is None while Redis does not answer."""

    totals: VitalSigns
    health: Health
    restarts: int
    depth: Depth | None


def metrics_line(numbers: Numbers, before: VitalSigns, elapsed_ms: int) -> dict[str, int | float]:
    """Fields of the regular log line: totals since the start, and the rate and latency since the line before."""
    totals = numbers.totals
    since = [now - then for now, then in zip(totals.latency_buckets, before.latency_buckets, strict=True)]
    line: dict[str, int | float] = {
        "events_processed": totals.processed,
        "events_succeeded": totals.succeeded,
        "events_failed": totals.failed,
        "active_events": totals.executing,
        "events_per_s": round((totals.processed - before.processed) * 1000 / max(1, elapsed_ms), 1),
        "p50_ms": _quantile(since, 0.5),
        "p99_ms": _quantile(since, 0.99),
        "attempts": totals.attempts,
        "retries": totals.retries,
        "workers": len(numbers.health.workers),
        "healthy_workers": numbers.health.count(HealthStatus.HEALTHY),
        "restarts": numbers.restarts,
    }
    if numbers.depth is not None:
        line |= {
            "stream_events": numbers.depth.events,
            "ready_runs": numbers.depth.ready,
            "dead_letters": numbers.depth.dead,
            "suspended_runs": numbers.depth.suspended,
        }
    return line


class MetricsPage:
    """Text of ``GET /metrics`` in Prometheus' format. Labels come from closed sets only."""

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(numbers))

    def render(self) -> bytes:
        """The page as it is now."""
        return generate_latest(self._registry)


class _Collector:
    """Reads the snapshot when asked; nothing is counted twice, and nothing is kept here."""

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        """Nothing to check at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics of one moment."""
        numbers = self._numbers()
        totals = numbers.totals
        for name, (sign, text) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(totals, sign))
        yield CounterMetricFamily("ww_worker_restarts", "Worker processes that died.", value=numbers.restarts)
        yield GaugeMetricFamily("ww_events_active", "Runs executing now.", value=totals.executing)
        yield GaugeMetricFamily("ww_runs_held", "Runs leased by the workers.", value=totals.held)
        workers = GaugeMetricFamily("ww_workers", "Worker processes by health.", labels=["status"])
        for status in HealthStatus:
            workers.add_metric([status.value], numbers.health.count(status))
        yield workers
        yield GaugeMetricFamily(
            "ww_attempts_hanging", "Bodies of given up attempts that run now.", value=totals.hanging
        )
        if totals.store_memory:
            yield GaugeMetricFamily(
                "ww_store_memory_percent", "Share of Redis' maxmemory in use.", value=totals.store_memory
            )
        yield _latency(totals)
        yield GaugeMetricFamily("ww_redis_up", "1 while Redis answers.", value=int(numbers.depth is not None))
        if numbers.depth is not None:
            for name, (attribute, text) in _DEPTHS.items():
                yield GaugeMetricFamily(name, text, value=getattr(numbers.depth, attribute))


def _latency(totals: VitalSigns) -> Metric:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*LATENCY_BOUNDS_MS, None), totals.latency_buckets, strict=True):
        below += count
        buckets.append(("+Inf" if bound is None else str(bound / 1000), below))
    return HistogramMetricFamily(
        "ww_event_seconds",
        "Time from an event's lease to its record.",
        buckets=buckets,
        sum_value=totals.latency_sum / 1000,
    )


def _quantile(buckets: list[int], share: float) -> int:
    """Upper bound, in ms, of the bucket that holds this quantile; 0 without any event."""
    wanted = sum(buckets) * share
    below = 0
    for bound, count in zip((*LATENCY_BOUNDS_MS, LATENCY_BOUNDS_MS[-1]), buckets, strict=True):
        below += count
        if count and below >= wanted:
            return bound
    return 0
