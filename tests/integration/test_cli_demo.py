"""The demo, with fewer orders: a killed worker, every order completed, and a last line for programs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command import Place


def test_the_demo_kills_a_worker_and_completes_every_order(tmp_path: Path) -> None:
    answer = Place(tmp_path).run("demo", "--orders", "60", "--rate", "200")
    assert answer.code == 0, answer
    assert answer.err == ""
    lines = answer.out.splitlines()
    summary = json.loads(lines[-1])
    assert list(summary) == ["orders", "completed", "killed", "seconds", "p50_ms", "p99_ms"]
    assert (summary["orders"], summary["completed"], summary["killed"]) == (60, 60, 1)
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    assert any("SIGKILL" in line for line in lines)
    assert any("✓ ship" in line for line in lines)
    assert any('"workerCount":2' in line for line in lines)
    assert "\x1b" not in answer.out, "no colour and no bar where nobody sits at a terminal"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
