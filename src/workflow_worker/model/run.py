"""`RunStatus`, the table of allowed changes, and `RunView`: a run as people see it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class RunStatus(StrEnum):
    """Where a run stands. ``suspended`` means: a person is needed, and the whole history is kept for them."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to the run any more."""
        return self in ENDED


ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})

CHANGES: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.SUSPENDED, *ENDED}),
    RunStatus.RUNNING: frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.SUSPENDED, *ENDED}),
    RunStatus.WAITING: frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.SUSPENDED, *ENDED}),
    RunStatus.SUSPENDED: frozenset({RunStatus.RUNNING}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset({RunStatus.PENDING}),
    RunStatus.CANCELLED: frozenset({RunStatus.PENDING}),
}
"""Allowed changes. An ended run becomes pending again only as a new incarnation (``on_existing="restart"``, or a start
event that was rejected and sent again)."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of one run, without its history. Instants are milliseconds since 1970.

    `wake` is when its next timer is due, while no worker holds it. `waits` are the events of *other* subjects that it
    waits for, as (type, subject); which events about its own subject it wants, only its code knows.
    """

    ref: str
    workflow: str
    id: str
    version: int
    status: RunStatus
    subject: str | None
    started_at: int
    updated_at: int
    attempts: int
    takeovers: int
    owner: str
    token: int
    mails: int
    records: int
    state: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    wake: int | None = None
    waits: tuple[tuple[str, str], ...] = ()
