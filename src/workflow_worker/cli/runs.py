"""``workflow-worker runs``: list runs, show one with its history, cancel or resume it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected, operator
from workflow_worker.cli.options import ByOption, JsonOption, read_settings
from workflow_worker.cli.output import Listing, print_json, say, status_style, to_json
from workflow_worker.client.client import Client
from workflow_worker.client.documents import author_line, decoded, run_details, run_document, run_failure, shown_state
from workflow_worker.client.standing import standing
from workflow_worker.client.timeline import Moment, moments, span, timeline_lines
from workflow_worker.model.exceptions import NotFound
from workflow_worker.model.ids import RunRef
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import RunQuery

_PAGE = 200

runs = typer.Typer(no_args_is_help=True, help="Look at runs, cancel them, let suspended ones go on.")

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
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many.")] = 100,
    after: Annotated[
        str, typer.Option(metavar="RUN", help="Go on behind this run, as `next` of a --json list names it.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """List runs, the newest first; the JSON's `next` is for --after, null at the end.

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
def show(run_id: RunArgument, json: JsonOption = False) -> None:
    """Show a run and its history as a timeline: what happened when, which attempts failed and why.

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
    """The run; where there is none, whether its event may still wait for somebody to take it in."""
    try:
        return await client.run(run_id)
    except NotFound as error:
        waiting = (await client.depth()).events
        if not waiting:
            raise
        events = "1 event waits" if waiting == 1 else f"{waiting:,} events wait"
        raise NotFound(f"{error}; {events} in the stream: is a service running?") from error


@runs.command()
def export(run_id: RunArgument) -> None:
    """Write a run's history as JSON lines: a test replays it against newer code, see docs/how-to/testing.md.

    It has the payloads of the run's events and actions in it.

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
    """Ask a run to end: it gets asyncio.CancelledError where it waits, and may still clean up.

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
    note: Annotated[str, typer.Option(metavar="TEXT", help="What was done about it; kept in the history.")] = "",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Let a suspended run go on: the step that failed is tried again.

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
