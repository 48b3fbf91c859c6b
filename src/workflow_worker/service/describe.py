"""The manifest of an app: what it declares, and what it was built with."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from workflow_worker import __version__
from workflow_worker.app.registry import App
from workflow_worker.service.manifest import Manifest, WorkflowEntry, code_hash_of


def describe_app(app: App, entry: str, files: Mapping[str, bytes]) -> Manifest:
    """The manifest of an app whose sources are `files` and which ``module:attribute`` of them (`entry`) holds."""
    return Manifest(
        app=app.name,
        entry=entry,
        workflows=tuple(
            WorkflowEntry(name=workflow.name, version=workflow.version)
            for workflow in sorted(app.workflows, key=lambda workflow: (workflow.name, workflow.version))
        ),
        actions=tuple(sorted(action.name for action in app.actions)),
        events=tuple(sorted(app.events.types)),
        code_hash=code_hash_of(files),
        release=__version__,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )
