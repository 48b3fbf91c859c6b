"""``workflow-worker dead``: dead letters, the events that need a person."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected, operator
from workflow_worker.cli.options import ByOption, JsonOption, read_settings
from workflow_worker.cli.output import Listing, counted, print_json, say
from workflow_worker.client.client import Client
from workflow_worker.client.documents import letter_document
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.exceptions import NotFound, UsageError
from workflow_worker.model.instants import iso_ms

dead = typer.Typer(no_args_is_help=True, help="Look at dead letters, send them again, delete them.")

_ID = typer.Argument(metavar="ID", help="The dead letter's id, as `workflow-worker dead list` shows it.")
LetterArgument = Annotated[str, _ID]
OneLetter = Annotated[str | None, _ID]

_PAGE = 200
_SPAN = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dead.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most this many.")] = 100,
    after: Annotated[
        str, typer.Option(metavar="ID", help="Continue after this letter; `next` of a --json list names it.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """List dead letters, oldest first, each with its reason.

    Letters that were sent again are not listed.

    \b
    workflow-worker dead list
    """

    async def look() -> None:
        listing, left, last, shown = Listing(("ID", "SINCE", "TYPE", "SUBJECT", "REASON"), json=json), limit, after, 0
        async with connected(read_settings()) as client:
            while True:
                letters = await client.dead_letters(min(_PAGE, left), last)
                listing.add([_row(letter) for letter in letters], [letter_document(letter) for letter in letters])
                shown, left = shown + len(letters), left - len(letters)
                last = letters[-1].id if letters else last
                if not letters or left <= 0:
                    break
            more = bool(letters) and bool(await client.dead_letters(1, last))
            total = max((await client.depth()).dead, shown)
        listing.end(total, last if more else None)

    asyncio.run(look())


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return letter.id, iso_ms(letter.at), letter.field("type") or "-", letter.field("subject") or "-", letter.reason


@dead.command()
def show(letter_id: LetterArgument, json: JsonOption = False) -> None:
    """Show one dead letter and its raw fields."""

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
def redrive(letter_id: LetterArgument, by: ByOption = None, json: JsonOption = False) -> None:
    """Send a dead letter's event again, once its cause is fixed.

    If the letter was one run's copy of the event, it goes to that run alone.

    \b
    workflow-worker dead redrive 1732484220000-0
    """

    async def act() -> None:
        async with connected(read_settings()) as client:
            await client.redrive(letter_id, by=by or operator())
        _report(letter_id, "redrive", "sent again", json)

    asyncio.run(act())


@dead.command()
def drop(
    letter_id: OneLetter = None,
    every: Annotated[bool, typer.Option("--all", help="All that match the other options, instead of one.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Only those whose reason begins with this.")] = "",
    type: Annotated[str | None, typer.Option(metavar="TYPE", help="Only those of this event type.")] = None,
    older: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Only those older than this, such as 90s, 15m, 36h, 7d.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a dead letter for good, or all that match.

    \b
    workflow-worker dead drop 1732484220000-0
    workflow-worker dead drop --all --reason undeclared --type order.lost --older 7d
    """
    if every == (letter_id is not None):
        raise UsageError("name one dead letter, or say --all")
    if not every and (reason or type or older):
        raise UsageError("--reason, --type and --older choose among --all")
    span_ms = _span_ms(older) if older else 0

    async def act() -> None:
        async with connected(read_settings()) as client:
            if letter_id is not None:
                await client.drop(letter_id, by=by or operator())
                _report(letter_id, "drop", "deleted", json)
                return
            await _drop_all(client, _Choice(reason, type, span_ms), by or operator(), ask=not yes, json=json)

    asyncio.run(act())


@dataclass(frozen=True)
class _Choice:
    """Which dead letters a bulk drop means."""

    reason: str
    type: str | None
    older_ms: int

    def fits(self, letter: DeadLetter, now_ms: int) -> bool:
        old = not self.older_ms or letter.at < now_ms - self.older_ms
        return old and letter.reason.startswith(self.reason) and self.type in (None, letter.field("type"))


async def _drop_all(client: Client, choice: _Choice, by: str, *, ask: bool, json: bool) -> None:
    asked = time.monotonic()
    if ask:
        found = await _count(client, choice)
        if not found:
            raise NotFound("no dead letter matches")
        # On stderr: with --json stdout is one document.
        if not typer.confirm(f"Delete {counted(found, 'dead letter')} for good?", err=True):
            raise typer.Abort
    # What came while a person thought about it was not counted, and stays.
    older = choice.older_ms / 1000 + (time.monotonic() - asked if ask else 0)
    gone = await client.drop_letters(by=by, reason=choice.reason, type=choice.type, older=older)
    if json:
        print_json({"operation": "drop letters", "outcome": "ok", "dropped": gone})
    else:
        say(f"{counted(gone, 'dead letter')} deleted")


async def _count(client: Client, choice: _Choice) -> int:
    now_ms, last, found = time.time_ns() // 1_000_000, "", 0
    while letters := await client.dead_letters(_PAGE, last):
        found += sum(choice.fits(letter, now_ms) for letter in letters)
        last = letters[-1].id
    return found


def _span_ms(text: str) -> int:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"--older {text!r} is not usable: write a number and one of s, m, h, d, as in 36h")
    return int(found[1]) * _UNITS_MS[found[2]]


def _report(letter_id: str, operation: str, done: str, json: bool) -> None:
    if json:
        print_json({"id": letter_id, "operation": operation, "outcome": "ok"})
    else:
        say(f"{letter_id} {done}")
