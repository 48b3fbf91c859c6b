"""How much to take in: a pure decision from what the worker holds and what it may hold."""

from __future__ import annotations

import msgspec

from workflow_worker.worker.limits import WorkerLimits

MOST_PER_CALL = 200
"""Rule R5: no call touches more than 200 runs, so that none blocks the server for long."""

COMMIT_AT_ONCE = 100
"""Runs in one commit, where more want one: half of what a call may carry, so that the store writes the first half while
the second is made, and runs that go on are not all waiting for one answer."""
WORTH_A_CALL = 8
"""A further commit goes before the one under way is answered only for so many runs: a call for one costs as much."""
FURTHER_COMMITS = 2
"""How many may be under way besides the first."""

SWIFT_S = 0.1
"""A worker is swift if what two ingests brought started within this time: ten times sooner than it would be handed
back for another worker."""
_SWIFT_BATCHES, _FURTHER_BATCH = 4, 100
"""What it may have ahead, in batches and in runs: enough to keep the store busy meanwhile. With the defaults a call
carries three times as many runs for it."""


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
    wary: bool = False
    """Whether there are more such runs where the last ones came from."""


class IntakePlan(msgspec.Struct, frozen=True):
    """Lease up to `room` runs now; with no room, wait until something changes."""

    room: int


def plan_intake(load: Load, limits: WorkerLimits, swift: bool = False) -> IntakePlan:
    """Room for new runs: BATCH_SIZE leased and not started, on top of CONCURRENCY_LIMIT executing.

    Under a backlog the worker waits until at least half of a batch fits, because a call for one run costs as much as
    a call for twenty. Never more than there are limits for, never idle while there is room and nothing under way.

    A worker that is through with a batch in no time (`swift`) may have a few small ones ahead under a backlog: they are
    leased while it executes, and started before another worker would have had them.

    A `wary` one takes one run at a time: of several that must be executed alone all but one would have to go back.
    """
    if load.alone:
        return IntakePlan(0)
    slots = max(0, limits.concurrency_limit - load.executing)
    batch = min(limits.batch_size, MOST_PER_CALL)
    ahead = max(batch, min(_SWIFT_BATCHES * batch, _FURTHER_BATCH)) if swift and load.backlog else batch
    room = min(MOST_PER_CALL, ahead + slots - load.leased)
    if load.recording >= 2 * (limits.concurrency_limit + ahead):
        room = 0
    if load.backlog and room < (batch + 1) // 2 and load.executing + load.recording > 0:
        room = 0
    return IntakePlan(max(0, min(room, 1) if load.wary else room))
