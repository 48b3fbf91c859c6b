"""``workflow-worker runs``: start a run, list runs, show one with its history, cancel or resume it."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected, operator
from workflow_worker.cli.input import read_data
from workflow_worker.cli.options import ByOption, JsonOption, read_settings
from workflow_worker.cli.output import Listing, counted, print_json, say, status_style, to_json
from workflow_worker.client.client import Client
from workflow_worker.client.documents import author_line, decoded, run_details, run_document, run_failure, shown_state
from workflow_worker.client.handle import RunHandle
from workflow_worker.client.outgoing import started_by_input
from workflow_worker.client.standing import standing
from workflow_worker.client.timeline import Moment, moments, span, timeline_lines
from workflow_worker.model.exceptions import NotFound, Refused
from workflow_worker.model.ids import RunRef
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import RunQuery

_PAGE = 200
_TAKEN_IN_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.05
_CLOCKS_DIFFER_MS = 60_000

runs = typer.Typer(no_args_is_help=True, help="Start runs, look at them, cancel or resume them.")

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The run's id, such as order-o-1, with or without its workflow (fulfil:order-o-1)."
    ),
]


@runs.command("list")
def list_runs(
    status: Annotated[RunStatus | None, typer.Option(help="Only runs in this status.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="W", help="Only runs of this workflow.")] = None,
    subject: Annotated[str | None, typer.Option(metavar="S", help="Only runs about this subject.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most this many.")] = 100,
    after: Annotated[
        str, typer.Option(metavar="RUN", help="Continue after this run; `next` of a --json list names it.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """List runs, newest first.

    `next` of the JSON is what --after takes for the next page; null at the end.

    \b
    workflow-worker runs list --status suspended
    workflow-worker runs list --workflow fulfil --subject o-1 --json
    """
    query = RunQuery(status=status, workflow=workflow, subject=subject, limit=limit)

    async def look() -> None:
        async with connected(read_settings()) as client:
            seen = (await client.run(after)).ref if after else ""
            await _list(client, replace(query, after=seen), json)

    asyncio.run(look())


async def _list(client: Client, query: RunQuery, json: bool) -> None:
    """Write the runs page by page: there may be more of them than memory."""
    columns = ("ID", "WORKFLOW", "STATUS", "SUBJECT", "STARTED", "UPDATED", "ATTEMPTS", "TAKEOVERS")
    listing, left, total = Listing(columns, json=json), query.limit, 0
    while True:
        wanted = min(_PAGE, left)
        page = await client.runs(replace(query, limit=wanted))
        total = total or page.total
        listing.add([_row(run) for run in page.items], [run_document(run) for run in page.items])
        left -= len(page.items)
        if left <= 0 or len(page.items) < wanted:
            break
        query = replace(query, after=page.items[-1].ref)
    more = left <= 0 and len((await client.runs(replace(query, limit=1, after=page.items[-1].ref))).items) > 0
    listing.end(total, page.items[-1].ref if more else None)


def _row(run: RunView) -> tuple[str, ...]:
    workflow = f"{run.workflow}@{run.version}"
    started, updated = iso_ms(run.started_at), iso_ms(run.updated_at)
    return (
        run.id, workflow, run.status.value, run.subject or "-", started, updated, str(run.attempts), str(run.takeovers)
    )  # fmt: skip


@runs.command()
def start(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's name.")],
    data: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            help="Its arguments by name; of a workflow with `on=` its event. JSON, @FILE for a file, - for stdin.",
        ),
    ] = "{}",
    run_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The run's id: only one run has it. Default: a new one.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="S", help="The business key the run is about, such as o-1.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start a run of a workflow by its name.

    Also of a workflow that no event starts.

    \b
    workflow-worker runs start ship --id ship-o-1 --data '{"order_id": "o-1", "box": 2}'
    """
    settings, given = read_settings(), read_data(data)
    chosen = run_id or uuid.uuid4().hex

    async def act() -> None:
        async with connected(settings, start=True) as client:
            asked_ms = _now_ms()
            handle = await client.start(workflow, started_by_input(workflow, given, subject), id=chosen)
            begun = await _begun(client, handle, asked_ms)
        if json:
            document = {"id": handle.id, "workflow": workflow, "operation": "start", "existed": handle.existed}
            print_json(document)
        else:
            say(f"{handle.ref} {begun}")

    asyncio.run(act())


async def _begun(client: Client, handle: RunHandle, asked_ms: int) -> str:
    """What became of a start. The name may be misspelt and the input may not fit: then there is a dead letter, no run.

    Raises:
        Refused: A dead letter is all that became of it.
    """
    if handle.existed:
        return "was started before: nothing added"
    deadline = time.monotonic() + _TAKEN_IN_WITHIN_S
    while time.monotonic() < deadline:
        if await handle.view() is not None:
            return "is started"
        for letter in await client.dead_letters(_PAGE, f"{asked_ms - _CLOCKS_DIFFER_MS}-0"):
            if letter.field("id") == f"start:{handle.ref}":
                advice = ": say --subject" if letter.reason == "subject missing" else ""
                raise Refused(f"{handle.ref} is not started, see `dead show {letter.id}`: {letter.reason}{advice}")
        await asyncio.sleep(_LOOK_EVERY_S)
    return "is asked for; no worker has taken it in yet: is a service running?"


