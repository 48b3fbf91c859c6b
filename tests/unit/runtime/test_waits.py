"""``wf.wait_for``: oldest event to oldest wait, nothing lost, other subjects asked for and given back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.runtime.driver import START, Driver, Packed, Paid, act, cast_any, names
from workflow_worker.model.command import AddWait, Complete, RemoveWait, StartTimer
from workflow_worker.model.exceptions import EventRejected
from workflow_worker.runtime import wf


async def packed() -> str:
    return (await wf.wait_for(Packed)).tracking


def test_an_event_wakes_the_wait() -> None:
    driver = Driver(packed)
    assert driver.given == []
    driver.feed(driver.event("packed", {"tracking": "1Z"}))
    assert driver.result() == "1Z"
    assert driver.replay() == [Complete(b'"1Z"')]


def test_an_event_that_came_before_is_found_oldest_first() -> None:
    async def main() -> list[str]:
        await act("a")
        return [await packed(), await packed()]

    driver = Driver(main)
    for tracking in ("first", "second"):
        driver.feed(driver.event("packed", {"tracking": tracking}))
    assert len(driver.run.unmatched) == 2
    driver.complete("a")
    assert driver.result() == ["first", "second"]
    assert driver.run.unmatched == ()


def test_events_go_to_the_oldest_wait_first() -> None:
    async def main() -> list[str]:
        return list(await asyncio.gather(packed(), packed()))

    driver = Driver(main)
    for tracking in ("first", "second"):
        driver.feed(driver.event("packed", {"tracking": tracking}))
    assert driver.result() == ["first", "second"]


@pytest.mark.parametrize("wanted", [(Packed, Paid), Packed | Paid])
def test_one_of_several_classes_and_prefix_patterns(wanted: Any) -> None:
    async def main() -> str:
        return type(await wf.wait_for(wanted)).__name__

    driver = Driver(main)
    for event_type in ("paidx", "other", "paid.late"):
        driver.feed(driver.event(event_type, {}))
    assert driver.result() == "Paid"
    assert len(driver.run.unmatched) == 2


def test_timeout_with_default_and_without() -> None:
    async def main() -> list[str]:
        seen = [str(await wf.wait_for(Packed, timeout=timedelta(days=2), default=None))]
        try:
            await wf.wait_for(Packed, timeout=1.5)
        except TimeoutError:
            seen.append("late")
        return seen

    driver = Driver(main)
    assert driver.given == [StartTimer(1, START + 2 * 86_400_000)]
    driver.fire()
    driver.fire()
    assert driver.result() == ["None", "late"]


def test_an_event_cancels_the_timer() -> None:
    async def main() -> str:
        return (await wf.wait_for(Packed, timeout=5)).tracking

    driver = Driver(main)
    timer = driver.fired()
    assert names(driver.feed(driver.event("packed", {}), timer)) == ["CancelTimer", "Complete"]


@pytest.mark.parametrize("timeout", [0, -3, timedelta(0)])
def test_no_time_only_looks(timeout: Any) -> None:
    async def main() -> list[object]:
        await act("a")
        first = await wf.wait_for(Packed, timeout=timeout)
        return [first.tracking, await wf.wait_for(Packed, timeout=timeout, default="none")]

    driver = Driver(main)
    driver.feed(driver.event("packed", {"tracking": "x"}))
    driver.complete("a")
    assert driver.result() == ["x", "none"]


def test_another_subject_is_asked_for_and_given_back() -> None:
    async def main() -> str:
        event = await wf.wait_for(Packed, subject="other", timeout=9, default=None)
        await act("a")
        return "late" if event is None else event.tracking

    driver = Driver(main)
    assert driver.given == [AddWait("packed", "other")] or driver.given[1] == AddWait("packed", "other")
    driver.feed(driver.event("packed", {"tracking": "mine"}))
    commands = driver.feed(driver.event("packed", {"tracking": "theirs"}, subject="other"))
    assert RemoveWait("packed", "other") in commands
    assert names(driver.replay()) == ["a"]
    driver.complete("a")
    assert driver.result() == "theirs"
    assert len(driver.run.unmatched) == 1


def test_waiting_again_for_the_same_subject_at_once_keeps_the_wait() -> None:
    async def main() -> None:
        for _ in range(3):
            await wf.wait_for(Packed, subject="other")

    driver = Driver(main)
    assert driver.given == [AddWait("packed", "other")]
    assert driver.feed(driver.event("packed", {}, subject="other")) == []
    assert driver.run.outstanding() == [AddWait("packed", "other")]


def test_two_waits_for_one_subject_are_asked_for_once() -> None:
    async def main() -> None:
        await asyncio.gather(*[wf.wait_for(Packed, subject="other") for _ in range(2)])

    driver = Driver(main)
    assert driver.given == [AddWait("packed", "other")]
    assert driver.feed(driver.event("packed", {}, subject="other")) == []
    assert names(driver.feed(driver.event("packed", {}, subject="other"))) == ["Complete"]


def test_a_wait_for_the_own_subject_asks_for_nothing() -> None:
    async def main() -> None:
        await wf.wait_for(Packed, subject="order-1")

    assert Driver(main).given == []


def test_a_wait_without_subject_leaves_events_of_a_named_subject_alone_but_takes_what_was_sent_to_the_run() -> None:
    async def main() -> list[str]:
        named = asyncio.create_task(wf.wait_for(Packed, subject="other"))
        await asyncio.sleep(0)
        mine = await packed()
        return [mine, (await named).tracking]

    driver = Driver(main)
    driver.feed(driver.event("packed", {"tracking": "named"}, subject="other"))
    driver.feed(driver.event("packed", {"tracking": "sent"}, subject="stranger"))
    assert driver.result() == ["sent", "named"]


def test_a_cancelled_wait_leaves_the_event_to_others() -> None:
    async def main() -> str:
        waiting = asyncio.create_task(packed())
        await act("a")
        waiting.cancel()
        return await packed()

    driver = Driver(main)
    driver.complete("a")
    driver.feed(driver.event("packed", {"tracking": "x"}))
    assert driver.result() == "x"


def test_an_event_that_no_longer_fits_is_raised_at_the_await() -> None:
    async def main() -> str:
        try:
            await packed()
        except EventRejected:
            return "rejected"
        return "taken"

    driver = Driver(main)
    driver.feed(driver.event("packed", {"tracking": 5}))
    assert driver.result() == "rejected"


@pytest.mark.parametrize("wanted", ["packed", (), (Packed, 5), None])
def test_what_is_no_class_is_refused(wanted: Any) -> None:
    async def main() -> None:
        await wf.wait_for(cast_any(wanted))

    assert "declared event class" in Driver(main).suspension()
