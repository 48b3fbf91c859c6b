"""The command ``workflow-worker``: puts the commands together and turns expected errors into one line and a code.

Exit codes: 0 done, 1 not found or refused, 2 usage or settings, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from workflow_worker import __version__
from workflow_worker.cli import audit, build, check, demo, operators, publish, run, service_http
from workflow_worker.cli.dead import dead
from workflow_worker.cli.output import complain, say
from workflow_worker.cli.runs import runs
from workflow_worker.cli.schedules import schedules
from workflow_worker.model.exceptions import ConfigurationError, UsageError, WorkflowWorkerError
from workflow_worker.model.settings import without_password

cli = typer.Typer(
    name="workflow-worker",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"workflow-worker {__version__}")
        raise typer.Exit


@cli.callback()
def _root(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Durable workflows in plain async Python on Redis Streams.

    \b
    workflow-worker demo                        see everything in half a minute
    workflow-worker dev shop/workflows.py       write an app, with hot reload
    workflow-worker build shop/workflows.py     turn it into one immutable file
    workflow-worker start dist/shop-1f2e3d.wwa  run it in production
    workflow-worker publish TYPE --data JSON    send an event
    workflow-worker runs show ID                see what became of it

    Without REDIS_URL, an embedded server keeps its data in .workflow-worker/ of the working folder, and every command
    run in this folder uses it.
    """


cli.command()(demo.demo)
cli.command()(run.dev)
cli.command()(build.build)
cli.command()(run.start)
cli.command()(service_http.scale)
cli.command()(publish.publish)
cli.add_typer(runs, name="runs")
cli.add_typer(dead, name="dead")
cli.add_typer(schedules, name="schedules")
cli.command()(operators.operators)
cli.command()(audit.audit)
cli.command()(check.check)
cli.command()(service_http.health)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answers its exit code, and has written any expected error as one line to stderr."""
    command = typer.main.get_command(cli)
    arguments = sys.argv[1:] if arguments is None else arguments
    for number, argument in enumerate(arguments, 1):
        if not argument.isprintable() and any("\ud800" <= character <= "\udfff" for character in argument):
            complain(f"argument {number} is not valid UTF-8: {argument!r}")
            return 2
    try:
        code = command.main(args=arguments, prog_name="workflow-worker", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _refuse_usage(error)
    except (UsageError, ConfigurationError) as error:
        complain(without_password(str(error)))
        return 2
    except WorkflowWorkerError as error:
        complain(without_password(str(error)))
        return 1
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # The reader is gone, as in `… | head`; what is still buffered must not raise when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _refuse_usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "workflow-worker")
    message = error.format_message()
    if "\n" in message.strip() and not message.startswith(("Invalid", "Missing")):
        print(message)  # a group without a command: its help
    else:
        complain(f"{message.rstrip('.')}; see `{path} --help`")
    return error.exit_code


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # signs of ours, in a terminal that knows only ASCII
    sys.exit(run_command())
