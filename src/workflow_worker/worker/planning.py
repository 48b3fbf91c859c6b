"""How much to take in: a pure decision from what the worker holds and what it may hold."""

from __future__ import annotations

import msgspec

from workflow_worker.worker.limits import WorkerLimits

MOST_PER_CALL = 200
"""Rule R5: no call touches more than 200 runs, so that none blocks the server for long."""


class Load(msgspec.Struct, frozen=True):
    """What a worker holds now: `executing` runs have code or attempts to run, `leased` ones wait for a slot,
    `recording` ones only for the answer to their commit."""

    executing: int = 0
    leased: int = 0
    recording: int = 0
    backlog: bool = False
    """Whether the last ingest came back full, so that there is more where it came from."""
    alone: bool = False
    """Whether a run is executed alone, because it may be what killed its former holders."""


class IntakePlan(msgspec.Struct, frozen=True):
    """Lease up to `room` runs now; with no room, wait until something changes."""

    room: int


def plan_intake(load: Load, limits: WorkerLimits) -> IntakePlan:
    """Room for new runs: BATCH_SIZE leased and not started, on top of CONCURRENCY_LIMIT executing.

    Under a backlog the worker waits until at least half of a batch fits, because a call for one run costs as much as
    a call for twenty. Never more than there are limits for, never idle while there is room and nothing under way.
    """
    if load.alone:
        return IntakePlan(0)
    slots = max(0, limits.concurrency_limit - load.executing)
    batch = min(limits.batch_size, MOST_PER_CALL)
    room = min(MOST_PER_CALL, batch + slots - load.leased)
    if load.recording >= 2 * (limits.concurrency_limit + batch):
        room = 0
    if load.backlog and room < (batch + 1) // 2 and load.executing + load.recording > 0:
        room = 0
    return IntakePlan(max(0, room))
