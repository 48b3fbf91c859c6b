"""Adds the pages of `audit.lua` up and says which invariant does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from workflow_worker.store.transitions import Audit

_COUNTED = (
    *("ingested", "routed", "early", "duplicate", "dead"),
    *("deliveries", "recorded", "unclaimed", "fenced", "again", "takeovers"),
)


@dataclass(slots=True)
class Ledger:
    """What the pages said so far. Counters that moved between two pages make sums over runs meaningless."""

    mails: int = 0
    early: int = 0
    added: int = -1
    queued: int = 0
    delayed: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[str] = field(default_factory=list[str])
    moved: bool = False
    cursor: int = 0

    def take(self, reply: list[Any]) -> None:
        """Read one page."""
        first = not self.cursor and not self.counts
        self.cursor, mails, early, added, queued, delayed, size = reply[:7]
        flat = reply[7 : 7 + 2 * size]
        texts = {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}
        counts = {name: int(texts.get(name, 0)) for name in (*_COUNTED, "claimed", "kept")}
        if first:
            self.early, self.added, self.queued, self.delayed, self.counts = early, added, queued, delayed, counts
        self.moved = self.moved or counts != self.counts
        self.mails += mails
        self.problems += [problem.decode("utf-8", "backslashreplace") for problem in reply[7 + 2 * size :]]

    def result(self) -> Audit:
        """The audit. Without XINFO's count (Redis 6.2) what was added is what went through and what is queued."""
        n = self.counts
        added = self.added if self.added >= 0 else n["ingested"] + self.queued
        problems = (*self._accounts(added), *self.problems)
        return Audit(
            added=added,
            queued=self.queued,
            delayed=self.delayed,
            balanced=not problems,
            problems=problems,
            **{name: n[name] for name in _COUNTED},
        )

    def _accounts(self, added: int) -> Iterator[str]:
        n = self.counts
        if added != n["ingested"] + self.queued:
            yield f"A: {added} added, but {n['ingested']} ingested and {self.queued} queued"
        fates = n["routed"] + n["early"] + n["duplicate"] + n["dead"]
        if n["ingested"] != fates:
            yield f"A: {n['ingested']} ingested, but {fates} fates"
        if n["early"] + n["kept"] != self.early + n["claimed"] + n["unclaimed"]:
            gone = f"{n['claimed']} claimed, {n['unclaimed']} unclaimed"
            yield f"A: {n['early']} early and {n['kept']} kept, but {self.early} waiting, {gone}"
        if not self.moved and n["deliveries"] != n["recorded"] + self.mails:
            yield f"A: {n['deliveries']} deliveries, but {n['recorded']} recorded and {self.mails} in mailboxes"
