"""Arguments and options that several commands share, and what they stand for."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.settings import Settings
from workflow_worker.service.cores import usable_cores

AppArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="APP",
        help="The app: package.module:attribute or path/file.py[:attribute]; the attribute is 'app' by default."
        " Default: $WORKFLOW_APP.",
        show_default=False,
    ),
]

ByOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who does this, for the history and `workflow-worker operators`. Default: you, as user@host.",
        show_default=False,
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Write exactly one JSON document to stdout.")]


def read_settings() -> Settings:
    """The settings of this process, from its environment.

    Raises:
        ConfigurationError: A variable has a value that is not allowed.
    """
    return Settings.from_mapping(os.environ, usable_cores=usable_cores())


def chosen_app(argument: str | None, settings: Settings) -> str:
    """The app named on the command line, else by ``WORKFLOW_APP``.

    Raises:
        ConfigurationError: Neither names one.
    """
    name = argument or settings.workflow_app
    if not name:
        raise ConfigurationError(
            "no app: name one, as in `workflow-worker start shop/workflows.py`, or set WORKFLOW_APP"
        )
    return name
