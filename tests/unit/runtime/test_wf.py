"""The author's module: the same live and replayed, refused outside a run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.driver import START, Driver, Packed, act, names
from workflow_worker.model.command import SetState, Suspend
from workflow_worker.model.exceptions import UsageError
from workflow_worker.runtime import wf


@pytest.mark.parametrize(
    "use",
    [lambda: wf.wait_for(Packed), lambda: wf.state(a=1), wf.now, wf.time, wf.uuid4, wf.random, wf.info],
)
def test_outside_a_run_each_raises_with_advice(use: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"wf\.\w+ works only inside a workflow; "):
        use()


async def draws() -> list[Any]:
    seen: list[Any] = [wf.now().isoformat(), wf.time(), str(wf.uuid4()), wf.random().random()]
    await act("a")
    return [*seen, wf.now().isoformat(), wf.time(), str(wf.uuid4()), wf.random().random(), wf.random() is wf.random()]


def test_time_and_chance_are_those_of_the_history() -> None:
    driver = Driver(draws)
    driver.complete("a")
    assert driver.replay() == [driver.given[-1]]
    result = driver.result()
    assert result[0] == datetime.fromtimestamp(START / 1000, UTC).isoformat()
    assert (result[1], result[5]) == (START / 1000, START / 1000 + 1)
    assert result[2] != result[6]
    assert result[8] is True


def test_drawing_an_identifier_does_not_shift_the_numbers() -> None:
    async def with_identifier() -> float:
        wf.uuid4()
        return wf.random().random()

    async def without() -> float:
        return wf.random().random()

    assert Driver(with_identifier).result() == Driver(without).result()


def test_state_is_merged_and_told_once_per_feed() -> None:
    async def main() -> None:
        wf.state(status="a", hold=1)
        wf.state(status="b")
        await act("a")
        wf.state(extra=None)

    driver = Driver(main)
    assert names(driver.given) == ["a", "SetState"]
    driver.complete("a")
    assert names(driver.given) == ["a", "SetState", "SetState", "Complete"]
    states = [msgspec.json.decode(c.state) for c in driver.given if isinstance(c, SetState)]
    assert states == [{"status": "b", "hold": 1}, {"status": "b", "hold": 1, "extra": None}]


def test_state_that_does_not_encode_is_an_error_at_the_line() -> None:
    async def main() -> None:
        wf.state(bad=object())

    driver = Driver(main)
    assert "in main" in driver.last(Suspend).failure.traceback


def test_info_names_the_run() -> None:
    async def main() -> list[Any]:
        info = wf.info()
        return [info.ref, info.workflow, info.id, info.subject, info.started_at]

    assert Driver(main).result()[:4] == ["test:1", "test", "1", "order-1"]
