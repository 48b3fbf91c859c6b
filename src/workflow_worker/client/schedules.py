"""Schedules as a person or a program handles them: look, set, pause, resume, run now, backfill, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast, get_args

import msgspec

from workflow_worker.app.cron import find_ticks
from workflow_worker.app.events import MARK
from workflow_worker.app.schedules import check_spec
from workflow_worker.client.declaring import set_event, state_of
from workflow_worker.client.handle import RunHandle
from workflow_worker.client.operations import Operations
from workflow_worker.client.outgoing import definition_of, workflow_name
from workflow_worker.model.codec import encode_json
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import NotFound, Refused, UsageError
from workflow_worker.model.ids import check_name, run_ref
from workflow_worker.model.instants import iso_ms, to_ms
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.schedules import (
    CATCH_UP_MS,
    KEEPER_WORKFLOW,
    MAX_BACKFILL,
    TOLD,
    Overlap,
    ScheduleSpec,
    ScheduleTold,
    asked_run_id,
)
from workflow_worker.store.transitions import Publish, Published, RunPage, RunQuery

_PAGE = 200
Send = Callable[[list[Publish]], Awaitable[list[Published]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """Where a schedule stands. `next` and `last` are its ticks in UTC, None if there is none; `started`, `skipped` and
    `missed` count; `queued` wait for `running`, the run under way; a `problem` says why nothing is started."""

    name: str
    workflow: str
    cron: str
    timezone: str
    overlap: str
    catch_up: timedelta
    declared: bool
    paused: bool
    next: datetime | None
    last: datetime | None
    running: str | None
    queued: int
    started: int
    skipped: int
    missed: int
    problem: str


class Schedules:
    """All schedules of a namespace; each is kept by a run of its own."""

    def __init__(self, operations: Operations, send: Send) -> None:
        self._operations = operations
        self._send = send

    async def all(self) -> list[ScheduleView]:
        """Those that are not deleted, by name."""
        found: list[RunView] = []
        query = RunQuery(workflow=KEEPER_WORKFLOW, limit=_PAGE)
        while True:
            page = await self._page(query)
            found += page.items
            if len(page.items) < _PAGE:
                break
            query = replace(query, after=page.items[-1].ref)
        return sorted((_view_of(run) for run in found if not run.status.ended), key=lambda view: view.name)

    async def _page(self, query: RunQuery) -> RunPage:
        return await self._operations.patience.call(lambda: self._operations.store.runs(query))

    async def set(
        self,
        workflow: object,
        *,
        cron: str,
        name: str | None = None,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: float | timedelta = CATCH_UP_MS / 1000,
        input: object = None,
        subject: str | None = None,
        by: str = "client",
    ) -> ScheduleHandle:
        """See `Client.schedule`."""
        if overlap not in get_args(Overlap):
            raise UsageError(f"overlap={overlap!r} is not usable: {', '.join(map(repr, get_args(Overlap)))}")
        target = workflow_name(workflow)
        definition = definition_of(type(input)) if hasattr(type(input), MARK) else None
        data = encode_json(input) if definition is None else definition.encode(input)
        spec = ScheduleSpec(
            workflow=target,
            cron=cron,
            timezone=timezone,
            overlap=overlap,
            catch_up_ms=to_ms(catch_up),
            input=msgspec.json.decode(data),
            subject=subject or (None if definition is None else definition.subject_of(input)),
        )
        chosen = target if name is None else name
        check_spec(chosen, spec)
        found = await self._find(chosen)
        if found is not None and not found.status.ended and state_of(found).get("declared"):
            raise Refused(
                f"schedule {chosen} is declared in the code of {target!r}, which would set it back: change it there, or"
                " give this one another name"
            )
        await self._operations.note(by, "set schedule", chosen, f"{target}: {cron} {timezone}")
        await self._send([set_event(chosen, spec, self._new_id())])
        return self.handle(chosen)

    def handle(self, name: str) -> ScheduleHandle:
        """One schedule, which need not exist yet.

        Raises:
            UsageError: The name is not usable.
        """
        return ScheduleHandle(check_name("schedule", name), self)

    async def view(self, name: str) -> ScheduleView:
        """Where one stands.

        Raises:
            NotFound: There is none, or a worker has yet to take it in.
        """
        found = await self._find(name)
        if found is None or found.status.ended:
            raise _no_schedule(name)
        if not state_of(found):
            raise NotFound(f"schedule {name} has not begun yet: is a service running?")
        return _view_of(found)

    async def tell(self, name: str, message: ScheduleTold) -> None:
        """Send a message to the keeper of a schedule, under its id if it has one, and write down who asked.

        The line of the operator log comes first: an error behind it is told, and repeating is harmless.

        Raises:
            NotFound: There is none, or a worker has yet to take it in.
            Refused: Its keeper is suspended.
        """
        found = await self._find(name)
        if found is None or found.status.ended:
            raise _no_schedule(name)
        if found.status is RunStatus.SUSPENDED:
            raise Refused(
                f"run {found.ref}, which keeps the schedule, is suspended: `workflow-worker runs show` says why"
            )
        message = msgspec.structs.replace(message, id=message.id or self._new_id())
        await self._operations.note(message.by, f"{message.kind} schedule", name, _details(name, message))
        event = Event(f"schedule:{name}:{message.id}", TOLD, data=msgspec.json.encode(message))
        await self._send([Publish(event, workflow=KEEPER_WORKFLOW, run=name)])

    def now_ms(self) -> int:
        """The time of this machine."""
        return self._operations.patience.environment.now_ms()

    def run_handle(self, workflow: str, run_id: str) -> RunHandle:
        """A run that a schedule starts."""
        return RunHandle(run_ref(workflow, run_id), self._operations)

    async def _find(self, name: str) -> RunView | None:
        ref = run_ref(KEEPER_WORKFLOW, name)
        return await self._operations.patience.call(lambda: self._operations.store.run(ref))

    def _new_id(self) -> str:
        return self._operations.patience.environment.new_id()


@dataclass(frozen=True, slots=True)
class ScheduleHandle:
    """One schedule by its name. What it is told takes effect when a worker has taken it in; `id` of a request: told
    again under it, it acts once."""

    name: str
    schedules: Schedules

    async def view(self) -> ScheduleView:
        """Where it stands.

        Raises:
            NotFound: There is none, or a worker has yet to take it in.
        """
        return await self.schedules.view(self.name)

    async def pause(self, *, by: str = "client", id: str = "") -> None:
        """Make no more ticks until it is resumed; runs under way go on.

        Raises:
            NotFound: There is no such schedule.
        """
        await self.schedules.tell(self.name, ScheduleTold(kind="pause", by=by, id=id))

    async def resume(self, *, by: str = "client", id: str = "") -> None:
        """Go on with the next tick; those of the pause are not made (`backfill` makes them).

        Raises:
            NotFound: There is no such schedule.
        """
        await self.schedules.tell(self.name, ScheduleTold(kind="resume", by=by, id=id))

    async def run_now(self, *, by: str = "client", id: str = "") -> RunHandle:
        """Start a run besides the ticks, also while paused; unless runs may overlap, it waits for the one under way.

        Raises:
            NotFound: There is no such schedule.
        """
        view, at = await self.view(), self.schedules.now_ms()
        await self.schedules.tell(self.name, ScheduleTold(kind="run", at_ms=at, by=by, id=id))
        return self.schedules.run_handle(view.workflow, asked_run_id(self.name, at))

    async def backfill(self, since: datetime, until: datetime, *, by: str = "client", id: str = "") -> int:
        """Start the runs of the ticks in a span, both ends included; a tick whose run exists has had it.

        Returns:
            How many ticks there are.

        Raises:
            NotFound: There is no such schedule.
            UsageError: An instant has no time zone, the span ends before it begins, or lies in the future, or has more
                than 10,000 ticks.
        """
        if since.tzinfo is None or until.tzinfo is None:
            raise UsageError("backfill needs instants with a time zone, such as datetime(2026, 11, 25, tzinfo=UTC)")
        # Rounded down: a span that ends now does not end in the future.
        since_ms, until_ms = int(since.timestamp() * 1000), int(until.timestamp() * 1000)
        if since_ms > until_ms:
            raise UsageError(f"backfill from {since} to {until}: the span ends before it begins")
        if until_ms > self.schedules.now_ms():
            raise UsageError(f"backfill until {until}: the span lies in the future")
        view = await self.view()
        count = len(find_ticks(view.cron, view.timezone, since_ms - 1, until_ms, 0, MAX_BACKFILL + 1).due)
        if count > MAX_BACKFILL:
            raise UsageError(
                f"backfill from {since} to {until} has more than {MAX_BACKFILL} ticks: take a shorter span"
            )
        if count:
            message = ScheduleTold(kind="backfill", since_ms=since_ms, until_ms=until_ms, by=by, id=id)
            await self.schedules.tell(self.name, message)
        return count

    async def delete(self, *, by: str = "client", id: str = "") -> None:
        """End it; runs under way go on. One that the code declares comes back with the next start of a worker.

        Raises:
            NotFound: There is no such schedule.
        """
        await self.schedules.tell(self.name, ScheduleTold(kind="delete", by=by, id=id))


def _details(name: str, message: ScheduleTold) -> str:
    """What a line of the operator log says besides."""
    match message.kind:
        case "run":
            return asked_run_id(name, message.at_ms)
        case "backfill":
            return f"{iso_ms(message.since_ms)} to {iso_ms(message.until_ms)}"
        case _:
            return ""


def _view_of(keeper: RunView) -> ScheduleView:
    """A keeper that has not begun has published nothing yet."""
    state = state_of(keeper)
    problem = str(state.get("problem", ""))
    if keeper.status is RunStatus.SUSPENDED:
        problem = f"run {keeper.ref}, which keeps it, is suspended"
    return ScheduleView(
        name=keeper.id,
        workflow=str(state.get("workflow", "")),
        cron=str(state.get("cron", "")),
        timezone=str(state.get("timezone", "")),
        overlap=str(state.get("overlap", "")),
        catch_up=timedelta(seconds=state.get("catch_up_s", 0)),
        declared=bool(state.get("declared", False)),
        paused=bool(state.get("paused", False)),
        next=_instant(state.get("next")),
        last=_instant(state.get("last")),
        running=cast("str | None", state.get("running")),
        queued=int(state.get("queued", 0)),
        started=int(state.get("started", 0)),
        skipped=int(state.get("skipped", 0)),
        missed=int(state.get("missed", 0)),
        problem=problem,
    )


def _instant(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _no_schedule(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name}: `workflow-worker schedules list` shows those there are")
