"""A worker that dies behind any of its commits: sagas, children, locks, emits and new histories come out the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.test_workflow_features import Declined, Go, World, make_app
from workflow_worker.testing.env import TestEnv

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("how", "number", "then", "result"),
    [
        ("saga", 0, (), "undone"),
        ("emits", 0, (SECOND,), ["now", "later"]),
        ("fans", 6, (), 55),
        ("catches", 0, (), "Failed: no luck"),
        ("gives_up", 0, (SECOND,), "gave up"),
        ("leaves", 0, (), "left"),
        ("tells", 0, (), "heard"),
        ("related", 0, (SECOND,), ["0", "1", "2", "3", "4"]),
        ("locks", 1, (), "printed"),
        ("again", 0, (SECOND,), 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_crash_behind_any_commit_changes_nothing(
    how: str, number: int, then: Sequence[timedelta], result: Any
) -> None:
    plays = 0
    async with TestEnv(make_app(World()), paranoid=True) as env:
        env.fake("charge", raises=Declined("no"))
        env.fake("dwell", returns=None)
        async for run in env.crash_everywhere(Go("x", how, number), then=then):
            plays += 1
            assert await run.result() == result, f"play {plays}"
    assert plays >= 4
