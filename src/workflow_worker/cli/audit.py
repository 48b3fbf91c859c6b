"""``workflow-worker audit``: the store's own invariants, checked by anyone."""

from __future__ import annotations

import asyncio

import msgspec
import typer

from workflow_worker.cli.connect import connected
from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import print_json, say


def audit(json: JsonOption = False) -> None:
    """Check that no event is lost: counts since the namespace was made, and whether they add up.

    Each accepted event is still queued, or has exactly one fate: routed to runs, early, duplicate or dead. Exit code
    1 when something does not add up; each problem is named.

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
                say(f"{name:<12}{value:>12,}")
        say("balanced" if found.balanced else "NOT balanced", style="green" if found.balanced else "bold red")
        for problem in found.problems:
            say(f"  {problem}", style="red")
        return found.balanced

    if not asyncio.run(look()):
        raise typer.Exit(1)
