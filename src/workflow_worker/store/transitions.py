"""Request and outcome of each verb of the store, as frozen structs. Instants and spans are milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import msgspec

from workflow_worker.model.event import Event, Mail
from workflow_worker.model.failure import ErrorKind, Failure
from workflow_worker.model.ids import CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus, RunView


@dataclass(frozen=True, slots=True)
class Limits:
    """Spans and caps that the transitions obey; the same for every worker of a namespace."""

    lease_ttl_ms: int = 10_000
    early_event_ttl_ms: int = 86_400_000
    dedup_window_ms: int = 3_600_000
    retention_ms: int = 72 * 3_600_000
    retention_runs: int = 100_000
    max_event_bytes: int = 262_144
    max_takeovers: int = 3
    mailbox_cap: int = 1_000
    mailbox_cap_bytes: int = 16 * 1_048_576
    """Bytes that one mailbox, or the early events of one subject, may take; about, as the server counts them."""
    early_cap: int = 1_000
    subject_cap: int = 1_000
    waits_cap: int = 5_000
    """Runs of other subjects that may wait for one type and subject. A run that would be one too many is suspended."""
    copies_cap: int = 2_000
    """Copies that one ingest delivers before it leaves the rest of the stream to the next; the last entry is whole: at
    most `subject_cap` and `waits_cap` copies."""
    memory_high_water: int = 85
    """Percent of the server's ``maxmemory`` above which no event is taken that would start a run; 0 switches it off."""


# ---------------------------------------------------------------------------------------------------- registration


class StartRoute(msgspec.Struct, frozen=True, array_like=True):
    """A workflow that an event type starts. `template` builds the run's id from parts: ``=text`` is literal,
    ``subject`` and ``id`` stand for the event's; an empty template means the event's id."""

    workflow: str
    version: int
    template: tuple[str, ...] = ()
    restart: bool = False
    """``on_existing="restart"``: an ended run of that id starts anew; otherwise the event is a duplicate."""


