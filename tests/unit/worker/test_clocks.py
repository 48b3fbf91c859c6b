"""``datetime.now`` in workflow code of a worker: refused from Python 3.12 on, and only there."""

from __future__ import annotations

import datetime as time_of_day
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pytest

from workflow_worker import App
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv
from workflow_worker.worker.clocks import watch_clocks

app = App("clocks")
CAN_WATCH = sys.version_info >= (3, 12)


class Stamp:
    """A helper beside the workflows."""

    def now(self) -> str:
        return str(date.today())

    @staticmethod
    def never() -> str:
        return str(datetime.fromtimestamp(0, UTC))


def stamp() -> str:
    return next(str(each()) for each in (lambda: datetime.now(UTC),))


@app.action
async def allowed() -> str:
    return stamp() + Stamp().now()


@app.workflow
async def ask(how: str) -> str:
    def inner() -> str:
        return str(time_of_day.datetime.now(UTC))

    match how:
        case "direct":
            return str(datetime.now(UTC))
        case "inner":
            return inner()
        case "function":
            return stamp()
        case "method":
            return Stamp().now()
        case "action":
            return await allowed()
        case _:
            return Stamp.never()


def nothing(*given: object) -> None:
    del given


def another(tool: int) -> str:
    return f"another with {tool}"


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestEnv]:
    """Like a worker's process: nothing profiles what executes."""
    monkeypatch.setattr("workflow_worker.worker.guards._profile", nothing)
    async with TestEnv(app) as made:
        yield made


def test_it_is_said_whether_clocks_can_be_watched() -> None:
    assert watch_clocks(app) is CAN_WATCH
    assert watch_clocks(app) is CAN_WATCH


@pytest.mark.skipif(not CAN_WATCH, reason="Python 3.11 cannot watch single functions")
@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("direct", "datetime.datetime.now"),
        ("inner", "datetime.datetime.now"),
        ("function", "datetime.datetime.now"),
        ("method", "datetime.date.today"),
    ],
)
async def test_workflow_code_that_reads_one_is_suspended_each_time(env: TestEnv, how: str, name: str) -> None:
    watch_clocks(app)
    stamp()  # outside a run it may, and that is not remembered
    for number in range(3):
        run = await env.start(ask, how, id=f"{how}-{number}")
        assert run.status is RunStatus.SUSPENDED
        assert f"{name} in workflow code reads the machine's clock" in str(run.failure)


@pytest.mark.skipif(not CAN_WATCH, reason="Python 3.11 cannot watch single functions")
async def test_actions_and_other_methods_are_let_pass(env: TestEnv) -> None:
    watch_clocks(app)
    assert str(datetime.now(UTC).year) in await (await env.start(ask, "action", id="a")).result()
    assert await (await env.start(ask, "never", id="n")).result() == "1970-01-01 00:00:00+00:00"


@pytest.mark.skipif(not CAN_WATCH, reason="Python 3.11 cannot watch single functions")
def test_where_others_watch_with_all_ids_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 12):
        monkeypatch.setattr(sys.monitoring, "get_tool", another)
    assert watch_clocks(app) is False
