"""The example of a schedule, through a weekend and the change to summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from examples import report

from workflow_worker.testing import TestEnv


async def test_a_report_comes_every_working_day_at_seven_local_time() -> None:
    friday = datetime(2026, 3, 27, 0, tzinfo=UTC)
    async with TestEnv(report.app, now=friday, paranoid=True) as env:
        delivered = env.spy(report.deliver)
        await env.advance(timedelta(days=5))
        found = [run.id for run in reversed(await env.runs(report.report))]
        assert found == [f"report@2026-03-{tick}Z" for tick in ("27T06:00", "30T05:00", "31T05:00")]
        assert [call.arguments["text"] for call in delivered.calls] == [
            "26.03. to 27.03.: Berlin 1.44, Porto 1.20",
            "27.03. to 30.03.: Berlin 4.32, Porto 3.60",
            "30.03. to 31.03.: Berlin 1.44, Porto 1.20",
        ]


async def test_a_worker_that_dies_changes_nothing() -> None:
    async with TestEnv(report.app, now=datetime(2026, 3, 27, 5, 59, tzinfo=UTC), paranoid=True) as env:
        env.fake(report.sales_of, raises=[ConnectionError("books are shut")], then_returns=report.Sales("Berlin", 5))
        await env.advance(timedelta(minutes=1))
        await env.crash()
        await env.advance(timedelta(hours=1))
        [run] = await env.runs(report.report)
        assert await run.result() == "26.03. to 27.03.: Berlin 0.05, Berlin 0.05"
        assert run.attempts(report.deliver) == 1
