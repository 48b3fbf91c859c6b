"""`Holdings` without a store: runs with a history between their lease and their slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.unit.worker.test_executor import NOW, Go, make_app
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import CommitId, RunRef, SessionId
from workflow_worker.model.record import RunStarted, encode_record
from workflow_worker.model.vitals import VitalSigns
from workflow_worker.runtime import ordering
from workflow_worker.store.transitions import CommitOutcome, LeasedRun, Loaded
from workflow_worker.worker.clock import ServerClock
from workflow_worker.worker.holdings import Holdings
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment

BEFORE = CommitId("before")
HISTORY = (encode_record(RunStarted(NOW, "3.11", "test")),)


@pytest.fixture
async def holdings() -> AsyncIterator[Holdings]:
    """With one slot."""
    ordering.install()
    environment = real_environment(None)
    held = Holdings(
        worker="w",
        app=make_app(),
        limits=WorkerLimits(concurrency_limit=1),
        release="test",
        environment=environment,
        clock=ServerClock(environment),
        signs=VitalSigns(),
        emit=lambda _: None,
    )
    held.session = SessionId("s")
    yield held
    held.abandon_all()
    held.cache.clear()


async def accept(holdings: Holdings, *ids: str) -> None:
    """Lease runs that have begun, and let those start that can."""
    holdings.accept(tuple(LeasedRun(RunRef(f"job:{each}"), 7, BEFORE, 1, NOW, 0, None) for each in ids))
    for _ in range(3):
        await asyncio.sleep(0)


def loaded(how: str) -> Loaded:
    start = Mail("1-0", Event("1", "go", None, msgspec.json.encode(Go(how))))
    return Loaded(NOW, BEFORE, start, NOW, HISTORY, (), ())


def answer(holdings: Holdings) -> list[str]:
    """Write all commits that are asked for; which runs they are of."""
    taken = holdings.commits.take(10)
    for executor in taken:
        commit = executor.build_commit()
        executor.commit_answered(CommitOutcome("ok", commit.mode.value == "keep", (), NOW))
    return [executor.ref for executor in taken]


async def test_a_history_is_read_while_its_run_waits_for_a_slot(holdings: Holdings) -> None:
    await accept(holdings, "1", "2")
    first, second = holdings.errands.take_loads(10)
    assert [first.ref, second.ref] == ["job:1", "job:2"]
    holdings.loaded(second, loaded("plain"))
    assert answer(holdings) == []  # the slot is the first one's
    holdings.loaded(first, loaded("plain"))
    assert answer(holdings) == ["job:1"]
    holdings.start_waiting()
    assert answer(holdings) == ["job:2"]
    assert holdings.errands.take_loads(10) == []


async def test_a_run_that_was_lost_before_its_history_came_is_not_executed(holdings: Holdings) -> None:
    await accept(holdings, "1")
    [executor] = holdings.errands.take_loads(10)
    holdings.lose(executor, "lost")
    holdings.loaded(executor, loaded("plain"))
    assert answer(holdings) == []
    await accept(holdings, "1")
    [again] = holdings.errands.take_loads(10)
    holdings.loaded(executor, loaded("plain"))
    assert answer(holdings) == []
    holdings.loaded(again, loaded("plain"))
    assert answer(holdings) == ["job:1"]


async def test_mail_that_came_behind_the_history_is_fetched_by_the_first_commit(holdings: Holdings) -> None:
    await accept(holdings, "1", "2")
    first, second = holdings.errands.take_loads(10)
    holdings.loaded(second, loaded("alternate"))
    holdings.hint(second.ref)
    holdings.loaded(first, loaded("plain"))
    answer(holdings)
    holdings.start_waiting()
    [executor] = holdings.commits.take(10)
    assert executor is second
    assert executor.build_commit().mode.value == "keep"  # its answer brings the mail
