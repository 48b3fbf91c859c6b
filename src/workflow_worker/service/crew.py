"""`Crew`: the worker processes of one service, and what happens when one of them ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.vitals import WorkerPhase
from workflow_worker.service.board import Board
from workflow_worker.service.facts import EmitAny, ProcessEnded, ProcessKilled, ProcessStarted, Scaled, SessionClosed
from workflow_worker.service.health import Observed
from workflow_worker.service.process import EXIT_REFUSED, Child, monotonic_ms
from workflow_worker.service.scaling import SlotView, check_count, next_delay, plan

_HURRY_AT = 0.9
"""Share of the grace after which a draining worker is told to hurry; its own grace ends before."""

_KILL_AT = 0.97
"""Share of the grace after which what is left is killed, so that the service itself ends within it."""

_LAST_CLOSE_S = 1.0
"""While the service drains, a dead worker's session is closed in so many seconds or left to the end of its lease."""

_CERTAIN_AFTER_MS = 1_000


@dataclass(slots=True)
class Slot:
    """The place of one worker. `restart_at` is None while only a reload may start one here."""

    number: int
    child: Child | None = None
    starting: bool = False
    delay_ms: int = 0
    restart_at: int | None = 0
    restarts: int = 0
    restarted_at: int | None = None
    vacant_since: int = 0

    @property
    def occupied(self) -> bool:
        """A process is there, or is being started: nobody else may start one here."""
        return self.starting or self.child is not None


