"""The one place where milliseconds, `timedelta` and `datetime` meet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workflow_worker.model.exceptions import UsageError

_DURATION = "a duration is seconds (int or float) or a timedelta"


def to_ms(duration: float | timedelta) -> int:
    """Milliseconds of a duration given in seconds or as a `timedelta`, rounded to the nearest.

    Raises:
        UsageError: The duration is negative or not finite.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{duration!r} is not usable as a duration: {_DURATION}, not negative")
    return round(seconds * 1000)


def from_ms(at_ms: int) -> datetime:
    """The instant, in UTC, of milliseconds since 1970."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def iso_ms(at_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds and ``Z``: ``2026-11-24T21:37:00.000Z``."""
    seconds, milliseconds = divmod(at_ms, 1000)
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
