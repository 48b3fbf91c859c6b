"""``workflow-worker check``: what would go wrong with an app, found before it runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import typer

from workflow_worker.app.check import Finding
from workflow_worker.app.check import check as find_faults
from workflow_worker.cli.options import AppArgument, JsonOption, chosen_app, read_settings
from workflow_worker.cli.output import counted, page, print_json, say
from workflow_worker.service.loader import load_app


def check(app: AppArgument = None, json: JsonOption = False) -> None:
    """Find what cannot be replayed or stored in an app.

    Looks for clocks, randomness and I/O in workflows, and for types that cannot be stored. Each finding names file,
    line, the fault and what to write instead; if there are any, the exit code is 1. The module is imported, but
    nothing in it is called.

    \b
    workflow-worker check shop/workflows.py
    """
    name = chosen_app(app, read_settings())
    loaded = load_app(name)
    findings = find_faults(loaded.app)
    if json:
        print_json(page([dataclasses.asdict(finding) for finding in findings]))
    else:
        write_findings(findings)
        found = loaded.app
        parts = (
            (len(found.workflows), "workflow"),
            (len(found.actions), "action"),
            (len(found.events.types), "event type"),
        )
        outcome = counted(len(findings), "finding") if findings else "no findings"
        say(
            f"{found.name}: {', '.join(counted(*each) for each in parts)}; {outcome}",
            style="bold red" if findings else "green",
        )
        if not found.workflows:
            say(f"{found.name} declares no workflow: no event starts anything", style="yellow")
    if findings:
        raise typer.Exit(1)


def write_findings(findings: Sequence[Finding]) -> None:
    """Write findings for a person, paths as seen from the working folder where they lie below it."""
    here = os.getcwd() + os.sep
    for finding in findings:
        say(str(dataclasses.replace(finding, path=finding.path.removeprefix(here))))
