"""What commands write: one JSON document, or aligned text; progress only for a person at a terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from textwrap import indent
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

_QUIET_S = 1.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_STYLES = {
    "completed": "green",
    "ok": "green",
    "healthy": "green",
    "running": "cyan",
    "pending": "cyan",
    "waiting": "blue",
    "degraded": "yellow",
    "suspended": "bold yellow",
    "failed": "red",
    "unhealthy": "bold red",
    "cancelled": "dim",
}


def to_json(document: object) -> str:
    """One JSON document, two spaces of indent, bytes that are not UTF-8 shown as escapes."""
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=_plain), indent=2).decode()


def print_json(document: object) -> None:
    """Write exactly one document to stdout."""
    print(to_json(document), flush=True)


def say(text: str = "", style: str = "") -> None:
    """Write a line of text to stdout, in colour where that is a terminal; never wrapped, never cut."""
    _console().print(Text(visible(text), style=style), soft_wrap=True)


def visible(text: str) -> str:
    """The same text with control characters as escapes: what strangers put into events must not steer a terminal."""
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def complain(text: str) -> None:
    """Write one line to stderr, as every error of ours: whatever it holds, no line breaks."""
    line = visible(" ".join(text.split()))
    Console(stderr=True, highlight=False).print(Text.assemble(("workflow-worker: ", "bold red"), line), soft_wrap=True)


class Listing:
    """A list that is written while it comes, page by page: aligned columns, the same in a terminal and in a file, or
    one JSON document. A status has its colour."""

    def __init__(self, columns: Sequence[str], *, json: bool) -> None:
        self._columns = columns
        self._widths = [0 for _ in columns]
        self._json = json
        self._written = 0

    def add(self, rows: Sequence[Sequence[str]], documents: Sequence[object]) -> None:
        """Write one page; of `rows` and `documents`, which are the same items, one is written."""
        if self._json:
            for document in documents:
                print("," if self._written else '{\n  "items": [')
                print(indent(to_json(document), "    "), end="")
                self._written += 1
            return
        cells = [[visible(cell) for cell in row] for row in rows]
        begins = not self._written
        self._written += 1
        widths = [max(map(len, column)) for column in zip(self._columns, *cells, strict=True)]
        self._widths = [max(pair) for pair in zip(self._widths, widths, strict=True)]
        if begins:
            heading = "  ".join(_cells(self._columns, self._widths)).rstrip()
            _console().print(Text(heading, style="bold"), soft_wrap=True)
        for row in cells:
            self._row(row)

    def _row(self, row: Sequence[str]) -> None:
        line = Text()
        for cell, plain in zip(_cells(row, self._widths), row, strict=True):
            line.append(cell, style=_STYLES.get(plain, ""))
            line.append("  ")
        line.rstrip()
        _console().print(line, soft_wrap=True)

    def end(self, total: int, after: str | None = None) -> None:
        """Close it. `after` is what ``--after`` takes for more, None where there is no more."""
        if self._json:
            if not self._written:
                print_json(page([], total))
                return
            rest = f'"next": {to_json(after)},\n  "total": {to_json(total)}'
            print(f"\n  ],\n  {rest}\n}}", flush=True)
        elif after is not None:
            say(f"there are more: --after {after}, or a greater --limit ({total:,} in all)", style="dim")


def counted(number: int, thing: str) -> str:
    """``1 worker``, ``2,000 workers``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a list that is known whole, see `Listing`."""
    Listing(columns, json=False).add(rows, ())


def status_style(word: str) -> str:
    """The colour of a status; empty for an unknown one."""
    return _STYLES.get(word, "")


def page(items: Sequence[object], total: int | None = None) -> dict[str, Any]:
    """The envelope of every list in ``--json``."""
    return {"items": list(items), "next": None, "total": len(items) if total is None else total}


class Meter:
    """A progress bar on stdout that shows itself after a second, and only to a person at a terminal."""

    def __init__(
        self, label: str, total: int | None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label = label
        self._total = total
        self._clock = clock
        self._started = clock()
        self._done = 0
        self._possible = not quiet and sys.stdout.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def at(self, done: int) -> None:
        """Say how much is done in all."""
        self._done = done
        if self._bar is None and self._possible and self._clock() - self._started >= _QUIET_S:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn() if self._total is not None else TextColumn("{task.completed}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=_console(), transient=True)
            self._task = self._bar.add_task(self._label, total=self._total)
            self._bar.start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def advance(self, count: int = 1) -> None:
        """Say that so much more is done."""
        self.at(self._done + count)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _console() -> Console:
    # Made anew each time: tests and pipes exchange sys.stdout.
    return Console(highlight=False, markup=False)


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]


def _plain(value: object) -> object:
    if isinstance(value, Exception):
        return str(value)
    raise NotImplementedError(f"{type(value).__qualname__} has no JSON form")
