"""``workflow-worker operators``: what people did to runs and dead letters."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workflow_worker.cli.connect import connected
from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import page, print_json, table
from workflow_worker.client.documents import act_document
from workflow_worker.model.instants import iso_ms


def operators(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """List who cancelled, resumed, sent again or deleted what, and when; the newest first.

    About the last 10,000 acts are kept, those over HTTP too.

    \b
    workflow-worker operators --limit 20
    """

    async def look() -> None:
        async with connected(read_settings()) as client:
            acts = await client.operator_log(limit)
        if json:
            print_json(page([act_document(act) for act in acts]))
            return
        rows = [(iso_ms(act.at), act.by, act.act, act.on, act.note) for act in acts]
        table(("WHEN", "WHO", "WHAT", "ON", "NOTE"), rows)

    asyncio.run(look())
