"""Ending parts: whatever they swallow, they end."""

from __future__ import annotations

import asyncio
import contextlib

from workflow_worker.worker import part
from workflow_worker.worker.part import end_all


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
