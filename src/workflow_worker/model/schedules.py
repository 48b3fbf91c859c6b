"""Schedules: what one is, what can be told to the run that keeps it, and how its ticks are named.

The two event types are ordinary ones, addressed to the keeper of the schedule: run ``ww.schedule:<name>``.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from workflow_worker.model.instants import iso_ms

KEEPER_WORKFLOW = "ww.schedule"
"""Name of the workflow that keeps schedules, one run for each."""
SET = "workflow-worker.schedule.set"
"""Event type of `ScheduleSet`."""
TOLD = "workflow-worker.schedule.told"
"""Event type of `ScheduleTold`."""

MAX_QUEUED = 1_000
"""Ticks that may wait for the run before them; a later one is skipped."""
MAX_BACKFILL = 10_000
"""Ticks that one backfill may make."""
MAX_INPUT_BYTES = 65_536
"""The largest input of a schedule: its keeper carries it through every history."""
CATCH_UP_MS = 60_000
"""A tick that nobody could start at its time is started so much later, and not any more after that."""

Instant = Annotated[int, msgspec.Meta(ge=0, le=32_503_680_000_000)]
"""Milliseconds since 1970, up to the year 3000: a stranger's number must not end a keeper."""
Overlap = Literal["skip", "queue", "allow"]


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule starts, and when. `input` is the workflow's input as JSON: its event, or its arguments by name;
    `declared`: the code says so, with ``@app.workflow(cron=…)``."""

    workflow: str
    cron: str
    timezone: str = "UTC"
    overlap: Overlap = "skip"
    catch_up_ms: Annotated[int, msgspec.Meta(ge=0)] = CATCH_UP_MS
    input: Any = None
    subject: str | None = None
    declared: bool = False

    @property
    def mark(self) -> str:
        """The same for equal schedules only."""
        return hashlib.blake2b(msgspec.json.encode(self, order="sorted"), digest_size=8).hexdigest()


class ScheduleSet(msgspec.Struct, frozen=True):
    """Makes a schedule, or changes it; whether it is paused stays."""

    spec: ScheduleSpec


class ScheduleTold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person tells a schedule. `id` names the request: told twice it acts once. `at_ms` is the instant that the
    run of ``run`` is named by; ``backfill`` has the span `since_ms` to `until_ms`, both included."""

    kind: Literal["pause", "resume", "run", "backfill", "delete"]
    id: str = ""
    by: str = ""
    at_ms: Instant = 0
    since_ms: Instant = 0
    until_ms: Instant = 0


class TickStart(msgspec.Struct, frozen=True):
    """The data of the event that starts a run at a tick."""

    at_ms: Instant
    schedule: str
    input: Any = None


def tick_run_id(schedule: str, at_ms: int) -> str:
    """The id of the run of a tick: ``report@2026-11-25T06:00Z``, with seconds where there are any."""
    moment = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
    return f"{schedule}@{moment:%Y-%m-%dT%H:%M:%SZ}" if moment.second else f"{schedule}@{moment:%Y-%m-%dT%H:%MZ}"


def asked_run_id(schedule: str, at_ms: int) -> str:
    """The id of a run that a person asked for: with milliseconds, so that it is no tick's."""
    return f"{schedule}@{iso_ms(at_ms)}"
