"""What workflow code may know and draw: its run, and randomness that is the same in every replay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from random import Random
from uuid import UUID

from workflow_worker.model.ids import RunRef


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that the code is part of. `ref` is ``<workflow>:<id>``; `started_at` is in UTC; `records` counts what
    the history holds so far, the same in every replay: continue as new before it is long."""

    ref: RunRef
    workflow: str
    id: str
    subject: str | None
    started_at: datetime
    records: int = 0


class Chance:
    """Two streams of randomness drawn from the run's seed, made when first used (seeding costs 4 microseconds).

    Identifiers have a stream of their own, so that drawing one does not shift what `random` gives.
    """

    __slots__ = ("_identifiers", "_numbers", "_seed")

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._numbers: Random | None = None
        self._identifiers: Random | None = None

    def random(self) -> Random:
        """The run's source of random numbers; always the same object."""
        if self._numbers is None:
            self._numbers = Random(self._seed)
        return self._numbers

    def uuid4(self) -> UUID:
        """A fresh identifier of version 4."""
        if self._identifiers is None:
            self._identifiers = Random(f"{self._seed}/uuid")
        return UUID(int=self._identifiers.getrandbits(128), version=4)
