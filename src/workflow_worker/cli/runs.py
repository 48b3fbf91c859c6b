"""``workflow-worker runs``: list runs, show one with its history, cancel or resume it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected, operator
from workflow_worker.cli.documents import decoded, run_details, run_document, run_failure
from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import page, print_json, say, status_style, table, to_json
from workflow_worker.cli.timeline import Moment, moments, span, timeline_lines
from workflow_worker.client.client import Client
from workflow_worker.model.exceptions import NotFound
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.transitions import RunQuery

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
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """List runs, the newest first.

    \b
    workflow-worker runs list --status suspended
    workflow-worker runs list --workflow fulfil --subject o-1 --json
    """
    query = RunQuery(status=status, workflow=workflow, subject=subject, limit=limit)

    async def look() -> None:
        async with connected(read_settings()) as client:
            found = await client.runs(query)
        if json:
            print_json(page([run_document(run) for run in found.items], found.total))
            return
        columns = ("ID", "WORKFLOW", "STATUS", "SUBJECT", "STARTED", "UPDATED", "ATTEMPTS", "TAKEOVERS")
        table(columns, [_row(run) for run in found.items])
        if found.total > len(found.items):
            say(f"{len(found.items)} of {found.total}; more with --limit", style="dim")

    asyncio.run(look())


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
            print_json(run_details(run, history))
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
def cancel(
    run_id: RunArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the run's history.")] = "",
    json: JsonOption = False,
) -> None:
    """Ask a run to end: it gets asyncio.CancelledError where it waits, and may still clean up.

    \b
    workflow-worker runs cancel order-o-1 --reason "ordered twice"
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            ref = await client.cancel(run_id, by=operator(), reason=reason)
        _report(ref, "cancel", "asked to end", json)

    asyncio.run(act())


@runs.command()
def resume(
    run_id: RunArgument,
    note: Annotated[str, typer.Option(metavar="TEXT", help="What was done about it; kept in the history.")] = "",
    json: JsonOption = False,
) -> None:
    """Let a suspended run go on: the step that failed is tried again.

    \b
    workflow-worker runs list --status suspended
    workflow-worker runs resume order-o-1 --note "card service is back"
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            ref = await client.resume(run_id, by=operator(), note=note)
        _report(ref, "resume", "goes on", json)

    asyncio.run(act())


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
    for name, value in (("state", decoded(run.state)), ("result", decoded(run.result)), ("error", run_failure(run))):
        if value is not None:
            text = str(value) if name == "error" else " ".join(to_json(value).split())
            say(f"  {name:<9}  {text}", style="red" if name == "error" else "")
    say()
    timeline = sorted([*moments(history), *extra], key=lambda moment: moment.at)
    for line in timeline_lines(run.started_at, timeline):
        say(line)
