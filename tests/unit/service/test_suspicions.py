"""What a worker says at its start about code that its guards cannot see."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import pytest

from workflow_worker import App, wf
from workflow_worker.app.check import Finding
from workflow_worker.service import suspicions as module
from workflow_worker.service.suspicions import suspicions


def stamp() -> str:
    return f"{date.today()}"


def test_clocks_that_cannot_be_wrapped_are_found_before_the_first_run() -> None:
    app = App("x")

    @app.workflow
    async def late(delay: float) -> str:
        await asyncio.sleep(delay)
        return f"{datetime.now(UTC)} {stamp()}"

    @app.workflow
    async def right() -> str:
        return str(wf.now())

    assert right.name == "right"
    assert late.name == "late"
    first, second = suspicions(app)
    assert "test_suspicions.py:18: [clock] stamp: datetime.date.today reads the machine's clock" in first
    assert "late: datetime.datetime.now reads the machine's clock" in second
    assert second.endswith("; instead: wf.now() or wf.time()")


def test_code_without_faults_is_not_spoken_of() -> None:
    assert suspicions(App("x")) == ()


def test_at_most_twenty_findings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def many(app: App) -> list[Finding]:
        return [Finding("a.py", line, "clock", app.name, "none") for line in range(30)]

    monkeypatch.setattr(module, "check", many)
    assert len(suspicions(App("x"))) == 20


def test_a_check_that_fails_keeps_no_worker_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(app: Any) -> Any:
        raise RecursionError("deep")

    monkeypatch.setattr(module, "check", broken)
    assert suspicions(App("x")) == ("the code could not be checked: RecursionError: deep",)