class Crew:
    """Keeps as many workers alive as are wanted.

    `start` starts a process for a slot, with a row of the `board`. `close_session` hands the runs of an ended worker's
    session back at once, told whether it died: then each counts a takeover; `on_death` is called for each death that
    nobody planned. With `patient`, a worker that refuses to start (exit code 2) waits for new code instead of ending
    the service.
    """

    def __init__(
        self,
        start: Callable[[int], Awaitable[Child]],
        board: Board,
        emit: EmitAny,
        *,
        wanted: int,
        grace_ms: int,
        stall_limit_ms: int,
        close_session: Callable[[str, bool], Awaitable[bool]],
        on_death: Callable[[], None],
        patient: bool = False,
    ) -> None:
        self._start = start
        self._board = board
        self._emit = emit
        self._wanted = wanted
        self._grace_s = grace_ms / 1000
        self._stall_limit_ms = stall_limit_ms
        self._close_session = close_session
        self._on_death = on_death
        self._patient = patient
        self._slots: dict[int, Slot] = {}
        self._children: dict[int, Child] = {}
        self._changed = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._launching = 0
        self._proven = False
        self._refusal: str | None = None
        self.restarts = 0

    # ------------------------------------------------------------------------------------------------ from any thread

    @property
    def wanted(self) -> int:
        """How many workers there should be; 0 while draining."""
        return self._wanted

    def children(self) -> list[Child]:
        """All worker processes that live, also those that drain."""
        return list(self._children.values())

    def observed(self) -> list[Observed]:
        """What there is to judge: each slot, and while the service drains each process that is left."""
        if not self._wanted:
            return [Observed(child.name, child.signs, child.started_at) for child in self.children()]
        return [
            Observed(
                child.name if (child := slot.child) else f"slot {slot.number}",
                child.signs if child else None,
                child.started_at if child else slot.vacant_since,
                slot.restarted_at,
            )
            for slot in list(self._slots.values())
        ]

    # -------------------------------------------------------------------------------------------------- on the loop

    async def run(self) -> None:
        """Start, restart and stop workers until none is wanted and none is left.

        Raises:
            ConfigurationError: The first workers refused to start; the message is theirs.
        """
        async with self._tasks:
            while self._wanted or self._children or self._launching:
                self._changed.clear()
                now = monotonic_ms()
                views = [SlotView(s.number, s.occupied, s.restart_at) for s in self._slots.values()]
                todo = plan(views, self._wanted, now)
                for number in todo.start:
                    await self._fill(self._slots.setdefault(number, Slot(number)))
                for number in todo.stop:
                    child = self._slots.pop(number).child
                    if child is not None:
                        self._retire(child)
                timeout = None if todo.wake_at is None else max(0.0, (todo.wake_at - now) / 1000)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._changed.wait()
        if self._refusal is not None:
            raise ConfigurationError(self._refusal)

    def scale(self, count: int) -> None:
        """Want so many workers from now on; ignored while draining.

        Raises:
            UsageError: Below 1 or above 256.
        """
        check_count(count)
        if self._wanted and count != self._wanted:
            self._emit(Scaled(self._wanted, count))
            self._wanted = count
            self._changed.set()

    def drain(self) -> None:
        """Want no worker any more."""
        self._wanted = 0
        self._changed.set()

    def hurry(self) -> None:
        """Tell every worker that drains to stop its attempts now."""
        for child in self.children():
            child.drain()

    def kill(self, reason: str) -> None:
        """Kill every worker that is left."""
        for child in self.children():
            self._kill(child, reason)

    async def look(self) -> None:
        """Replace workers whose event loop stands still; to be called about once a second.

        Two looks must agree: after a pause of the whole machine every loop seems to have stood still, until it turns.
        """
        now = monotonic_ms()
        for child in self.children():
            signs = child.signs
            self._proven = self._proven or signs.phase == WorkerPhase.RUNNING
            if not signs.loop_at or now - signs.loop_at <= self._stall_limit_ms:
                child.stalled_at = None
            elif child.stalled_at is None:
                child.stalled_at = now
            elif now - child.stalled_at >= _CERTAIN_AFTER_MS:
                reason = f"its event loop stood still for {(now - signs.loop_at) / 1000:.1f} s (STALL_LIMIT_MS)"
                self._emit(ProcessKilled(child.name, child.pid, reason))
                await child.dump_and_kill()

    async def replace_all(self) -> str | None:
        """Put a new process, with new code, beside one worker; when it takes work, replace all the old ones.

        Returns:
            Why the new code does not start: then all old ones stay. None: all are replaced.
        """
        for slot in [slot for slot in self._slots.values() if not slot.occupied]:
            slot.restart_at = 0
        self._changed.set()
        occupied = [slot for slot in self._slots.values() if slot.child is not None]
        for first in occupied[:1]:
            refusal = await self._replace(first)
            if refusal is not None:
                return refusal
        # The code has proved to start. The other old workers stop taking events at once, so that from now on only new
        # code answers; their own successors follow.
        for slot in occupied[1:]:
            predecessor, slot.child = slot.child, None
            if predecessor is not None:
                self._retire(predecessor)
            if slot.number in self._slots:
                await self._fill(slot)
        return None

    # --------------------------------------------------------------------------------------------------- one worker

    async def _fill(self, slot: Slot) -> None:
        slot.starting = True
        try:
            child = await self._launch(slot)
        except OSError as error:
            slot.delay_ms = next_delay(slot.delay_ms, 0)
            slot.restart_at = monotonic_ms() + slot.delay_ms
            self._emit(ProcessEnded("", slot.number, 0, -1, False, f"cannot be started: {error}", slot.delay_ms))
            return
        finally:
            slot.starting = False
        if slot.restarts:
            slot.restarted_at = child.started_at
        slot.child = child
        self._adopt(slot, child, restart=bool(slot.restarts))
        if self._slots.get(slot.number) is not slot:
            self._retire(child)  # the slot was given up while a reload was filling it

    async def _launch(self, slot: Slot) -> Child:
        """Start a process; while that lasts, `run` does not end."""
        self._launching += 1
        try:
            return await self._start(slot.number)
        finally:
            self._launching -= 1
            self._changed.set()

    def _adopt(self, slot: Slot, child: Child, *, restart: bool) -> None:
        self._children[child.row_number] = child
        self._emit(ProcessStarted(child.name, child.slot, child.pid, restart))
        self._tasks.create_task(self._tend(slot, child))

    async def _tend(self, slot: Slot, child: Child) -> None:
        """Wait for its end, count it out, and have its runs handed back."""
        code = await child.wait()
        session, last = child.row.session, child.signs
        words = child.last_words = child.row.last_words
        self._board.bury(child.row_number)
        del self._children[child.row_number]
        self._proven = self._proven or bool(session)
        if slot.child is child:
            self._vacate(slot, child, refused=code == EXIT_REFUSED and bool(words), killed=code < 0 and bool(session))
        self._report_end(slot, child, code, refused=code == EXIT_REFUSED and bool(words))
        self._changed.set()
        # One that had drained before it ended badly left nothing to blame; a death may exit with 0.
        died = last.phase != WorkerPhase.STOPPED
        if session and (died or code != 0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._wanted else _LAST_CLOSE_S):
                    if await self._close_session(session, died):
                        self._emit(SessionClosed(child.name, session))

    def _report_end(self, slot: Slot, child: Child, code: int, *, refused: bool) -> None:
        if child.on_trial:
            return  # `_replace` says why the new code does not start
        if refused and not self._proven and not self._patient and self._wanted:
            self._refusal = child.last_words
            self.drain()
            return
        delay = slot.delay_ms if not child.retiring and slot.restart_at is not None and self._wanted else 0
        words = child.last_words
        self._emit(ProcessEnded(child.name, child.slot, child.pid, code, child.retiring, words, delay))
        if not child.retiring:
            self._on_death()

    def _vacate(self, slot: Slot, child: Child, *, refused: bool, killed: bool) -> None:
        now = monotonic_ms()
        slot.child = None
        slot.vacant_since = now
        slot.restarts += 1
        self.restarts += 1
        slot.delay_ms = next_delay(slot.delay_ms, now - child.started_at, killed)
        slot.restart_at = None if refused and self._patient else now + slot.delay_ms

    async def _replace(self, slot: Slot) -> str | None:
        try:
            successor = await self._launch(slot)
        except OSError as error:
            return f"cannot be started: {error}"
        successor.on_trial = True
        self._adopt(slot, successor, restart=False)
        try:
            works = await successor.works()
            if works and slot.number in self._slots:
                predecessor, slot.child = slot.child, successor
                slot.delay_ms = 0
                successor.on_trial = False
                if predecessor is not None:
                    self._retire(predecessor)
        finally:
            if successor.on_trial and not successor.ended.is_set():
                self._retire(successor)  # newer code came meanwhile, or the slot has gone
        return None if works else successor.last_words or "the new worker ended before it took work"

    def _retire(self, child: Child) -> None:
        if not child.retiring:
            child.drain()
            self._tasks.create_task(self._usher(child))

    async def _usher(self, child: Child) -> None:
        """Nothing that drains outlives the grace."""
        if await child.ends_within(self._grace_s * _HURRY_AT):
            return
        child.drain()
        if await child.ends_within(self._grace_s * (_KILL_AT - _HURRY_AT)):
            return
        self._kill(child, "it did not end within SHUTDOWN_GRACE_MS")

    def _kill(self, child: Child, reason: str) -> None:
        if not child.ended.is_set():
            self._emit(ProcessKilled(child.name, child.pid, reason))
            child.kill()
