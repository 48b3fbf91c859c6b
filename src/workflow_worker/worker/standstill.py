"""Which part of a worker stands still although the store answers others: judged from vital signs alone. Pure.

A worker can be alive in every way that is easy to see (its process runs, its loop turns, its session is renewed) and
still take nothing in, because one answer never comes. So each part shows since when its present turn lasts, and a turn
that lasts too long while others are answered is a standstill. The worker itself watches for it, to end for its
supervisor; the service, to say so in its health.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker.model.exceptions import WorkflowWorkerError
from workflow_worker.model.vitals import VitalSigns

INTAKE, COMMITTER, ERRANDS, TICKER = "intake", "committer", "errands", "ticker"

SIGN_OF = {INTAKE: "intake_since", COMMITTER: "commit_since", ERRANDS: "errand_since", TICKER: "tick_since"}
"""The vital sign in which each part shows its turn."""

_LEAST_SILENCE_MS = 3_000
_REFUSED_FOR = 10
"""So many times STALL_LIMIT_MS a part may get errors and no answer before another process tries its luck."""


class StoodStill(WorkflowWorkerError):
    """A part of the worker does not go on though the store answers: only a new worker can help."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """A part whose turn has lasted for `for_ms` while the store answered others."""

    part: str
    for_ms: int


def longest_silence_ms(poll_interval_ms: int) -> int:
    """The longest time between two round trips of a part that is well: an idle one looks every POLL_INTERVAL_MS."""
    return max(2 * poll_interval_ms, _LEAST_SILENCE_MS)


def standstills(signs: VitalSigns, poll_interval_ms: int, lease_ttl_ms: int, now: int) -> tuple[Standstill, ...]:
    """The parts that stand still at `now` (monotonic ms); none while the store answers nobody, for that is an outage.

    The intake may also sleep in the store for POLL_INTERVAL_MS in its turn.
    """
    since = answering_since(signs, poll_interval_ms, lease_ttl_ms, now)
    if not since:
        return ()
    silence_ms = longest_silence_ms(poll_interval_ms)
    found: list[Standstill] = []
    for part, sign in SIGN_OF.items():
        began = getattr(signs, sign)
        for_ms = now - max(began, since)
        if began and for_ms > silence_ms + (poll_interval_ms if part == INTAKE else 0):
            found.append(Standstill(part, for_ms))
    return tuple(found)


def is_beyond_help(stood: Standstill, silent_ms: int, stall_limit_ms: int) -> bool:
    """Whether only a new worker can help: the part's call has not come back for STALL_LIMIT_MS.

    A part whose calls fail, `silent_ms` ago the last time, is refused and not stuck (a replica is missing that
    DURABILITY wants, while everything else goes on): a new process would be refused as well, and what this one has
    computed and not recorded would be done again. So the committer waits as long as it takes, the others very long.
    """
    if silent_ms > stall_limit_ms:
        return stood.for_ms > stall_limit_ms
    return stood.part != COMMITTER and stood.for_ms > _REFUSED_FOR * stall_limit_ms


def answering_since(signs: VitalSigns, poll_interval_ms: int, lease_ttl_ms: int, now: int) -> int:
    """Since when the store answers somebody in this worker without a longer silence; 0: it does not now.

    The session is renewed every fifth of LEASE_TTL_MS, on a connection of its own, whatever the others do.
    """
    contact_at = max(signs.roundtrip_at, signs.renewed_at)
    if not contact_at or now - contact_at > max(longest_silence_ms(poll_interval_ms), lease_ttl_ms * 2 // 5):
        return 0
    return signs.answering_since or contact_at
