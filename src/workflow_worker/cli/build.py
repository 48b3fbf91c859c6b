"""``workflow-worker build``: one immutable file of an app, for `start` on any machine that has its dependencies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workflow_worker.app.check import check as find_faults
from workflow_worker.cli.check import write_findings
from workflow_worker.cli.options import AppArgument, JsonOption, chosen_app, read_settings
from workflow_worker.cli.output import counted, print_json, say
from workflow_worker.model.exceptions import Refused
from workflow_worker.service.artefact import write_artefact
from workflow_worker.service.describe import describe_app
from workflow_worker.service.loader import app_file, load_app, split_app_name
from workflow_worker.service.sources import collect


def build(
    app: AppArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the file goes; created if missing.")
    ] = Path("dist"),
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Data files of the app, relative to its top folder ('shop/mails/*.txt'); repeatable.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build an app into one immutable file.

    The file, dist/<app>-<hash>.wwa, contains the app's sources and a manifest: workflows with their versions, actions,
    event types, and the hash of the code. Equal sources give the same file, byte for byte. The build is refused (exit
    code 1) if `workflow-worker check` finds anything. Dependencies are not included: install them where it starts.

    \b
    workflow-worker build shop/workflows.py
    workflow-worker build shop.workflows:app -o dist/ --include 'shop/mails/*.txt'
    workflow-worker start dist/shop-1f2e3d4c5b6a.wwa
    """
    name = chosen_app(app, read_settings())
    sources = collect(app_file(name), include or ())
    entry = f"{sources.module}:{split_app_name(name)[1]}"
    # Imported as `start` will import it, so that what cannot be imported there is not built here.
    loaded = load_app(entry, sources.root)
    findings = find_faults(loaded.app)
    if findings:
        if not json:
            write_findings(findings)
        found = counted(len(findings), "finding")
        raise Refused(f"{name} is not built: {found}, see `workflow-worker check {name}`")
    manifest = describe_app(loaded.app, entry, sources.files)
    path = write_artefact(output, manifest, sources.files)
    if json:
        print_json({"path": str(path), "manifest": manifest})
        return
    say(str(path))
    for workflow in manifest.workflows:
        say(f"  workflow  {workflow.name}@{workflow.version}")
    counts = (len(manifest.actions), "action"), (len(manifest.events), "event type"), (len(sources.files), "file")
    say(f"  {', '.join(counted(*each) for each in counts)}")
