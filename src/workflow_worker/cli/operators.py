"""``workflow-worker operators``: what people did to runs, dead letters and schedules."""

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
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most this many.")] = 100,
    json: JsonOption = False,
) -> None:
    """List who did what, newest first.

    Who cancelled, resumed, sent again, deleted or scheduled what, and when, also over HTTP. About the last 10,000 acts
    are kept.

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
