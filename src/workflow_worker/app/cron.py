"""Cron expressions: checked where they are written, and the ticks that follow from one in a time zone.

Two rules of Vixie cron as Debian ships it (cron(8), "Daylight Saving Time"; https://github.com/cuu508/cronsim) for
expressions of five fields with a fixed hour: a time that the clock skips comes as soon as it has skipped it, one that
comes twice is the first of the two. What recurs within the hour (``*/5 * * * *``) goes by elapsed time.
"""

from __future__ import annotations

import datetime as datetimes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from workflow_worker.model.exceptions import UsageError

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_COUNTED = 50_000
"""Missed ticks are counted so far: a second's schedule that was down for a month must not hold up an action."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Some ticks of a schedule, in milliseconds since 1970: those to start, how many were left out because they are too
    old, up to where it was looked, and the next one (None: there is none in 50 years)."""

    due: tuple[int, ...]
    missed: int
    until_ms: int
    next_ms: int | None


def check_cron(cron: object, timezone: object) -> None:
    """Whether a schedule can be computed.

    Raises:
        UsageError: Expression or time zone is not usable.
    """
    if not isinstance(cron, str):
        raise UsageError(f"cron={cron!r} is not usable: a text such as '*/5 * * * *'")
    if next(ticks_after(cron, _zone_of(timezone), 946_684_800_000), None) is None:
        raise UsageError(f"cron={cron!r} is not usable: it never comes")


def find_ticks(cron: str, timezone: str, after_ms: int, until_ms: int, oldest_ms: int, most: int) -> Ticks:
    """The ticks in (`after_ms`, `until_ms`], at most `most`; those before `oldest_ms` are only counted.

    Raises:
        UsageError: Expression or time zone is not usable.
    """
    zone, missed = _zone_of(timezone), 0
    if oldest_ms > after_ms + 1:
        for at in ticks_after(cron, zone, after_ms):
            if at >= min(oldest_ms, until_ms + 1) or missed == _COUNTED:
                break
            missed += 1
        after_ms = oldest_ms - 1
    due: list[int] = []
    for at in ticks_after(cron, zone, after_ms):
        if at > until_ms:
            return Ticks(tuple(due), missed, until_ms, at)
        if len(due) == most:
            return Ticks(tuple(due), missed, due[-1], at)
        due.append(at)
    return Ticks(tuple(due), missed, until_ms, None)


def ticks_after(cron: str, zone: tzinfo, after_ms: int) -> Iterator[int]:
    """All ticks later than an instant, each later than the one before.

    Raises:
        UsageError: The expression is not usable.
    """
    try:
        moments = CronSim(_NICKNAMES.get(cron.strip().lower(), cron), datetime.fromtimestamp(after_ms / 1000, tz=zone))
    except (CronSimError, ValueError, OverflowError) as error:
        raise UsageError(
            f"cron={cron!r} is not usable: {error}. Five fields (minute hour day month weekday), or six with the second"
            " in front"
        ) from error
    last = after_ms
    for moment in moments:
        # In the hour that comes twice cronsim answers with the first one also where the second has begun.
        at = int(moment.timestamp()) * 1000
        if at > last:
            last = at
            yield at


def _zone_of(name: object) -> tzinfo:
    if name == "UTC":
        return datetimes.UTC
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else _no_zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"timezone={name!r} is not known: a name such as 'Europe/Berlin'") from error


def _no_zone(name: object) -> tzinfo:
    raise ValueError(name)
