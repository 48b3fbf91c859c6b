"""The generated parts of the documentation: each rendered from the declarations that the program itself uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, cast

import typer

from workflow_worker.cli.main import cli
from workflow_worker.model.settings import settings_table

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
SETTINGS = ROOT / "docs" / "reference" / "settings.md"
COMMANDS = ROOT / "docs" / "reference" / "cli.md"
REWRITE = "python -m tests.docs.write"

_MARK = f"<!-- Written by `{REWRITE}`, checked by a test. -->"
_SETTINGS_PAGE = f"""# Settings

Everything is set by environment variables, read once at the start. A value that is not allowed, also an empty one,
stops the start with exit code 2 and one line that names the variable, the value and what is allowed. Worker processes
get the same settings from their service, except `API_TOKEN`, which only the web server needs.

{_MARK}

"""
_COMMANDS_PAGE = f"""# Commands

`APP` is `package.module:attribute` or `path/file.py[:attribute]`; the attribute is `app` by default, and `WORKFLOW_APP`
stands in where APP is missing. `health` and `scale` speak to the service at `HOST:PORT`, the rest to Redis:
`REDIS_URL`, or the embedded server of the working folder.

Exit codes: 0 done; 1 not found, refused, or no answer; 2 usage or settings; 130 interrupted. Errors are one line on
stderr. With `--json` stdout is exactly one JSON document; a list is `{{"items": […], "next": null, "total": n}}`.

{_MARK}
"""


def rendered() -> dict[Path, str]:
    """The whole text of every file that has a generated part, as it should be now."""
    table = settings_table()
    return {
        README: _between(_between(README.read_text(), "settings", table), "performance", _performance()),
        SETTINGS: _SETTINGS_PAGE + table,
        COMMANDS: _COMMANDS_PAGE + "".join(_commands()),
    }


def _between(text: str, name: str, content: str) -> str:
    """The text with `content` between the two marks of this name.

    Raises:
        ValueError: The marks are missing, or there more than once.
    """
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the marks {begin.strip()} and {end} must be there once each")
    head, _, rest = text.partition(begin)
    return head + begin + content + end + rest.partition(end)[2]


def _performance() -> str:
    """Three lines out of the benchmark's own page, which is written by the harness."""
    figures: dict[str, list[str]] = {}
    for cells in map(_cells, BENCHMARKS.read_text().splitlines()):
        if len(cells) > 2:
            figures.setdefault(cells[0], cells)  # the first table is that of the results
    column = figures[""].index("ours")

    def ours(row: str) -> str:
        return figures[row][column].partition(" ")[0]

    return (
        f"One worker process executes {ours('no-op, 1 process, events/s')} no-op runs or"
        f" {ours('three-step workflows/s, 1 process')} three-step workflows a second;\n"
        f"an idle one begins {ours('idle publish → start p50, ms')} ms after the publish (median) and has"
        f" {ours('one worker process, RSS MiB')} MiB. A waiting run takes {ours('server bytes/waiting run')} bytes of"
        " Redis.\n"
        "Two shared cores, server and load included; the machine, peers and all conditions:"
        " [benchmarks](docs/benchmarks.md).\n"
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def _commands() -> Iterator[str]:
    group: Any = typer.main.get_command(cli)
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            for below, each in sorted(command.commands.items()):
                yield _command(f"{name} {below}", each)
        else:
            yield _command(name, command)


def _command(name: str, command: Any) -> str:
    parameters = [each for each in command.params if each.name != "help"]
    usage = " ".join(["workflow-worker", name, *(_usage(each) for each in parameters)])
    parts = [f"\n## {name}\n", f"`{usage}`\n", *_prose(cast("str", command.help or ""))]
    rows = [_row(each) for each in parameters]
    if rows:
        parts.append("\n".join(["| parameter | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _usage(parameter: Any) -> str:
    shown = _shown(parameter)
    return shown if parameter.required else f"[{shown}]"


def _shown(parameter: Any) -> str:
    """An argument's name, or an option with what follows it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    option = max(parameter.opts, key=len)
    return option if parameter.is_flag else f"{option} {parameter.metavar or parameter.name.upper()}"


def _row(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    choices = [each.value for each in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
    default = parameter.default
    shown = "" if default in (None, False, 0, ()) else f"`{default}`"
    text = str(parameter.help) + (f" One of: {', '.join(choices)}." if choices else "")
    return f"| `{_shown(parameter)}` | {shown} | {text.replace('|', chr(92) + '|')} |"


def _prose(text: str) -> Iterator[str]:
    r"""Paragraphs of a docstring; those that begin with ``\b`` are examples, line by line."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines[0] in ("\b", "\\b"):
            yield "```\n" + "\n".join(lines[1:]) + "\n```\n"
        else:
            yield " ".join(lines).replace("<", "\\<") + "\n"
