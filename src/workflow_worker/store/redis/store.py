"""`RedisStore`: one short method per verb: encode, call the script, decode. What a verb does stands in its script."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from workflow_worker.model.codec import MAX_VALUE_BYTES
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.ids import CANCEL_TYPE, ENVELOPE_BYTES, MAX_NAME_BYTES, RunRef, SessionId, run_ref
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.bounds import LOADED_AT_ONCE, check_commits, check_held, check_published
from workflow_worker.store.redis import encoding
from workflow_worker.store.redis.auditing import Ledger
from workflow_worker.store.redis.calls import WAIT_MS, Caller, Durability
from workflow_worker.store.redis.errors import OutOfMemoryError
from workflow_worker.store.redis.keys import prefix_of
from workflow_worker.store.redis.link import BlockingClient, Client
from workflow_worker.store.redis.streams import Wakening, listen
from workflow_worker.store.transitions import (
    CROWDED_ERROR,
    POISON_ERROR,
    Audit,
    Commit,
    CommitOutcome,
    Depth,
    Ingest,
    IngestOutcome,
    Limits,
    Loaded,
    OperatorAct,
    OperatorWord,
    Publish,
    Published,
    Recorded,
    Registration,
    Renewed,
    Route,
    RunPage,
    RunQuery,
    SessionLost,
    Stale,
    Ticked,
    Unregistered,
)

PER_CALL = 200
"""Entries or runs that one script may touch: none holds the server for long."""

_PAGE = 500
_STREAM_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


class RedisStore:
    """The Store on one Redis or Valkey server. Verbs and refusals: `Store`.

    `client` is for short calls and `blocking` for sleeping and listening (no read time-out of its own); both without
    retries of the library and without decoding of replies. `clock` gives milliseconds instead of the server's time: for
    tests. An ingest may raise `Refused` too: its script failed on an entry, nothing was written, quarantine it.
    """

    def __init__(
        self,
        client: Client,
        blocking: BlockingClient,
        *,
        namespace: str,
        partition: int = 0,
        limits: Limits | None = None,
        durability: Durability = "relaxed",
        durability_ms: int = WAIT_MS,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._client, self._blocking = client, blocking
        self._limits = limits or Limits()
        self._clock = clock
        self.prefix = prefix_of(namespace, partition)
        self._caller = Caller(client, self.prefix, durability, durability_ms)
        self._call = self._caller.call
        self._wakening = Wakening(blocking, self.prefix, lambda request: self._caller.command(*self._ingest(request)))

    def _now(self) -> int | str:
        return "" if self._clock is None else self._clock()

    # ---- producers and declarations
    async def register(self, registration: Registration) -> None:
        """See `Store.register`."""
        flat: list[str | bytes | int] = []
        for event_type, route in registration.routes.items():
            flat += (event_type, msgspec.msgpack.encode(route))
        knows = msgspec.msgpack.encode(registration.knows)
        await self._call("register", self._now(), registration.mark, knows, *flat)

    async def publish(self, items: Sequence[Publish]) -> list[Published]:
        """See `Store.publish`.

        A server whose memory is at its limit refuses all of them as ``full``.

        Raises:
            ValueError, EventRejected: See `check_published`.
        """
        check_published(items)
        if not items:
            return []
        flat = encoding.encode_publish(items)
        try:
            reply = await self._caller.call_durably("publish", self._now(), *flat)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, OutOfMemoryError):
                raise
            return [Published(item.event.id, full=True) for item in items]
        return encoding.decode_published(items, reply)

    # ---- sessions
    async def open(self, session: SessionId) -> str:
        """See `Store.open`."""
        mark = uuid.uuid4().hex
        return (await self._call("open", self._now(), session, self._limits.lease_ttl_ms, mark)).decode()

    async def close(self, session: SessionId, died: bool = False) -> bool:
        """See `Store.close`."""
        flags = 1 if died else 0, self._limits.max_takeovers, POISON_ERROR
        return await self._call("close", self._now(), session, *flags) == b"ok"

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        """See `Store.renew`."""
        flat = [part for pair in known for part in pair]
        reply = await self._call("renew", self._now(), session, self._limits.lease_ttl_ms, *flat)
        return SessionLost() if reply[0] == b"lost" else encoding.decode_renewed(reply)

    # ---- runs
    async def ingest(self, request: Ingest) -> IngestOutcome:
        """See `Store.ingest`.

        Raises:
            Refused: The script failed on what it read, nothing was written.
        """
        return _ingest_outcome(await self._call(*self._ingest(request)))

    def _ingest(self, request: Ingest) -> tuple[str, *tuple[encoding.Argument, ...]]:
        """The script's name and arguments."""
        limits = self._limits
        return (
            *("ingest", self._now(), request.session, request.number, max(0, min(request.room, PER_CALL))),
            *(request.mark, request.cursor, 1 if request.quarantine else 0),
            request.reason or "ingest failed on it",
            *(limits.max_event_bytes, ENVELOPE_BYTES, limits.mailbox_cap, limits.mailbox_cap_bytes, limits.early_cap),
            *(limits.subject_cap, limits.early_event_ttl_ms, MAX_NAME_BYTES, limits.copies_cap, MAX_VALUE_BYTES),
        )

    async def load(self, session: SessionId, held: Sequence[tuple[RunRef, int]]) -> list[Loaded | None]:
        """See `Store.load`.

        Raises:
            ValueError: See `check_held`.
        """
        check_held(held)
        flat = [part for pair in held for part in pair]
        return encoding.decode_loaded(await self._call("load", self._now(), session, LOADED_AT_ONCE, *flat))

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """See `Store.commit`.

        Raises:
            ValueError: See `check_commits`.
        """
        check_commits(commits)
        flat = encoding.encode_commits(commits)
        limits = self._limits
        caps = limits.mailbox_cap, limits.mailbox_cap_bytes, limits.max_event_bytes, limits.waits_cap
        reply = await self._caller.call_durably("commit", self._now(), *caps, CROWDED_ERROR, *flat)
        return encoding.decode_outcomes(reply)

    async def hand_back(self, session: SessionId, ref: RunRef, token: int, delay_ms: int = 0) -> bool:
        """See `Store.hand_back`."""
        return await self._call("hand_back", self._now(), session, ref, token, delay_ms) == b"ok"

    async def tick(self, limit: int = 200) -> Ticked:
        """See `Store.tick`."""
        limits = self._limits
        now, moved, full, due, memory, sessions = await self._call(
            *("tick", self._now(), max(1, min(limit, PER_CALL)), limits.lease_ttl_ms, limits.max_takeovers),
            *(POISON_ERROR, limits.dedup_window_ms, limits.retention_ms, limits.retention_runs),
            limits.memory_high_water,
        )
        return Ticked(
            *(now, moved, full == 1, int(due) if due else None),
            memory=memory if isinstance(memory, int) else None,
            sessions_due=int(sessions) if sessions else None,
        )

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool | IngestOutcome:
        """See `Store.wait_for_work`."""
        reply = await self._wakening.sleep(timeout_ms, then or asyncio.get_running_loop().create_future())
        return reply if isinstance(reply, bool) else _ingest_outcome(reply)

    def hints(self, session: SessionId) -> AsyncIterator[RunRef]:
        """See `Store.hints`."""
        return listen(self._blocking, self.prefix, session)

    # ---- operators
    async def cancel(self, ref: RunRef, by: str, reason: str) -> OperatorWord:
        """See `Store.cancel`."""
        data = msgspec.json.encode({"by": by, "reason": reason})
        return (await self._call("cancel", self._now(), ref, CANCEL_TYPE, data, by, reason)).decode()

    async def resume(self, ref: RunRef, record: bytes, by: str) -> OperatorWord:
        """See `Store.resume`."""
        return (await self._call("resume", self._now(), ref, record, by)).decode()

    async def redrive(self, dead_id: str, by: str) -> OperatorWord:
        """See `Store.redrive`."""
        if not _STREAM_ID.fullmatch(dead_id):
            return "gone"
        return (await self._call("redrive", self._now(), dead_id, by)).decode()

    async def drop(self, dead_id: str, by: str) -> OperatorWord:
        """See `Store.drop`."""
        if not _STREAM_ID.fullmatch(dead_id):
            return "gone"
        return (await self._call("drop", self._now(), dead_id, by)).decode()

    async def drop_letters(
        self, reason_prefix: str, type: str | None, before_ms: int | None, limit: int, by: str
    ) -> int:
        """See `Store.drop_letters`. 200 letters are looked at in one call."""
        looked_for = f"reason {reason_prefix!r}, type {type!r}, before {before_ms}"
        first, gone = "-", 0
        while first and gone < limit:
            after, dropped = await self._call(
                *("drop_letters", self._now(), first, reason_prefix, type or ""),
                *("" if before_ms is None else before_ms, min(PER_CALL, limit - gone), by, looked_for),
            )
            first, gone = after.decode(), gone + dropped
        return gone

    async def note(self, by: str, act: str, on: str, more: str = "") -> OperatorWord:
        """See `Store.note`."""
        return (await self._call("note", self._now(), by, act, on, more)).decode()

    async def operator_log(self, limit: int = 100) -> list[OperatorAct]:
        """See `Store.operator_log`."""
        if limit <= 0:
            return []
        return [encoding.decode_act(fields) for fields in await self._call("operator_log", limit)]

    # ---- views
    async def run(self, ref: RunRef) -> RunView | None:
        """See `Store.run`."""
        return (await self._views([ref]))[0]

    async def runs(self, query: RunQuery) -> RunPage:
        """See `Store.runs`."""
        index, status = "index", query.status
        if status is RunStatus.SUSPENDED:
            index = "index:suspended"
        seen = await self._place_of(index, query.after) if query.after else 0
        if seen is None:
            return RunPage((), 0)
        if status is None and not query.workflow and not query.subject:
            return await self._newest(query, seen)
        found: list[RunRef] = []
        total, offset, looked = 0, seen, _PAGE
        while looked == _PAGE and not (query.after and len(found) >= query.limit):
            looked, *refs = await self._call(
                "page", index, offset, _PAGE, status or "", query.workflow or "", query.subject or ""
            )
            offset, total = offset + looked, total + len(refs)
            found += [RunRef(ref.decode()) for ref in refs[: query.limit - len(found)]]
        views = await self._views(found)
        items = tuple(view for view in views if view is not None)
        return RunPage(items, len(items) if query.after else total)

    async def _place_of(self, index: str, ref: str) -> int | None:
        """How many runs of an index come no later in a list than this one; None when it is gone."""
        rank: int | None = await self._caller.read("ZREVRANK", self.prefix + index, ref)
        if rank is not None:
            return rank + 1
        created: Any = await self._caller.read("ZSCORE", self.prefix + "index", ref)
        if created is None:
            return None
        # Not suspended any more: those that are newer. Of one millisecond some may be shown again, none is left out.
        text = created.decode() if isinstance(created, bytes) else str(created)
        return await self._caller.read("ZCOUNT", self.prefix + index, f"({text}", "+inf") or 0

    async def _newest(self, query: RunQuery, seen: int) -> RunPage:
        index, last = self.prefix + "index", seen + query.limit - 1
        total: int = await self._caller.read("ZCARD", index)
        refs: list[bytes] = await self._caller.read("ZREVRANGE", index, seen, last) if query.limit else []
        views = await self._views([RunRef(ref.decode()) for ref in refs])
        items = tuple(view for view in views if view is not None)
        return RunPage(items, len(items) if query.after else total)

    async def _views(self, refs: list[RunRef]) -> list[RunView | None]:
        views: list[RunView | None] = []
        for start in range(0, len(refs), PER_CALL):
            part = refs[start : start + PER_CALL]
            reply = await self._call("view", *part)
            views += map(encoding.decode_view, part, reply)
        return views

    async def find_runs(self, run_id: str) -> list[RunRef]:
        """See `Store.find_runs`. Any workflow that can have a run stands in a route: none is ever removed there."""
        flat: Any = await self._caller.read("HVALS", self.prefix + "routes")
        workflows: set[str] = set()
        for packed in flat:
            value = msgspec.msgpack.decode(packed)
            if value and isinstance(value[0], bool):
                workflows.update(start.workflow for start in msgspec.convert(value, Route).starts)
        refs = [run_ref(workflow, run_id) for workflow in sorted(workflows)]
        views = await self._views(refs)
        return [ref for ref, view in zip(refs, views, strict=True) if view is not None]

    async def history(self, ref: RunRef) -> list[bytes]:
        """See `Store.history`; empty when there is no such run."""
        return await self._caller.read("LRANGE", self.prefix + "history:" + ref, 0, -1)

    async def recorded(self, ref: RunRef) -> Recorded | None:
        """See `Store.recorded`."""
        reply = await self._call("recorded", ref)
        return None if reply[0] == b"gone" else encoding.decode_recorded(reply)

    async def start_event(self, ref: RunRef) -> tuple[str, ...] | None:
        """See `Store.start_event`."""
        packed = await self._caller.read("HGET", self.prefix + "run:" + ref, "start")
        return None if packed is None else encoding.decode_start(packed)

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """See `Store.dead_letters`."""
        found: list[DeadLetter] = []
        while len(found) < limit:
            since = f"({after}" if after else "-"
            last, *entries = await self._call("letters", since, "+", _PAGE)
            if not last:
                break
            after = last.decode()
            found += [encoding.decode_letter(entry) for entry in entries if not entry[1]]
        return found[:limit]

    async def dead_letter(self, dead_id: str) -> DeadLetter | None:
        """See `Store.dead_letter`."""
        if not _STREAM_ID.fullmatch(dead_id):
            return None
        _, *entries = await self._call("letters", dead_id, dead_id, 1)
        return encoding.decode_letter(entries[0]) if entries else None

    async def depth(self) -> Depth:
        """See `Store.depth`."""
        return Depth(*await self._call("depth"))

    async def audit(self) -> Audit:
        """See `Store.audit`. In pages of 500 runs; on a busy store sums over several pages are left out."""
        ledger = Ledger()
        ledger.take(await self._call("audit", 0))
        while ledger.cursor:
            ledger.take(await self._call("audit", ledger.cursor))
        return ledger.result()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._blocking.aclose()
        await self._client.aclose()


def _ingest_outcome(reply: list[Any]) -> IngestOutcome:
    match reply[0]:
        case b"lost":
            return SessionLost()
        case b"stale":
            return Stale()
        case b"unregistered":
            return Unregistered()
        case _:
            return encoding.decode_ingested(reply)
