"""How much a worker takes in: never over its limits, never idle while there is room and nothing under way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.planning import MOST_PER_CALL, Load, plan_intake

loads = st.builds(
    Load,
    executing=st.integers(0, 300),
    leased=st.integers(0, 300),
    recording=st.integers(0, 300),
    backlog=st.booleans(),
)
limits = st.builds(WorkerLimits, batch_size=st.integers(1, 1_000), concurrency_limit=st.integers(1, 1_000))


@given(loads, limits)
def test_room_never_exceeds_what_may_be_held(load: Load, limits: WorkerLimits) -> None:
    room = plan_intake(load, limits).room
    assert 0 <= room <= MOST_PER_CALL
    free_slots = max(0, limits.concurrency_limit - load.executing)
    assert room == 0 or load.leased + room <= limits.batch_size + free_slots


@given(limits, st.booleans())
def test_an_idle_worker_always_has_room(limits: WorkerLimits, backlog: bool) -> None:
    assert plan_intake(Load(backlog=backlog), limits).room >= 1


def test_defaults_take_a_batch_and_the_free_slots() -> None:
    assert plan_intake(Load(), WorkerLimits()).room == 15
    assert plan_intake(Load(executing=5), WorkerLimits()).room == 10
    assert plan_intake(Load(executing=5, leased=10), WorkerLimits()).room == 0


def test_under_a_backlog_small_calls_wait_for_half_a_batch() -> None:
    assert plan_intake(Load(executing=5, leased=8), WorkerLimits()).room == 2
    assert plan_intake(Load(executing=5, leased=8, backlog=True), WorkerLimits()).room == 0
    assert plan_intake(Load(executing=5, leased=5, backlog=True), WorkerLimits()).room == 5


def test_a_swift_worker_has_a_few_small_batches_ahead_under_a_backlog() -> None:
    busy = Load(executing=5, leased=10, backlog=True)
    assert plan_intake(busy, WorkerLimits()).room == 0
    assert plan_intake(busy, WorkerLimits(), swift=True).room == 30
    assert plan_intake(Load(executing=5, leased=40, backlog=True), WorkerLimits(), swift=True).room == 0
    assert plan_intake(Load(executing=5, leased=10), WorkerLimits(), swift=True).room == 0


@given(loads, limits)
def test_what_a_swift_worker_has_ahead_is_bounded(load: Load, limits: WorkerLimits) -> None:
    room = plan_intake(load, limits, swift=True).room
    free_slots = max(0, limits.concurrency_limit - load.executing)
    ahead = max(limits.batch_size, min(4 * limits.batch_size, 100))
    assert 0 <= room <= MOST_PER_CALL
    assert room == 0 or load.leased + room <= ahead + free_slots


def test_runs_that_only_wait_for_their_last_commit_are_bounded() -> None:
    assert plan_intake(Load(recording=29), WorkerLimits()).room == 15
    assert plan_intake(Load(recording=30), WorkerLimits()).room == 0


def test_while_a_suspect_is_executed_alone_there_is_no_room() -> None:
    assert plan_intake(Load(alone=True), WorkerLimits()).room == 0


def test_where_suspects_were_met_runs_come_one_by_one() -> None:
    assert plan_intake(Load(wary=True), WorkerLimits()).room == 1
    assert plan_intake(Load(executing=5, leased=15, wary=True), WorkerLimits()).room == 0
    assert plan_intake(Load(alone=True, wary=True), WorkerLimits()).room == 0