@runs.command()
def show(run_id: RunArgument, json: JsonOption = False) -> None:
    """Show a run and its timeline.

    What happened when, which attempts failed and why, and what the run waits for now.

    \b
    workflow-worker runs show order-o-1
    """

    async def look() -> None:
        async with connected(read_settings()) as client:
            run = await _find(client, run_id)
            history = await client.history(run.ref)
        if json:
            print_json(run_details(run, history, _now_ms()))
        else:
            print_run(run, history)

    asyncio.run(look())


async def _find(client: Client, run_id: str) -> RunView:
    """The run; where there is none, whether its event may still wait to be taken in, or be a dead letter."""
    try:
        return await client.run(run_id)
    except NotFound as error:
        depth = await client.depth()
        hints: list[str] = []
        if depth.events:
            events = "1 event waits" if depth.events == 1 else f"{depth.events:,} events wait"
            hints.append(f"{events} in the stream: is a service running?")
        if depth.dead:
            hints.append(f"{counted(depth.dead, 'dead letter')}, see `workflow-worker dead list`")
        if not hints:
            raise
        raise NotFound("; ".join((str(error), *hints))) from error


@runs.command()
def export(run_id: RunArgument) -> None:
    """Write a run's history as JSON lines, for replay in a test.

    A test can replay it against newer code: see docs/how-to/testing.md. It contains the payloads of the run's events
    and actions.

    \b
    workflow-worker runs export order-o-1 > histories/order-o-1.jsonl
    """
    from workflow_worker.testing.histories import recorded_run, to_lines  # noqa: PLC0415 - this command alone needs it

    async def look() -> None:
        async with connected(read_settings()) as client:
            ref = RunRef((await _find(client, run_id)).ref)
            recorded = await client.recorded(ref)
        sys.stdout.write(to_lines(recorded_run(ref, recorded)))

    asyncio.run(look())


@runs.command()
def cancel(
    run_id: RunArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the run's history.")] = "",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a run to end.

    It gets asyncio.CancelledError where it waits, and may still clean up. A suspended run continues, in order to end.

    \b
    workflow-worker runs cancel order-o-1 --reason "ordered twice"
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            ref = await client.cancel(run_id, by=by or operator(), reason=reason)
        _report(ref, "cancel", "asked to end", json)

    asyncio.run(act())


@runs.command()
def resume(
    run_id: RunArgument,
    note: Annotated[str, typer.Option(metavar="TEXT", help="What was done about it; kept in the run's history.")] = "",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Let a suspended run continue.

    The step that failed is tried again; earlier steps are not repeated.

    \b
    workflow-worker runs list --status suspended
    workflow-worker runs resume order-o-1 --note "card service is back"
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            ref = await client.resume(run_id, by=by or operator(), note=note)
        _report(ref, "resume", "goes on", json)

    asyncio.run(act())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _report(ref: str, operation: str, done: str, json: bool) -> None:
    if json:
        workflow, _, run_id = ref.partition(":")
        print_json({"id": run_id, "workflow": workflow, "operation": operation, "outcome": "ok"})
    else:
        say(f"{ref} {done}")


def print_run(run: RunView, history: list[bytes], extra: Sequence[Moment] = ()) -> None:
    """Write a run and its timeline for a person; `extra` are moments that are not in the history."""
    took = span(max(0, run.updated_at - run.started_at))
    say(f"{run.id}  {run.workflow}@{run.version}  {run.status.value}", style=f"bold {status_style(run.status.value)}")
    say(f"  subject    {run.subject or '-'}")
    say(f"  started    {iso_ms(run.started_at)}")
    say(f"  updated    {iso_ms(run.updated_at)} ({took} later)")
    say(f"  attempts   {run.attempts}")
    takeovers = f"{run.takeovers} (so often a worker died or lost the run, and another went on)"
    say(f"  takeovers  {takeovers if run.takeovers else '0'}")
    say(f"  held by    {run.owner or 'nobody'}, fencing token {run.token}")
    for name, value in (("state", shown_state(run)), ("result", decoded(run.result)), ("error", run_failure(run))):
        if value is not None:
            text = str(value) if name == "error" else " ".join(to_json(value).split())
            say(f"  {name:<9}  {text}", style="red" if name == "error" else "")
    place = None if run.error is None else author_line(run)
    if place is not None:
        say(f"  {'at':<9}  {place}")
    for number, line in enumerate(standing(run, history, _now_ms())):
        say(f"  {'' if number else 'now':<9}  {line}", style=status_style(run.status.value))
    say()
    timeline = sorted([*moments(history), *extra], key=lambda moment: moment.at)
    for line in timeline_lines(run.started_at, timeline):
        say(line)