class Route(msgspec.Struct, frozen=True, array_like=True):
    """What ingest must know of one declared event type (or of a prefix, ``orders.*``)."""

    needs_subject: bool
    starts: tuple[StartRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class Registration:
    """One app's declarations. `mark` names exactly this content; `knows` lists ``workflow@version`` it can execute."""

    mark: str
    routes: dict[str, Route]
    knows: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------- publishing


class Publish(msgspec.Struct, frozen=True, gc=False):
    """One event to add. `workflow` and `run` (both or neither) address it to one run."""

    event: Event
    workflow: str | None = None
    run: str | None = None
    delay_ms: int = 0


class Published(msgspec.Struct, frozen=True, gc=False):
    """`duplicate`: an event with this id was accepted within the dedup window; nothing was added. `full`: nothing was
    added, because the server's memory is above the high-water mark and the event would start a run, or at its limit."""

    id: str
    duplicate: bool = False
    full: bool = False


# ------------------------------------------------------------------------------------------------ sessions and leases


@dataclass(frozen=True, slots=True)
class Renewed:
    """The session lives on.

    `lost`: pairs of `known` that are not the session's any more (cancel the attempts). `unknown`: pairs that the
    session holds but did not name (hand them back when named twice in a row). `mail`: held runs with mail.
    """

    now: int
    lost: tuple[tuple[RunRef, int], ...] = ()
    unknown: tuple[tuple[RunRef, int], ...] = ()
    mail: tuple[RunRef, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The session is gone or being reaped: drop everything, open another. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """`number` rises by one per session and request; an unanswered request is repeated with the same number.

    `room` caps the runs leased (and entries read) by this call, `cursor` is where the last look into ``ready`` stopped.
    `quarantine`: send the head entry of ``events`` raw to ``dead`` and do nothing else (same error three times).
    """

    session: SessionId
    number: int
    room: int
    mark: str
    cursor: str = "0"
    quarantine: bool = False
    reason: str = ""
    """What the script said of the head entry; ends up in its dead letter ``quarantined: <reason>``."""


class LeasedRun(msgspec.Struct, frozen=True, gc=False):
    """A run that this session holds now. `start` (its start event) is given while the run has no commit yet, else
    `load` has it. `created_at` is the run's first instant on its own clock. `strikes` counts the holders that died with
    it since its last record."""

    ref: RunRef
    token: int
    cid: CommitId
    version: int
    created_at: int
    strikes: int
    start: Mail | None
    mail: tuple[Mail, ...] = ()


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the entries that one ingest read; the sum is `Ingested.read`."""

    routed: int = 0
    early: int = 0
    duplicate: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that one ingest made, of a whole entry or of one run's copy; `type` and `run` may be empty."""

    dead_id: str
    reason: str
    type: str
    run: str = ""


LETTERS_TOLD = 20
"""Letters named in the answer to one ingest; the others are counted and can be listed."""


class Ingested(msgspec.Struct, frozen=True, gc=False):
    """`again`: this number was answered before; `runs` are those that it leased, as they are now. `read` counts the
    entries taken from ``events``, `cursor` goes into the next call. `fates` and `letters` are of this call alone: an
    answer ``again`` does not repeat them."""

    now: int
    runs: tuple[LeasedRun, ...]
    cursor: str = "0"
    read: int = 0
    again: bool = False
    fates: Fates = Fates()
    letters: tuple[Letter, ...] = ()


@dataclass(frozen=True, slots=True)
class Stale:
    """A later number of this session was answered already; nothing was written."""


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The caller's app is not registered here (fresh or flushed server): register, then repeat. Nothing was taken."""


IngestOutcome = Ingested | SessionLost | Stale | Unregistered


@dataclass(frozen=True, slots=True)
class Loaded:
    """A held run as the store keeps it: encoded records, oldest first, and the mailbox."""

    now: int
    cid: CommitId
    start: Mail
    created_at: int
    records: tuple[bytes, ...]
    mail: tuple[Mail, ...]
    waits: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run's history and what a replay of it needs, as of one moment: encoded records, oldest first. `created_at` is
    the first instant on the clock of this history."""

    version: int
    created_at: int
    start: Mail
    records: tuple[bytes, ...]


# ---------------------------------------------------------------------------------------------------------- commits


class Mode(StrEnum):
    """What becomes of the lease with a commit."""

    KEEP = "keep"
    RELEASE = "release"
    END = "end"


class Emit(msgspec.Struct, frozen=True, gc=False):
    """A follow-up event, numbered from 1 in the run (since its last restart). The store names it
    ``<run>:<id of the start event>:<number>``.

    `workflow` and `run` (both or neither) address it to one run; `delay_ms` holds it back. What is addressed, of an
    internal type (``ww.``), and finds its run ended or absent is dropped: counted as early and unclaimed.
    """

    number: int
    event: Event
    workflow: str | None = None
    run: str | None = None
    delay_ms: int = 0


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One step of a run, whole or not at all.

    `base` is the commit that it builds on. `taken` mails from the head of the mailbox are now in `records` (or in
    `rejects`); `last_taken` is the entry of the last of them. `rejects` pairs mail entries with the reason; the word
    ``start`` as an entry rejects the start event, which ends the run as ``failed``. Of `emits` a number not above the
    highest emitted one is skipped. `wake` is the next due time of a released run.

    `restart` (continue as new; needs mode ``keep``) makes the run begin again in place: its history is cleared before
    `records` are appended, this mail is its start event now, attempts, strikes and the numbers of later emits start
    anew (emits of this commit are the old history's). `began_at` is the first instant on its own clock from now on
    (None: the store's time; then load the run before it goes on). Mailbox, waits, token, state and takeovers stay. The
    start event needs an id of its own, for the ids of emits hold it.
    """

    ref: RunRef
    session: SessionId
    token: int
    base: CommitId
    cid: CommitId
    records: tuple[bytes, ...]
    status: RunStatus
    mode: Mode
    taken: int = 0
    last_taken: str = ""
    rejects: tuple[tuple[str, str], ...] = ()
    waits_added: tuple[tuple[str, str], ...] = ()
    waits_removed: tuple[tuple[str, str], ...] = ()
    emits: tuple[Emit, ...] = ()
    state: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    wake: int | None = None
    attempts: int = 0
    """Attempts of actions made since the last commit; added to the run's counter."""
    restart: Mail | None = None
    began_at: int | None = None


REJECT_START = "start"

CommitWord = Literal["ok", "again", "mail", "fenced", "conflict", "gone"]


class CommitOutcome(msgspec.Struct, frozen=True, gc=False):
    """``ok``: written. ``again``: written before, the present state follows. ``mail``: nothing written, because mail
    came that the run has not taken. ``fenced``: another holds the run; or nobody, because a wait of this commit found
    no room (`CROWDED_ERROR`). ``conflict``: `base` or `last_taken` is not what the store has. ``gone``: no such run.
    `held` tells whether the caller still holds the run, `mail` is what waits."""

    word: CommitWord
    held: bool = False
    mail: tuple[Mail, ...] = ()
    now: int = 0


# ------------------------------------------------------------------------------------------------------------- ticks


@dataclass(frozen=True, slots=True)
class Ticked:
    """`moved` counts what became due and was moved; `full`: there is more, call again at once. `next_due` is the next
    known due time, None if nothing waits. `memory`: percent of ``maxmemory`` in use, None when the server has no limit
    or does not tell. `sessions_due`: when the next session expires unless it renews, or may be reaped that has; who
    ticks then takes over the runs of dead workers without delay."""

    now: int
    moved: int
    full: bool = False
    next_due: int | None = None
    memory: int | None = None
    sessions_due: int | None = None


POISON_ERROR = msgspec.msgpack.encode(
    Failure(
        type="poison",
        message="the run's holders died again and again without recording anything (MAX_TAKEOVERS)",
        kind=ErrorKind.PERMANENT,
    )
)
"""Error of a run that `tick` suspends as a poison pill: an encoded `Failure`."""

CROWDED_ERROR = msgspec.msgpack.encode(
    Failure(
        type="crowded",
        message="as many runs as one event may reach wait for this type and subject already; wait for another subject, "
        "or resume the run when others have had their event",
        kind=ErrorKind.PERMANENT,
    )
)
"""Error of a run that `commit` suspends because its new wait found no room: an encoded `Failure`."""

OperatorWord = Literal["ok", "already", "gone"]


@dataclass(frozen=True, slots=True)
class OperatorAct:
    """Who did what, when, on what: ``cancel``, ``resume``, ``redrive``, ``drop``, ``drop letters``; to schedules ``set
    schedule``, ``pause schedule``, ``resume schedule``, ``run schedule``, ``backfill schedule``, ``delete schedule``.
    `on` names a run, a dead letter, a schedule or, of a bulk drop, what was looked for; `note` is the reason given, the
    count, or what was asked for."""

    at: int
    by: str
    act: str
    on: str
    note: str = ""


# ------------------------------------------------------------------------------------------------------------- views


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list, newest first. `after` is the full name of the last run seen, for the next page; when that
    run is gone, there is none."""

    status: RunStatus | None = None
    workflow: str | None = None
    subject: str | None = None
    limit: int = 100
    after: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """`total` counts all that fit the query, `items` the first `limit` of them; with `after`, only those count."""

    items: tuple[RunView, ...]
    total: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the namespace was made; `problems` says in words which invariant does not hold."""

    added: int = 0
    ingested: int = 0
    routed: int = 0
    early: int = 0
    duplicate: int = 0
    dead: int = 0
    deliveries: int = 0
    recorded: int = 0
    unclaimed: int = 0
    fenced: int = 0
    again: int = 0
    takeovers: int = 0
    queued: int = 0
    delayed: int = 0
    balanced: bool = True
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits: `events` in the stream (the autoscaling signal), `ready` runs nobody holds, `delayed` events,
    `early` events, dead letters, live sessions."""

    events: int
    ready: int
    delayed: int
    dead: int
    sessions: int
    suspended: int
