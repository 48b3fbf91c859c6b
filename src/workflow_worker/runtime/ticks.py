"""`Tick`: what a scheduled run is told about the instant that it was started for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Tick:
    """The parameter of a workflow with ``cron=``. `at` is the tick in UTC, not when the run could begin; `schedule` is
    the schedule's name."""

    at: datetime
    schedule: str
