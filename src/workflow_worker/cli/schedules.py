"""``workflow-worker schedules``: list and show schedules, set one, pause, resume, run, backfill, delete it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
import typer

from workflow_worker.cli.connect import connected, operator
from workflow_worker.cli.options import ByOption, JsonOption, read_settings
from workflow_worker.cli.output import Listing, print_json, say
from workflow_worker.client.schedules import ScheduleHandle, ScheduleView
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.schedules import Overlap

schedules = typer.Typer(no_args_is_help=True, help="Look at schedules, change, pause and run them.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The schedule's name; a declared one is named after its workflow.")
]
_COLUMNS = ("NAME", "WORKFLOW", "CRON", "TIMEZONE", "STATUS", "NEXT", "LAST", "STARTED", "SKIPPED", "MISSED")


@schedules.command("list")
def list_schedules(json: JsonOption = False) -> None:
    """List all schedules, by name.

    \b
    workflow-worker schedules list
    """

    async def look() -> None:
        async with connected(read_settings()) as client:
            found = await client.schedules()
        listing = Listing(_COLUMNS, json=json)
        listing.add([_row(view) for view in found], [_document(view) for view in found])
        listing.end(len(found))

    asyncio.run(look())


@schedules.command()
def show(name: NameArgument, json: JsonOption = False) -> None:
    """Show one schedule.

    \b
    workflow-worker schedules show report
    """

    async def look() -> None:
        async with connected(read_settings()) as client:
            view = await client.schedule_handle(name).view()
        if json:
            print_json(_document(view))
            return
        for field, value in _document(view).items():
            say(f"{field:<10} {'-' if value in (None, '') else value}")

    asyncio.run(look())


@schedules.command("set")
def set_schedule(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow to start.")],
    cron: Annotated[str, typer.Argument(metavar="CRON", help="Such as '*/5 * * * *'; six fields begin with seconds.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The schedule's name. Default: the workflow's name.")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Such as Europe/Berlin.")] = "UTC",
    overlap: Annotated[str, typer.Option(metavar="HOW", help="skip, queue or allow.")] = "skip",
    catch_up: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How late a run may start.")] = 60,
    input: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The workflow's event, or its arguments by name."),
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="S", help="The business key the runs are about.")] = None,
    by: ByOption = None,
) -> None:
    """Create a schedule, or change it.

    \b
    workflow-worker schedules set report "0 7 * * 1-5" --timezone Europe/Berlin
    """

    async def act() -> None:
        async with connected(read_settings(), start=True) as client:
            handle = await client.schedule(
                workflow,
                cron=cron,
                name=name,
                timezone=timezone,
                overlap=cast("Overlap", overlap),
                catch_up=catch_up,
                input=_read_json(input),
                subject=subject,
                by=by or operator(),
            )
        say(f"{handle.name} is set; `workflow-worker schedules show {handle.name}` says when it comes next")

    asyncio.run(act())


@schedules.command()
def pause(name: NameArgument, by: ByOption = None) -> None:
    """Pause a schedule: no more ticks until it is resumed.

    \b
    workflow-worker schedules pause report
    """
    _tell(name, lambda handle: handle.pause(by=by or operator()), "is paused")


@schedules.command()
def resume(name: NameArgument, by: ByOption = None) -> None:
    """Resume a paused schedule, with its next tick.

    \b
    workflow-worker schedules resume report
    """
    _tell(name, lambda handle: handle.resume(by=by or operator()), "goes on")


@schedules.command()
def run(name: NameArgument, by: ByOption = None) -> None:
    """Start a run of a schedule now.

    Unless runs may overlap, it waits for the one in progress.

    \b
    workflow-worker schedules run report
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            started = await client.schedule_handle(name).run_now(by=by or operator())
        say(f"{started.ref} is asked for")

    asyncio.run(act())


@schedules.command()
def backfill(
    name: NameArgument,
    since: Annotated[str, typer.Option(metavar="INSTANT", help="ISO 8601, UTC unless it has an offset; included.")],
    until: Annotated[str, typer.Option(metavar="INSTANT", help="The end of the period, likewise; included.")],
    by: ByOption = None,
) -> None:
    """Start the runs of past ticks.

    Only ticks of the given period that have no run yet.

    \b
    workflow-worker schedules backfill report --since 2026-11-01 --until 2026-11-08T12:00Z
    """
    span = _instant(since), _instant(until)

    async def act() -> None:
        async with connected(read_settings()) as client:
            count = await client.schedule_handle(name).backfill(*span, by=by or operator())
        say(f"{count} ticks of {name} are asked for" if count != 1 else f"1 tick of {name} is asked for")

    asyncio.run(act())


@schedules.command()
def delete(name: NameArgument, by: ByOption = None) -> None:
    """Delete a schedule.

    Its runs in progress continue. One that the app declares comes back when the next worker starts: pause it instead.

    \b
    workflow-worker schedules delete report
    """
    _tell(name, lambda handle: handle.delete(by=by or operator()), "is deleted")


def _tell(name: str, message: Callable[[ScheduleHandle], Awaitable[None]], done: str) -> None:
    async def act() -> None:
        async with connected(read_settings()) as client:
            await message(client.schedule_handle(name))
        say(f"{name} {done}, as soon as a worker takes it in")

    asyncio.run(act())


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no instant: write 2026-11-25T06:00Z") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _read_json(text: str | None) -> object:
    try:
        return None if text is None else msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"--input is not JSON: {error}") from error


def _document(view: ScheduleView) -> dict[str, Any]:
    return {
        "name": view.name,
        "workflow": view.workflow,
        "cron": view.cron,
        "timezone": view.timezone,
        "overlap": view.overlap,
        "catch_up_s": view.catch_up.total_seconds(),
        "declared": view.declared,
        "status": _status(view),
        "next": _text(view.next),
        "last": _text(view.last),
        "running": view.running,
        "queued": view.queued,
        "started": view.started,
        "skipped": view.skipped,
        "missed": view.missed,
        "problem": view.problem,
    }


def _row(view: ScheduleView) -> tuple[str, ...]:
    counts = str(view.started), str(view.skipped), str(view.missed)
    times = _text(view.next) or "-", _text(view.last) or "-"
    return (view.name, view.workflow, view.cron, view.timezone, _status(view), *times, *counts)


def _status(view: ScheduleView) -> str:
    if view.problem:
        return "failed"
    return "paused" if view.paused else "ok"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
