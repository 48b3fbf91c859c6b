"""`Store`: the verbs. Each is one whole transition, atomic and fenced; refusals are outcomes, not exceptions.

Every method may raise `StoreUnavailable` (no usable answer: the transition may or may not have happened, so repeat it
with equal arguments, which is harmless) and nothing else of its own. Rules and invariants: `docs/design.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.run import RunView
from workflow_worker.store.transitions import (
    Audit,
    Commit,
    CommitOutcome,
    Depth,
    Ingest,
    IngestOutcome,
    Loaded,
    OperatorAct,
    OperatorWord,
    Publish,
    Published,
    Recorded,
    Registration,
    Renewed,
    RunPage,
    RunQuery,
    SessionLost,
    Ticked,
)


class Store(Protocol):
    """One partition's state. Implementations: `MemoryStore` (the specification) and `RedisStore`."""

    # ---- producers and declarations
    async def register(self, registration: Registration) -> None:
        """Declare an app's routes: adds or raises versions, never lowers or removes. Dead letters "undeclared" of a
        type that is declared now are redriven, 200 a call."""
        ...

    async def publish(self, items: Sequence[Publish]) -> list[Published]:
        """Add events to the stream, each once per id within the dedup window; in order."""
        ...

    # ---- sessions
    async def open(self, session: SessionId) -> str:
        """Begin a session; repeated, it changes nothing. Returns the namespace's epoch: a random mark made with its
        data, another one after a flush or on another server."""
        ...

    async def close(self, session: SessionId, died: bool = False) -> bool:
        """Hand back up to 200 runs that the session holds; True when the session is gone, else repeat.

        With `died` the session's worker did not end by itself: each run counts a takeover, as reaping counts it, and is
        suspended when its holders died more than `MAX_TAKEOVERS` times in a row without a record.
        """
        ...

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        """Push the session's expiry 2/3 of LEASE_TTL ahead and compare what it holds; never re-creates a session."""
        ...

    # ---- runs
    async def ingest(self, request: Ingest) -> IngestOutcome:
        """Take ready runs, then read, route and deliver the oldest events, lease what there is room for: at once."""
        ...

    async def load(self, session: SessionId, held: Sequence[tuple[RunRef, int]]) -> list[Loaded | None]:
        """Histories and mailboxes of held runs, at most 200; None for a pair that is not the session's any more.

        Long ones make a call shorter: it answers the first, and as many behind it as `LOADED_AT_ONCE` leaves room for.
        """
        ...

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """Write steps of several runs, at most 200; each succeeds or is refused on its own."""
        ...

    async def hand_back(self, session: SessionId, ref: RunRef, token: int, delay_ms: int = 0) -> bool:
        """Give a run up for trouble of the run as a whole: to ``ready``, or parked for a while. False: not held."""
        ...

    async def tick(self, limit: int = 200) -> Ticked:
        """Move what is due: wakes, delayed events, early events past their time, dead sessions, retention."""
        ...

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool | IngestOutcome:
        """Sleep until an event or a ready run may be there; False after `timeout_ms`. One sleeper wakes per entry.

        What `then` brings while the sleep lasts is sent behind it: the store ingests at the moment in which the sleep
        ends, without another round trip, and the outcome is that of the ingest. True or False: the ingest was not
        answered, done or not; repeat it by `ingest`, as after an error.
        """
        ...

    def hints(self, session: SessionId) -> AsyncIterator[RunRef]:
        """Runs held by this session for which mail has come. A hint may be lost; `renew` tells the same later."""
        ...

    # ---- operators
    async def cancel(self, ref: RunRef, by: str, reason: str) -> OperatorWord:
        """Put a cancel request into the run's mailbox, one per run; ``already`` when it has one or has ended."""
        ...

    async def resume(self, ref: RunRef, record: bytes, by: str) -> OperatorWord:
        """Let a suspended run go on: append `record` (an encoded `RunResumed`) under a fresh commit id, to ready."""
        ...

    async def redrive(self, dead_id: str, by: str) -> OperatorWord:
        """Send a dead letter's event again (a run's copy to that run alone); ``already`` when done before."""
        ...

    async def drop(self, dead_id: str, by: str) -> OperatorWord:
        """Delete a dead letter for good."""
        ...

    async def drop_letters(
        self, reason_prefix: str, type: str | None, before_ms: int | None, limit: int, by: str
    ) -> int:
        """Delete up to `limit` dead letters that wait, oldest first, for good: those whose reason begins so, of this
        event type and made before this instant. Returns how many went; not one transition, so a repeat goes on."""
        ...

    async def note(self, by: str, act: str, on: str, more: str = "") -> OperatorWord:
        """Write down what a person does by events, as to a schedule; ``already`` when it is the newest line and not a
        minute old."""
        ...

    async def operator_log(self, limit: int = 100) -> list[OperatorAct]:
        """What people did, newest first; about the last 10,000 acts are kept."""
        ...

    # ---- views (read-only, no decision may rest on them)
    async def run(self, ref: RunRef) -> RunView | None:
        """One run without its history."""
        ...

    async def runs(self, query: RunQuery) -> RunPage:
        """Runs by status, workflow, subject; newest first."""
        ...

    async def find_runs(self, run_id: str) -> list[RunRef]:
        """The runs of any workflow that have this id."""
        ...

    async def history(self, ref: RunRef) -> list[bytes]:
        """A run's encoded records, oldest first."""
        ...

    async def recorded(self, ref: RunRef) -> Recorded | None:
        """A run's history with what a replay needs, as of one moment; None if there is no such run."""
        ...

    async def start_event(self, ref: RunRef) -> tuple[str, ...] | None:
        """The raw fields of the event that started the run, flat; None if there is no such run."""
        ...

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Dead letters, oldest first, that were not redriven; `after` is the id of the last one seen."""
        ...

    async def dead_letter(self, dead_id: str) -> DeadLetter | None:
        """One dead letter."""
        ...

    async def depth(self) -> Depth:
        """How much waits."""
        ...

    async def audit(self) -> Audit:
        """Check the invariants against the present state."""
        ...

    async def aclose(self) -> None:
        """Close connections; the store's state stays."""
        ...
