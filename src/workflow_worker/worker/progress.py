"""`Progress`: what a run has done in memory and the store does not know yet."""

from __future__ import annotations

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.store.transitions import Emit


class Progress(msgspec.Struct):
    """Grows between two commits; one commit writes all of it or nothing."""

    records: list[bytes] = []
    taken: int = 0
    last_taken: str = ""
    rejects: list[tuple[str, str]] = []
    waits: dict[tuple[str, str], bool] = {}
    """Event type and subject → whether the run waits for it now: of a wait that ended and began again only the last
    word counts, because the store adds first and removes then."""
    state: bytes | None = None
    emits: list[Emit] = []
    attempts: int = 0
    events: list[tuple[str, Event, float]] = []
    """Events taken in, by mailbox entry, and when they came into this worker's hands (monotonic seconds)."""

    @property
    def dirty(self) -> bool:
        """Whether there is something that must be written."""
        return bool(self.records) or not self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but records, as nearly always."""
        return self.state is None and not (self.taken or self.waits or self.rejects or self.emits)

    def waits_that(self, *, begin: bool) -> tuple[tuple[str, str], ...]:
        """Which waits begin, or end, with this progress."""
        return tuple([wait for wait, last in self.waits.items() if last is begin]) if self.waits else ()

    def before(self, later: Progress) -> Progress:
        """This progress, refused by the store, with what came after it."""
        return Progress(
            records=self.records + later.records,
            taken=self.taken + later.taken,
            last_taken=later.last_taken or self.last_taken,
            rejects=self.rejects + later.rejects,
            waits=self.waits | later.waits,
            state=later.state if later.state is not None else self.state,
            emits=self.emits + later.emits,
            attempts=self.attempts + later.attempts,
            events=self.events + later.events,
        )
