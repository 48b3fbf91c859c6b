"""The catalogue of faults: which there are, how often each lies in the deck, and the diary of what happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.support.proxy import Cut, Weather

SHARES: dict[str, int] = {
    "worker killed": 8,
    "worker stopped and continued": 8,
    "server of a site killed": 2,
    "supervisor killed": 1,
    "worker told to drain": 2,
    "service scaled": 2,
    "redis killed": 5,
    "redis frozen": 4,
    "clients killed": 5,
    "scripts flushed": 6,
    "memory full": 3,
    "producer killed": 3,
    "slow network": 4,
    "thin network": 2,
    "requests held": 4,
    "replies held": 4,
    "network partition": 3,
    "half-open connections": 2,
    "connections refused": 2,
    "connections reset": 4,
    "cut before the request": 6,
    "cut within the request": 5,
    "cut after the server executed": 16,
    "cut within the reply": 8,
}
"""How often each kind of fault lies in the deck."""

SELDOM = ("register", "open", "close", "renew", "load", "load", "load", "hand_back", "tick", "cancel")
CUTS = {f"cut {cut}": cut for cut in Cut}
WEATHERS: dict[str, Weather] = {
    "slow network": Weather(delay_ms=5, jitter_ms=200),
    "thin network": Weather(bytes_per_s=20_000),
    "requests held": Weather(hold_requests=True),
    "replies held": Weather(hold_replies=True),
    "network partition": Weather(hold_requests=True, hold_replies=True),
    "half-open connections": Weather(half_open=True),
    "connections refused": Weather(refuse=True),
}
PRODUCER_POINTS = ("publish.sent", "publish.acked")
REDIS_FAULTS = ("redis killed", "redis frozen", "memory full", "clients killed")
"""After which consumption must come back."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One fault, from its beginning to its end (monotonic nanoseconds). `pids`: the workers that died of it."""

    kind: str
    began: int
    ended: int
    pids: tuple[int, ...] = ()
    site: str = ""
    calm: bool = False
    """Nothing else was wrong at the time, but for what crash points did: the figures are taken from these."""


@dataclass
class Ledger:
    """What the nemesis did."""

    happened: list[Happened] = field(default_factory=list[Happened])
    missed: Counter[str] = field(default_factory=Counter[str])
    """Faults that found nothing to hit."""
    paused: Counter[int] = field(default_factory=Counter[int])
    """Processes that stopped themselves at a pause point, and how often they were continued."""
    ours: set[int] = field(default_factory=set[int])
    """Process ids that we killed ourselves: what else died by a signal died at its crash point."""
    diary: Path | None = None
    """Where it is written down as it happens."""

    def add(self, happened: Happened) -> None:
        """A fault is over."""
        self.happened.append(happened)
        if self.diary is not None:
            with self.diary.open("ab") as diary:
                diary.write(msgspec.json.encode(happened) + b"\n")

    def counts(self) -> Counter[str]:
        """Faults by kind."""
        return Counter(each.kind for each in self.happened)


CALM_S: dict[str, float] = {"redis killed": 1.5, "redis frozen": 3.0, "worker killed": 4.0}
"""How long a fault that is measured takes, roughly, until what it stopped goes on, in seconds."""
CALM_BEYOND_LEASE_S = 5.0
"""For the rest it is a lease and so long, more than is promised: what comes late is not another fault's doing."""
MEASURED = (
    "redis killed",
    "redis frozen",
    "worker killed",
    "redis killed",
    "redis frozen",
    "server of a site killed",
)
"""The faults of one calm, each alone."""
MEASURED_SHARE = 0.05
MEASURED_AT_MOST = 24


def calms_of(measured: int | None, dealt: int, kinds: Sequence[str] = MEASURED) -> list[list[str]]:
    """What is measured in each calm, altogether `measured` faults or, where nothing is said, a share of those dealt."""
    most = min(MEASURED_AT_MOST, round(dealt * MEASURED_SHARE)) if measured is None else measured
    every = [kinds[place % len(kinds)] for place in range(most)]
    return [every[start : start + len(kinds)] for start in range(0, most, len(kinds))]


def deal(faults: int, seed: int) -> list[str]:
    """So many faults in the order in which they come: each kind at least once where there are enough of them."""
    chance = random.Random(f"nemesis {seed}")
    kinds = list(SHARES)
    rest = chance.choices(kinds, [SHARES[kind] for kind in kinds], k=max(0, faults - len(kinds)))
    deck = (kinds + rest)[:faults] if faults >= len(kinds) else chance.sample(kinds, faults)
    chance.shuffle(deck)
    return deck
