"""``workflow-worker dead``: dead letters, the events that need a person."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected, operator
from workflow_worker.cli.documents import letter_document
from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import page, print_json, say, table
from workflow_worker.model.instants import iso_ms

dead = typer.Typer(no_args_is_help=True, help="Look at dead letters, send them again, delete them.")

LetterArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The dead letter's id, as `workflow-worker dead list` shows it.")
]


@dead.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """List the dead letters that were not sent again, the oldest first, each with its reason.

    \b
    workflow-worker dead list
    """

    async def look() -> None:
        async with connected(read_settings()) as client:
            letters = await client.dead_letters(limit)
            total = max((await client.depth()).dead, len(letters))
        if json:
            print_json(page([letter_document(letter) for letter in letters], total))
            return
        rows = [
            (letter.id, iso_ms(letter.at), letter.field("type") or "-", letter.field("subject") or "-", letter.reason)
            for letter in letters
        ]
        table(("ID", "SINCE", "TYPE", "SUBJECT", "REASON"), rows)
        if total > len(letters):
            say(f"{len(letters)} of {total}; more with --limit", style="dim")

    asyncio.run(look())


@dead.command()
def show(letter_id: LetterArgument, json: JsonOption = False) -> None:
    """Show one dead letter: why it is here, and the entry's fields exactly as they came."""

    async def look() -> None:
        async with connected(read_settings()) as client:
            letter = await client.dead_letter(letter_id)
        document = letter_document(letter)
        if json:
            print_json(document)
            return
        say(f"{letter.id}  {letter.reason}", style="bold")
        say(f"  since  {document['at']}")
        say(f"  run    {document['run'] or 'reached none'}")
        for name, value in document["raw"]:
            say(f"  {name}  {value}")

    asyncio.run(look())


@dead.command()
def redrive(letter_id: LetterArgument, json: JsonOption = False) -> None:
    """Send a dead letter's event again, when its reason is gone; a run's own copy goes to that run alone.

    \b
    workflow-worker dead redrive 1732484220000-0
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            await client.redrive(letter_id, by=operator())
        _report(letter_id, "redrive", "sent again", json)

    asyncio.run(act())


@dead.command()
def drop(letter_id: LetterArgument, json: JsonOption = False) -> None:
    """Delete a dead letter for good."""

    async def act() -> None:
        async with connected(read_settings()) as client:
            await client.drop(letter_id, by=operator())
        _report(letter_id, "drop", "deleted", json)

    asyncio.run(act())


def _report(letter_id: str, operation: str, done: str, json: bool) -> None:
    if json:
        print_json({"id": letter_id, "operation": operation, "outcome": "ok"})
    else:
        say(f"{letter_id} {done}")
