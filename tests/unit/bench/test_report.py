"""The tables and the chart of a run."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from bench.chart import bars_of, chart
from bench.report import document, terminal
from bench.results import Line

from tests.unit.bench.results_of import ABSENT, ENGINE, OURS, QUEUE, results

SVG = "{http://www.w3.org/2000/svg}"


def test_the_document_says_of_each_peer_what_it_does_not_promise() -> None:
    page = document(results(OURS, QUEUE, ENGINE), "benchmarks.svg")
    assert "| a-queue | queue 2.0 | threads <2> & more | No history. No timers. Polls. |" in page
    assert "| an-engine | engine 3.0 | defaults | A server to operate. |" in page
    assert "](benchmarks.svg)" in page


def test_task_queues_and_engines_stand_in_tables_of_their_own_each_beside_ours() -> None:
    page = document(results(OURS, QUEUE, ENGINE), "benchmarks.svg")
    assert "|  | ours | a-queue |" in page
    assert "|  | ours | an-engine |" in page
    queues = page.partition("## Task queues")[2].partition("## ")[0]
    assert "workflows" not in queues
    assert "30,000 (0.55) | 6,000 (0.12)" in queues


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    page = document(results(OURS, QUEUE, ENGINE), "x.svg")
    tables = [part.splitlines() for part in page.split("\n\n") if part.startswith("|")]
    widths = [{row.count("|") for row in rows} for rows in tables]
    assert widths == [{3}, {4}, {4}, {5}]  # ours, queues, engines, settings


def test_a_peer_that_could_not_be_installed_is_reported_with_the_reason() -> None:
    page = document(results(OURS, QUEUE, ABSENT), "x.svg")
    assert "- absent: not run: there is no program 'x' on this machine" in page
    assert "absent: not run: there is no program 'x'" in terminal(results(OURS, ABSENT))
    assert "| ours | absent |" not in page


def test_ours_is_compared_with_the_best_peer_of_the_figure() -> None:
    slow = Line("slow", "slow 1", "", runs=[{"yardstick": 1.0, "noop_1": 5.0, "latency_p50": 9.0}])
    page = document(results(OURS, slow, QUEUE), "x.svg")
    assert "no-op, 1 process, events/s: 30,000 beside 6,000 of queue 2.0, × 5.00 (more is better)" in page
    assert "p50, ms: 0.50 beside 1.00 of queue 2.0, × 0.50 (less is better)" in page


def test_the_chart_is_well_formed_and_escapes_what_it_is_given() -> None:
    root = ET.fromstring(chart(results(OURS, QUEUE, ENGINE)))
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert any(text.startswith("A <fast> processor") for text in texts)
    assert "a-queueno history; no timers" in texts
    width = float(root.attrib["width"])
    for bar in root.iter(f"{SVG}rect"):
        assert float(bar.attrib.get("x", 0)) + float(bar.attrib["width"]) <= width


def test_bars_are_sorted_best_first_whichever_way_is_better() -> None:
    assert [(bar.name, round(bar.share, 2)) for bar in bars_of("noop_1", [QUEUE, OURS, ABSENT])] == [
        ("ours", 1.0),
        ("a-queue", 0.2),
    ]
    assert [(bar.name, bar.value) for bar in bars_of("latency_p50", [QUEUE, OURS])] == [
        ("ours", "0.50"),
        ("a-queue", "1.00"),
    ]


def test_a_figure_that_only_ours_has_makes_no_panel() -> None:
    assert "three-step" not in chart(results(OURS, QUEUE))
    assert "three-step" in chart(results(OURS, ENGINE))
