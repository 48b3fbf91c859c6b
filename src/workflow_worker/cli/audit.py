"""``workflow-worker audit``: the store's own invariants, checked by anyone."""

from __future__ import annotations

import asyncio

import msgspec
import typer

from workflow_worker.cli.connect import connected
from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import print_json, say

MEANING = {
    "added": "events accepted, by whatever way",
    "ingested": "of these, taken in by a worker; each has one of the next four fates",
    "routed": "started a run or reached one",
    "early": "about a subject that no run was about yet",
    "duplicate": "their id had been seen before",
    "dead": "nothing could take them: see `workflow-worker dead list`",
    "deliveries": "copies put into the mailboxes of runs",
    "recorded": "of these, recorded by their run",
    "unclaimed": "early events that no run took up in time",
    "fenced": "writes refused because a newer worker held the run",
    "again": "requests repeated because an answer was lost",
    "takeovers": "runs taken over from a worker that died or lost them",
    "queued": "still in the stream: no worker has taken them in",
    "delayed": "published with a delay that is not over yet",
}
"""What each count means, for people."""


def audit(json: JsonOption = False) -> None:
    """Check that no event is lost.

    Shows what was counted since the namespace was created, and whether it adds up: each accepted event is still queued,
    or has exactly one fate (routed to runs, early, duplicate or dead). If something does not add up, it is named and
    the exit code is 1.

    \b
    workflow-worker audit --json
    """

    async def look() -> bool:
        async with connected(read_settings()) as client:
            found = await client.audit()
        if json:
            print_json(found)
            return found.balanced
        for name, value in msgspec.structs.asdict(found).items():
            if name not in ("balanced", "problems"):
                say(f"{name:<12}{value:>12,}  {MEANING[name]}")
        say("balanced" if found.balanced else "NOT balanced", style="green" if found.balanced else "bold red")
        for problem in found.problems:
            say(f"  {problem}", style="red")
        return found.balanced

    if not asyncio.run(look()):
        raise typer.Exit(1)
