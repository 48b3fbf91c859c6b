"""One snapshot, three faces: the metrics line, the Prometheus page and the health report agree."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from workflow_worker.model.vitals import VitalSigns
from workflow_worker.service.health import HealthLimits, Observed, health_report, judge
from workflow_worker.service.metrics import MetricsPage, Numbers, metrics_line
from workflow_worker.store.transitions import Depth


def numbers(depth: Depth | None) -> Numbers:
    totals = VitalSigns()
    totals.succeeded, totals.failed, totals.executing = 98, 2, 4
    totals.processed = 100
    for _ in range(98):
        totals.observe_latency(3)
    for _ in range(2):
        totals.observe_latency(70_000)
    health = judge([Observed("a", None, 0), Observed("b", None, 0)], HealthLimits(1, 1, 1, 1), 10)
    return Numbers(totals, health, 5, depth)


def page(of: Numbers) -> dict[str, float]:
    text = MetricsPage(lambda: of).render().decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_all_faces_tell_the_same() -> None:
    of = numbers(Depth(events=7, ready=1, delayed=2, dead=3, sessions=4, suspended=5))
    line, shown, report = metrics_line(of, VitalSigns(), 10_000), page(of), health_report(of.health, of.totals, 0)
    assert line["events_processed"] == shown["ww_events_processed_total"] == report["eventsProcessed"] == 100
    assert line["events_failed"] == shown["ww_events_failed_total"] == report["eventsFailed"] == 2
    assert line["active_events"] == shown["ww_events_active"] == report["activeEvents"] == 4
    assert line["stream_events"] == shown["ww_stream_events"] == 7
    assert line["restarts"] == shown["ww_worker_restarts_total"] == 5
    assert shown["ww_workers[unhealthy]"] == report["unhealthyWorkers"] == 2
    assert shown["ww_redis_up"] == 1


def test_rate_and_quantiles_are_of_the_time_since_the_last_line() -> None:
    of = numbers(None)
    line = metrics_line(of, VitalSigns(), 10_000)
    assert (line["events_per_s"], line["p50_ms"], line["p99_ms"]) == (10.0, 5, 60_000)
    again = metrics_line(of, of.totals, 10_000)
    assert (again["events_per_s"], again["p50_ms"], again["p99_ms"]) == (0.0, 0, 0)


def test_the_histogram_is_cumulative_and_complete() -> None:
    shown = page(numbers(None))
    assert shown["ww_event_seconds_bucket[0.002]"] == 0
    assert shown["ww_event_seconds_bucket[0.005]"] == 98
    assert shown["ww_event_seconds_bucket[60.0]"] == 98
    assert shown["ww_event_seconds_bucket[+Inf]"] == shown["ww_event_seconds_count"] == 100


def test_a_depth_that_is_not_known_is_not_shown() -> None:
    shown = page(numbers(None))
    assert shown["ww_redis_up"] == 0
    assert not any(name.startswith(("ww_stream", "ww_dead")) for name in shown)
    assert "stream_events" not in metrics_line(numbers(None), VitalSigns(), 1)


def test_what_hangs_and_how_full_the_store_is() -> None:
    of = numbers(None)
    assert "ww_store_memory_percent" not in page(of)  # not known is not 0
    of.totals.hung, of.totals.hanging, of.totals.store_memory = 3, 1, 91
    of.totals.duplicates, of.totals.early, of.totals.dead = 4, 5, 6
    shown = page(of)
    assert (shown["ww_attempts_hung_total"], shown["ww_attempts_hanging"]) == (3, 1)
    assert shown["ww_store_memory_percent"] == 91
    fates = [shown[f"ww_events_{fate}_total"] for fate in ("duplicate", "early", "dead")]
    assert fates == [4, 5, 6]
