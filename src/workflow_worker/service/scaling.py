"""How many workers, which to start or stop, and when a dead one comes back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.settings import MAX_WORKERS

FIRST_DELAY_MS = 100
LONGEST_DELAY_MS = 5_000
PROVEN_AFTER_MS = 10_000
KILLED_PROVEN_AFTER_MS = 1_000
"""A worker that lived so long has not died of its start; the next delay is the first one again."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """What the plan must know of a slot. `restart_at` matters only for one that is not alive; None: not by itself."""

    number: int
    alive: bool
    restart_at: int | None = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Slots to start a worker in, slots whose worker drains now, and when to look again (None: when told)."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    wake_at: int | None


def plan(slots: Iterable[SlotView], wanted: int, now: int) -> Plan:
    """Slots 0 to `wanted` - 1 shall have a worker each, the others none. Instants in milliseconds."""
    known = {slot.number: slot for slot in slots}
    start: list[int] = []
    later: list[int] = []
    for number in range(wanted):
        slot = known.get(number)
        if slot is None:
            start.append(number)
        elif not slot.alive and slot.restart_at is not None:
            if slot.restart_at <= now:
                start.append(number)
            else:
                later.append(slot.restart_at)
    stop = tuple(sorted((number for number in known if number >= wanted), reverse=True))
    return Plan(tuple(start), stop, min(later, default=None))


def next_delay(last_delay_ms: int, lived_ms: int, killed: bool = False) -> int:
    """Pause before the next worker of a slot, from the pause before the one that died after `lived_ms`.

    One that was `killed` by a signal has not failed by itself: it needs to have lived for a second only. (A run whose
    code kills its workers is stopped by MAX_TAKEOVERS.)
    """
    if lived_ms >= (KILLED_PROVEN_AFTER_MS if killed else PROVEN_AFTER_MS) or not last_delay_ms:
        return FIRST_DELAY_MS
    return min(LONGEST_DELAY_MS, last_delay_ms * 2)


def check_count(count: int) -> int:
    """The count, if a service can run so many workers.

    Raises:
        UsageError: It is below 1 or above 256.
    """
    if not 1 <= count <= MAX_WORKERS:
        raise UsageError(f"cannot scale to {count} workers: allowed is a whole number from 1 to {MAX_WORKERS}")
    return count
