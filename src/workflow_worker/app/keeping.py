"""The keeper of a schedule: one run for each, which starts a run for each of its ticks.

It is a workflow like any other. Ticks are computed in an action, so that time zone data and code may change between two
of them; what was computed is in the history.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from workflow_worker.app.attempt import look_at
from workflow_worker.app.book import Book, Due, Started, TickRun, Tools, first_book
from workflow_worker.model import internal
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import ChildFailed, ContinueAsNew, EventRejected, UsageError
from workflow_worker.model.ids import RunRef, run_ref
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.internal import Origin, encode_origin
from workflow_worker.model.schedules import (
    MAX_QUEUED,
    ScheduleSet,
    ScheduleSpec,
    ScheduleTold,
    TickStart,
    asked_run_id,
    tick_run_id,
)
from workflow_worker.runtime import wf
from workflow_worker.runtime.children import ChildHandle
from workflow_worker.runtime.execution import Execution

HISTORY_KEPT = 1_000
"""A keeper begins a new history after so many records, when no run that it waits for is under way; in any case after
five times as many."""
AT_ONCE = 100
"""Ticks in the answer of one action, and so follow-up events in one commit."""
SENT_FOR_MS = 600_000
"""A run that was started and does not exist is on its way through a backlog, up to so long; then nothing will come."""
TOLD_KEPT = 100
_LONGEST_SLEEP_MS = 86_400_000
"""Time zone data may change while a keeper sleeps: it looks again every day."""
_TROUBLED_SLEEP_MS = 60_000
_LONGEST_POLL_S = 600


async def is_over(ref: str, sent_ms: int, now_ms: int) -> bool:
    """Whether a run has ended, or was never taken in though there was time enough."""
    view = await look_at(RunRef(ref))
    return now_ms - sent_ms > SENT_FOR_MS if view is None else view.status.ended


class ScheduleKeeper:
    """One keeper's life, from its book on."""

    def __init__(self, execution: Execution, book: Book, tools: Tools) -> None:
        self._execution = execution
        self._name = execution.info().id
        self._book = book
        self._tools = tools
        self._stale = True
        self._looks = 0
        self._child: asyncio.Task[None] | None = None
        self._mail = self._listen()

    async def run(self) -> None:
        """Keep the schedule until it is deleted.

        Raises:
            ContinueAsNew: The history has become long.
        """
        while True:
            self._cut()
            fresh = await self._plan()
            if self._mail.done():
                if self._told():
                    return
                fresh += await self._plan()
            await self._start(fresh)
            self._show()
            await self._wake()

    # ------------------------------------------------------------------------------------------------------- planning

    async def _plan(self) -> list[Due]:
        """The ticks whose time has come, where any can have."""
        book, now = self._book, self._execution.now_ms
        found: list[Due] = []
        if book.paused:
            book.after_ms = now
        if self._stale or self._is_due:
            self._stale = False
            oldest = now - book.spec.catch_up_ms
            plan = await self._tools.plan(self._name, book.spec, book.after_ms, now, oldest)
            book.problem, book.next_ms = plan.problem, plan.next_ms
            if not plan.problem:
                book.after_ms = plan.until_ms
                book.missed += plan.missed
                found += [Due(tick_run_id(self._name, at), at) for at in plan.due]
        await self._backfill()
        return found

    @property
    def _is_due(self) -> bool:
        """Whether a tick has come, or more than one action answers with have."""
        book = self._book
        return book.next_ms is not None and book.next_ms <= self._execution.now_ms and not book.paused

    async def _backfill(self) -> None:
        """Some more ticks of spans that a person wants to see made; they queue like what a person asks for."""
        book = self._book
        if not self._has_room_for_backfill:
            return
        since, until = book.backfills[0]
        plan = await self._tools.plan(self._name, book.spec, since - 1, until, 0)
        if plan.problem:
            book.problem = plan.problem
            return
        waiting = {due.run_id for due in book.queue}
        for at in plan.due:
            due = Due(tick_run_id(self._name, at), at, asked=True)
            if due.run_id not in waiting:
                book.queue.append(due)
        rest = [(plan.until_ms + 1, until)] if plan.until_ms < until else []
        book.backfills = [*rest, *book.backfills[1:]]

    @property
    def _has_room_for_backfill(self) -> bool:
        book = self._book
        return bool(book.backfills) and not book.problem and len(book.queue) <= MAX_QUEUED - AT_ONCE

    # ------------------------------------------------------------------------------------------------------- starting

    async def _start(self, fresh: list[Due]) -> None:
        book, free = self._book, True
        for due in fresh:
            match book.spec.overlap:
                case "allow":
                    self._send(due)
                case "queue":
                    self._ask(due)
                case "skip":
                    free = free and not book.queue and await self._is_free()
                    if free:
                        self._send(due)
                    else:
                        book.skipped += 1
        while (waiting := self._next_in_queue()) is not None:
            if book.spec.overlap != "allow" and not await self._is_free():
                return
            book.queue.remove(waiting)
            self._send(waiting)

    def _next_in_queue(self) -> Due | None:
        """A paused schedule starts only what a person asked for, one with a problem nothing."""
        if self._book.problem:
            return None
        return next((due for due in self._book.queue if due.asked or not self._book.paused), None)

    async def _is_free(self) -> bool:
        """Whether no run is under way that the next one must wait for.

        A run tells its end, but not one that had ended before it was sent for, or whose end came while the keeper began
        a new history: so the store is asked too.
        """
        running = self._book.running
        if running is None:
            return True
        self._looks += 1
        ref = run_ref(self._book.spec.workflow, running.run_id)
        if not await self._tools.is_over(ref, running.sent_ms, self._execution.now_ms):
            return False
        self._book.running = self._child = None
        return True

    def _send(self, due: Due) -> None:
        book, letters = self._book, self._execution.letters
        book.started += 1
        if not due.asked:
            book.last_ms = due.at_ms
        start = TickStart(due.at_ms, self._name, book.spec.input)
        if book.spec.overlap == "allow":
            ref = run_ref(book.spec.workflow, due.run_id)
            event = Event(
                "", internal.TICK, book.spec.subject, msgspec.json.encode(start), origin=encode_origin(Origin(ref))
            )
            letters.outbox.post(event, workflow=book.spec.workflow, run=due.run_id)
            return
        run = TickRun(book.spec.workflow, self._execution.events, book.spec.subject, start)
        call = letters.children.start(run, (), {}, id=due.run_id, detached=True, by=internal.TICK)
        book.running = Started(due.run_id, self._execution.now_ms)
        self._child = asyncio.ensure_future(_end_of(ChildHandle(call)))
        self._looks = 0

    # ------------------------------------------------------------------------------------------------------ listening

    def _listen(self) -> asyncio.Task[ScheduleSet | ScheduleTold]:
        return asyncio.ensure_future(wf.wait_for((ScheduleSet, ScheduleTold)))

    def _told(self) -> bool:
        """Do what the oldest mail says; whether it was to end."""
        mail, self._mail, book = self._mail, self._listen(), self._book
        try:
            message = mail.result()
        except EventRejected:
            return False  # recorded by another release, which knew how to read it
        if isinstance(message, ScheduleSet):
            self._set(message.spec)
            return False
        if message.id and message.id in book.told:
            return False
        book.told = [*book.told[1 - TOLD_KEPT :], message.id]
        match message.kind:
            case "pause":
                book.paused = True
            case "resume":
                if book.paused:
                    book.paused, book.after_ms, self._stale = False, self._execution.now_ms, True
            case "run":
                self._ask(Due(asked_run_id(self._name, message.at_ms), message.at_ms, asked=True))
            case "backfill":
                book.backfills.append((message.since_ms, message.until_ms))
            case "delete":
                wf.state(deleted=True, next=None)
                return True
        return False

    def _ask(self, due: Due) -> None:
        """Put a run in the queue, where there is room."""
        if len(self._book.queue) < MAX_QUEUED:
            self._book.queue.append(due)
        else:
            self._book.skipped += 1

    def _set(self, spec: ScheduleSpec) -> None:
        """The schedule may have changed. What was due by the old one has been planned already."""
        book = self._book
        if spec == book.spec:
            return
        if (spec.cron, spec.timezone) != (book.spec.cron, book.spec.timezone):
            book.after_ms = self._execution.now_ms
        if spec.workflow != book.spec.workflow:
            book.running = self._child = None
        book.spec, book.revision, self._stale = spec, book.revision + 1, True

    # -------------------------------------------------------------------------------------------------------- waiting

    async def _wake(self) -> None:
        """Sleep until a tick is due, mail comes, or the run under way ends and another waits for that."""
        if self._has_room_for_backfill or self._is_due:
            return
        book, now = self._book, self._execution.now_ms
        waits: list[asyncio.Task[Any]] = [self._mail]
        until = now + (_TROUBLED_SLEEP_MS if book.problem else _LONGEST_SLEEP_MS)
        if book.next_ms is not None and not book.paused:
            until = min(until, book.next_ms)
        if self._child is not None:
            waits.append(self._child)
        if self._next_in_queue() is not None:
            until = min(until, now + 1000 * min(4**self._looks, _LONGEST_POLL_S))
        done, _ = await asyncio.wait(waits, timeout=max(0, until - now) / 1000, return_when=asyncio.FIRST_COMPLETED)
        if self._child is not None and self._child.done():
            book.running = self._child = None
        if not done and until != book.next_ms and self._next_in_queue() is None:
            self._stale = True  # a day has passed, or a problem may be gone

    def _cut(self) -> None:
        """Begin a new history where this one is long; mail that nobody took comes along."""
        records = self._execution.info().records
        if self._mail.done() or records < HISTORY_KEPT:
            return
        if self._book.running is None or records > 5 * HISTORY_KEPT:
            raise ContinueAsNew(msgspec.json.encode(self._book))

    def _show(self) -> None:
        book, spec = self._book, self._book.spec
        wf.state(
            workflow=spec.workflow,
            cron=spec.cron,
            timezone=spec.timezone,
            overlap=spec.overlap,
            catch_up_s=spec.catch_up_ms / 1000,
            declared=spec.declared,
            paused=book.paused,
            next=None if book.next_ms is None or book.paused else iso_ms(book.next_ms),
            last=None if book.last_ms is None else iso_ms(book.last_ms),
            running=None if book.running is None else book.running.run_id,
            queued=len(book.queue),
            started=book.started,
            skipped=book.skipped,
            missed=book.missed,
            problem=book.problem,
            mark=spec.mark,
            revision=book.revision,
        )


async def _end_of(child: ChildHandle[bytes]) -> None:
    try:
        await child
    except ChildFailed:
        return  # how a run ended is its own affair


async def keep_schedule(execution: Execution | None, event: Event, tools: Tools) -> None:
    """The keeper's whole life.

    Raises:
        UsageError: Called outside a run.
    """
    if execution is None:
        raise UsageError("the keeper of a schedule runs in a worker")
    await ScheduleKeeper(execution, first_book(event, execution.now_ms), tools).run()
