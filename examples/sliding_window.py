"""Many items, a few at a time: the next begins when one ends, failures are collected, progress can be read.

workflow-worker dev examples/sliding_window.py
workflow-worker publish import.requested --subject i-1 --data '{"import_id": "i-1", "rows": ["a", "b", "c"]}'
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from workflow_worker import App, Fail, RetryPolicy, Rule, wf

app = App("import")


class BadRow(Exception):
    """Nobody can import this row."""


@app.event("import.requested", subject="import_id")
@dataclass(frozen=True, slots=True)
class Requested:
    """Rows to import, at most `window` of them at the same time."""

    import_id: str
    rows: list[str] = field(default_factory=list[str])
    window: int = 3


@app.action(retry=RetryPolicy(Rule(BadRow).permanent(Fail())))
async def import_row(row: str) -> str:
    """Import one row."""
    if row.startswith("bad"):
        raise BadRow(row)
    return row.upper()


@app.workflow(on=Requested, id="import-{import_id}")
async def run_import(requested: Requested) -> dict[str, list[str]]:
    """Plain asyncio: a set of what is under way, and `asyncio.wait` for the first that ends."""
    imported, refused = list[str](), list[str]()
    waiting, under_way = list(reversed(requested.rows)), set[asyncio.Task[str]]()
    while waiting or under_way:
        while waiting and len(under_way) < requested.window:
            under_way.add(asyncio.create_task(import_row(waiting.pop())))
        done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                imported.append(task.result())
            except BadRow as error:
                refused.append(str(error))
        wf.state(imported=len(imported), refused=len(refused), waiting=len(waiting))
    return {"imported": imported, "refused": refused}
