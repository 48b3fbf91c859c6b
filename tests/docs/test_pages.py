"""What README and docs say is true: generated parts are current, code compiles, names and links exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from tests.docs.pages import README, REWRITE, ROOT, rendered
from tests.docs.programs import Block, python_blocks
from workflow_worker.cli.main import cli
from workflow_worker.model.settings import Settings, variable_of

PAGES = sorted([README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCKS = [block for page in PAGES for block in python_blocks(page)]
FOREIGN_VARIABLES = {"ORDERS_STEP_MS", "ORDERS_EFFECTS", "WW_REAL_INPUT"}
"""Of the examples and the tests."""


@pytest.mark.parametrize("path", rendered(), ids=lambda path: path.name)
def test_a_generated_part_is_current(path: Path) -> None:
    assert path.read_text() == rendered()[path], f"run: {REWRITE}"


def test_the_table_of_settings_is_in_the_readme_whole() -> None:
    text = README.read_text()
    assert all(f"| `{variable_of(each.name).name}` |" in text for each in fields(Settings))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_python_in_the_docs_compiles(block: Block) -> None:
    tree = ast.parse(block.code, block.name)
    if block.is_program:
        compile(tree, block.name, "exec")
        _imports_exist(tree, {each.file.removesuffix(".py") for each in BLOCKS if each.page == block.page})


def _imports_exist(tree: ast.Module, beside: set[str]) -> None:
    """`beside` are the programs of the same page."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in beside:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert importlib.util.find_spec(alias.name), f"there is no module {alias.name}"
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path or target.endswith("benchmarks.md"):  # that page is written by the benchmark
            continue
        place = page.parent / path if path else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in _anchors(place), f"{place.name} has no {anchor}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    group = typer.main.get_command(cli)
    known: dict[str, object] = dict(getattr(group, "commands"))  # noqa: B009 - typer's stub has no such attribute
    found = re.findall(r"(?:^|`|\$ )workflow-worker ([a-z]+)(?: ([a-z]+))?", page.read_text(), re.MULTILINE)
    for name, below in found:
        if name in ("worker",):  # the command line of a worker process, for people who look at `ps`
            continue
        assert name in known, f"{page.name}: there is no command {name}"
        commands = getattr(known[name], "commands", None)
        assert commands is None or not below or below in commands, f"{page.name}: there is no command {name} {below}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_exist(page: Path) -> None:
    known = {variable_of(each.name).name for each in fields(Settings)} | FOREIGN_VARIABLES
    words = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)[=`]", page.read_text()))
    assert words <= known, f"{page.name} names {sorted(words - known)}"
