"""One printer, many orders: a lock by name lets one run at a time print, in the order in which they asked.

    workflow-worker dev examples/printer.py
    workflow-worker publish label.wanted --subject l-1 --data '{"label_id": "l-1", "printer": "p-1", "text": "Hello"}'
    workflow-worker runs show label-l-1

A run that waits for the lock holds no worker. One that crashes inside goes on inside, on another worker, with the lock;
one that is cancelled gives it back. ``PRINTED`` names the file that stands for the paper.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from workflow_worker import App, wf

app = App("printer")
PAPER = Path(os.environ.get("PRINTED", "printed.txt"))


@app.event("label.wanted", subject="label_id")
@dataclass(frozen=True, slots=True)
class Wanted:
    """Somebody needs a label."""

    label_id: str
    printer: str
    text: str


@app.event("label.printed")
@dataclass(frozen=True, slots=True)
class Printed:
    """A label is ready: for whoever waits for it."""

    text: str


def put(line: str) -> None:
    """One line on the paper."""
    with PAPER.open("a") as paper:
        paper.write(f"{line}\n")


@app.action
async def begin_page(printer: str, label: str) -> None:
    """Take a sheet in; nobody else may print before `end_page`."""
    await asyncio.to_thread(put, f"{printer} begins {label}")


@app.action
async def end_page(printer: str, label: str, text: str) -> None:
    """Print and eject."""
    await asyncio.to_thread(put, f"{printer} ends {label}: {text}")


@app.workflow(on=Wanted, id="label-{label_id}", version=1, timeout=3600)
async def print_label(wanted: Wanted) -> str:
    """Two steps that belong together, and a follow-up event about the label."""
    async with wf.lock(f"printer/{wanted.printer}"):
        await begin_page(wanted.printer, wanted.label_id)
        await end_page(wanted.printer, wanted.label_id, wanted.text)
    wf.emit(Printed(wanted.text), subject=wanted.label_id)
    return "printed"
