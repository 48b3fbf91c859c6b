"""Which leased runs may be executed beside which others: whoever may be a poison pill is executed alone. Pure.

A run that loses one holder more than `MAX_TAKEOVERS` is suspended for a person to look at. That must not happen for
another's fault, so before its last chance it is a *suspect*: it begins when everything else here has ended, or has at
least been executed for `ALONE_S` without killing the worker, and nothing else begins until it has made a record or has
been executed for `ALONE_S` itself. Before that deaths are nobody's in particular: every run that the worker held has a
strike for each.

Suspects and others take turns. A server that died with many leaves many suspects side by side, and while these were
executed one after the other, nobody would be there for new events.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from workflow_worker.model.ids import RunRef
from workflow_worker.store.transitions import LeasedRun

ALONE_S = 1.0
"""How long a suspect executes alone: what kills its worker does so soon, or others cannot be kept waiting for it. As
much time as that the others have, when suspects have used up as much."""

_NOBODY_CAME_S = 0.25
"""The turn of the others is over after this time if no other run came."""
NOT_BEFORE_MS = 3_000
"""A suspect that cannot begin here does not come back sooner."""
_WARY_FOR = 5
"""Ingests of one run each after a suspect was met: a server that died leaves as many as it held, side by side."""


class Admission(msgspec.Struct, frozen=True):
    """What becomes of the runs that an ingest leased: kept here, or handed back with a delay in ms."""

    kept: tuple[LeasedRun, ...]
    back: tuple[tuple[LeasedRun, int], ...] = ()


class Isolation:
    """One worker's judgement of who may be executed now.

    Args:
        max_takeovers: So many holders may die with a run between two records.
        monotonic: The clock, in seconds.
    """

    def __init__(self, max_takeovers: int, monotonic: Callable[[], float]) -> None:
        self._limit = max(1, max_takeovers)
        self._monotonic = monotonic
        self.suspect: RunRef | None = None
        """The run that waits for being alone, or is; there is no room for others meanwhile."""
        self._came = 0.0
        self._began: float | None = None
        self._lingering: set[RunRef] = set()
        """Suspects that were alone long enough and have made no record yet: no other suspect begins beside them."""
        self._used_s = 0.0
        self._turn_began = self._turn_ends = 0.0
        self._wary = 0

    @property
    def watches(self) -> bool:
        """Whether there is anybody for whom a record, or an end, makes a difference."""
        return self.suspect is not None or bool(self._lingering)

    @property
    def wary(self) -> bool:
        """Whether runs should come one by one: more suspects are where the last one came from, and it is their turn."""
        return self._wary > 0 and self._monotonic() >= self._turn_ends

    def admit(self, runs: tuple[LeasedRun, ...]) -> Admission:
        """Judge what an ingest brought. With a suspect comes nobody else, and with nobody else's turn no suspect."""
        suspects = [leased for leased in runs if leased.strikes >= self._limit]
        if self.suspect is not None:  # an ingest that was under way when it came
            return Admission((), tuple((leased, 0) for leased in runs))
        if not suspects:
            if self._wary and runs:
                self._wary -= 1
            self._others_came(len(runs))
            return Admission(runs)
        others = tuple(leased for leased in runs if leased.strikes < self._limit)
        now = self._monotonic()
        if self._lingering or now < self._turn_ends:
            self._others_came(len(others))
            delay_ms = NOT_BEFORE_MS if self._lingering else math.ceil((self._turn_ends - now) * 1000)
            return Admission(others, tuple((leased, delay_ms) for leased in suspects))
        self._wary = _WARY_FOR
        self.suspect, self._came = suspects[0].ref, now
        return Admission((suspects[0],), tuple((leased, 0) for leased in runs if leased is not suspects[0]))

    def _others_came(self, count: int) -> None:
        if count and self._turn_ends > self._turn_began:
            self._turn_ends = self._turn_began + ALONE_S

    def may_begin(self, in_company: bool) -> bool:
        """Whether the suspect's turn has come. Nothing has begun here since it came, so that company that is still
        there after `ALONE_S` has been executed for as long."""
        return not in_company or self._monotonic() >= self._came + ALONE_S

    def begin(self) -> None:
        """The suspect gets its slot."""
        self._began = self._monotonic()

    def recorded(self, ref: RunRef) -> bool:
        """A record, or the end of the run here, clears it of suspicion; whether there is room for others by that."""
        self._lingering.discard(ref)
        return self._done(ref)

    def alone_long_enough(self, ref: RunRef) -> bool:
        """`ALONE_S` after it began; whether there is room for others by that."""
        if ref != self.suspect:
            return False
        self._lingering.add(ref)
        return self._done(ref)

    def _done(self, ref: RunRef) -> bool:
        if ref != self.suspect:
            return False
        now = self._monotonic()
        self.suspect = None
        if self._began is not None:
            self._used_s += now - self._began
            self._began = None
        if self._used_s >= ALONE_S:
            self._used_s = 0.0
            self._turn_began, self._turn_ends = now, now + _NOBODY_CAME_S
        return True
