"""Blocks of code in Markdown pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of Python; a whole program begins with a comment that names its file."""

    page: str
    line: int
    code: str

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file's name that a whole program has; empty for a piece of one."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found.group(1) if found else ""

    @property
    def is_program(self) -> bool:
        """Whether it is complete."""
        return bool(self.file)

    def __str__(self) -> str:
        return self.name


def python_blocks(page: Path) -> Iterator[Block]:
    """All blocks of Python on a page."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        if found.group(1) == "python":
            yield Block(page.name, text.count("\n", 0, found.start()) + 1, found.group(2))


def command_lines(page: Path) -> list[str]:
    """Lines of unnamed blocks that a reader would type: those that begin with the command, in order."""
    blocks = [found.group(2) for found in _BLOCK.finditer(page.read_text()) if not found.group(1)]
    return [line for block in blocks for line in block.splitlines() if line.startswith("workflow-worker ")]
