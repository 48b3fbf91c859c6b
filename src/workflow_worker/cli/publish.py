"""``workflow-worker publish``: one event from the command line, or many from a file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected
from workflow_worker.cli.events_file import BadLine, Source, groups, open_events
from workflow_worker.cli.input import read_data
from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import Meter, complain, counted, print_json, say
from workflow_worker.client.client import Client
from workflow_worker.client.outgoing import Item, outgoing
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, StoreFull, StoreUnavailable, UsageError
from workflow_worker.model.settings import Settings

_BATCH = 200


@dataclass(slots=True)
class _Tally:
    published: int = 0
    duplicates: int = 0
    bad: list[BadLine] = field(default_factory=list[BadLine])


def publish(
    event_type: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="The event's type, such as order.placed.", show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The event's data: JSON, @FILE to read it from a file, - for stdin."),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="S", help="The business key the event is about, such as o-1.")
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The event's id, accepted only once within DEDUP_WINDOW_MS."),
    ] = None,
    delay: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Hold the event back for this long.", show_default=False)
    ] = 0,
    file: Annotated[
        str | None,
        typer.Option(metavar="EVENTS", help="Publish each line of this file (.jsonl or .jsonl.gz, - for stdin)."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Publish an event, or a file of events.

    \b
    workflow-worker publish order.placed --subject o-1 --data '{"order_id": "o-1", "total": 4200}'
    workflow-worker publish invoice.due --subject i-7 --data @invoice.json --id inv-7 --delay 3600
    workflow-worker publish --file EVENTS.jsonl.gz
    producer | workflow-worker publish --file -

    Each line of a file is one JSON object: `type` and, optionally, `id`, `subject`, `data`, `source`, `time`. A line
    that is not an event is reported with its number, the others are published, and the exit code is 1. Publishing a
    file again is harmless if its lines have ids: an id counts once.
    """
    settings = read_settings()
    if file is not None:
        single = {"TYPE": event_type, "--data": data, "--subject": subject, "--id": event_id, "--delay": delay or None}
        given = [name for name, value in single.items() if value is not None]
        if given:
            raise typer.BadParameter(f"--file has the whole events: leave out {', '.join(given)}")
        raise typer.Exit(asyncio.run(_publish_file(settings, file, json)))
    if event_type is None or data is None:
        raise typer.BadParameter("name a TYPE and its --data, or a --file of events")
    event = Event(id=event_id or "", type=event_type, subject=subject or None, data=read_data(data))
    asyncio.run(_publish_one(settings, event, delay, json))


async def _publish_one(settings: Settings, event: Event, delay: float, json: bool) -> None:
    async with connected(settings, start=True) as client:
        done = await client.publish(event, delay=delay)
    if json:
        print_json({"id": done.id, "duplicate": done.duplicate})
    elif done.duplicate:
        say(f"{done.id} was accepted before: nothing added")
    else:
        say(f"published {done.id}")


async def _publish_file(settings: Settings, name: str, json: bool) -> int:
    tally = _Tally()
    with open_events(name) as source:
        async with connected(settings, start=True) as client:
            await _send(client, name, source, tally, settings.max_event_bytes, json)
    problems = [{"line": each.line, "reason": each.reason} for each in tally.bad]
    if json:
        print_json(
            {
                "published": tally.published,
                "duplicates": tally.duplicates,
                "bad": len(tally.bad),
                "problems": problems,
            }
        )
    else:
        duplicates, bad = counted(tally.duplicates, "duplicate"), counted(len(tally.bad), "bad line")
        say(f"{tally.published:,} published, {duplicates}, {bad}")
    return 1 if tally.bad else 0


async def _send(client: Client, name: str, source: Source, tally: _Tally, most_bytes: int, json: bool) -> None:
    with Meter(f"bytes of {name}", source.size, quiet=json or source.size is None) as meter:
        async for group in groups(source, _BATCH):
            batch: list[Event] = []
            for line, found in group:
                bad = found if isinstance(found, BadLine) else _unfit(line, found, most_bytes)
                if bad is not None:
                    tally.bad.append(bad)
                    complain(f"{name}:{line}: {bad.reason}")
                elif isinstance(found, Event):
                    batch.append(found)
            try:
                answers = await client.publish_many(batch)
            except (StoreUnavailable, StoreFull) as error:
                raise type(error)(
                    f"{error}; lines before {group[0][0]} of {name} are published:"
                    " publish it again when the server takes it, ids count once"
                ) from error
            tally.duplicates += sum(answer.duplicate for answer in answers)
            tally.published += sum(not answer.duplicate for answer in answers)
            meter.at(source.position())


def _unfit(line: int, event: Event, most_bytes: int) -> BadLine | None:
    """Why an event would be refused; one such line must not keep its neighbours out."""
    try:
        outgoing(Item(event), lambda: "new", most_bytes)
    except (EventRejected, UsageError) as error:
        return BadLine(line, str(error))
    return None
