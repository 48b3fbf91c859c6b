"""What asyncio gets once per worker process, the tests get once per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.runtime.driver import OPENED
from workflow_worker.runtime import ordering


@pytest.fixture(scope="session", autouse=True)
def orderly_asyncio() -> None:
    """Install what makes asyncio's sets iterate in order on the runtime's loops."""
    ordering.install()


@pytest.fixture(autouse=True)
def closed_runs() -> Iterator[None]:
    """Close every run of a test: dropped, it would be ended by the collector in the middle of another test."""
    yield
    while OPENED:
        OPENED.popitem()[1].close()
