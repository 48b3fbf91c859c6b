"""``workflow-worker check``: what would go wrong with an app, found before it runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import typer

from workflow_worker.app.check import Finding
from workflow_worker.app.check import check as find_faults
from workflow_worker.cli.options import AppArgument, JsonOption, chosen_app, read_settings
from workflow_worker.cli.output import page, print_json, say
from workflow_worker.service.loader import load_app


def check(app: AppArgument = None, json: JsonOption = False) -> None:
    """Look for what cannot be replayed or stored: clocks, randomness, I/O in workflows, types without a stored form.

    Each finding names file, line, the fault and what to write instead. Exit code 1 when there are any. The module is
    imported; nothing of it is called.

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
        say(
            f"{found.name}: {len(found.workflows)} workflows, {len(found.actions)} actions,"
            f" {len(found.events.types)} event types; {len(findings) or 'no'} findings",
            style="bold red" if findings else "green",
        )
    if findings:
        raise typer.Exit(1)


def write_findings(findings: Sequence[Finding]) -> None:
    """Write findings for a person, paths as seen from the working folder where they lie below it."""
    here = os.getcwd() + os.sep
    for finding in findings:
        say(str(dataclasses.replace(finding, path=finding.path.removeprefix(here))))
