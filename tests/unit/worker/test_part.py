"""Ending parts: whatever they swallow, they end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest

from workflow_worker.model.vitals import VitalSigns
from workflow_worker.worker import part
from workflow_worker.worker.part import Patience, end_all, until_interrupted, within
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.standstill import COMMITTER


async def test_a_part_that_swallows_a_cancellation_is_cancelled_again() -> None:
    cancelled = 0

    async def stubborn() -> None:
        nonlocal cancelled
        while cancelled < 2:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            cancelled += 1
        await asyncio.Event().wait()

    before, part._CANCEL_AGAIN_S = part._CANCEL_AGAIN_S, 0.01  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition] - a second is long in a test
    try:
        tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(60))]
        await asyncio.sleep(0)
        await asyncio.wait_for(end_all(tasks), 5)
    finally:
        part._CANCEL_AGAIN_S = before  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition] - see above
    assert cancelled == 2
    assert all(task.cancelled() for task in tasks)


async def answer() -> int:
    return 7


async def never() -> int:
    await asyncio.Event().wait()
    raise AssertionError("it did")


async def fails() -> int:
    raise ValueError("no")


async def test_within_goes_on_without_an_answer() -> None:
    assert await within(5, answer())
    assert not await within(0.01, never())
    with pytest.raises(ValueError, match="no"):
        await within(5, fails())


async def test_within_does_not_wait_for_what_swallows_its_cancellation() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await release.wait()

    assert not await asyncio.wait_for(within(0.01, stubborn()), 5)
    release.set()


async def test_what_is_not_interrupted_ends_by_itself() -> None:
    assert await until_interrupted(answer(), asyncio.Event(), 0) == 7
    with pytest.raises(ValueError, match="no"):
        await until_interrupted(fails(), asyncio.Event(), 0)


async def test_an_answer_under_way_has_a_moment() -> None:
    interrupt, gate = asyncio.Event(), asyncio.Event()

    async def late() -> int:
        await gate.wait()
        return 7

    asked = asyncio.ensure_future(until_interrupted(late(), interrupt, 5))
    interrupt.set()
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.wait_for(asked, 5) == 7
    assert await asyncio.wait_for(until_interrupted(never(), interrupt, 0.01), 5) is None


def test_a_part_in_several_turns_shows_the_one_that_has_lasted_longest() -> None:
    now, signs = 1.0, VitalSigns()
    environment = dataclasses.replace(real_environment(), monotonic=lambda: now)
    patience = Patience("w", environment, signs, lambda _: None)
    with patience.turn(COMMITTER):
        assert signs.commit_since == 1_000
        now = 2.0
        first = patience.turn(COMMITTER)
        with first:
            assert signs.commit_since == 1_000
        now = 3.0
        last = patience.turn(COMMITTER)
        last.__enter__()
    assert signs.commit_since == 3_000
    last.__exit__()
    assert signs.commit_since == 0
