"""Rules of the house that a machine can hold: counted ignores, no imports in functions, no vague module names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
ALL_PYTHON = [
    path
    for folder in ("src", "tests", "bench", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ".venvs" not in path.parts
]

MOST_TYPE_IGNORES = 20
MOST_LINT_IGNORES = 43
"""Most are the boundaries at which authors' code or a whole part may raise anything."""
VAGUE_NAMES = {"utils", "helpers", "common", "base", "manager", "misc", "util"}
LAZY_IMPORTS = {
    "cli": "commands import what they need when they are called, so that `--help` answers at once",
    "service/child.py": "the worker process imports the author's code only after its signals are set up",
    "testing/plugin.py": "pytest loads the plugin in every run, also where nobody tests a workflow",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "workflow_worker").as_posix()


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 50


def test_ignores_are_few_and_each_has_its_rule_and_reason() -> None:
    pattern = re.compile(r"# (type: ignore|pyright: ignore|noqa)(.*)")
    found = [
        (path, match.group(0))
        for path in SOURCES
        for line in path.read_text().splitlines()
        if (match := pattern.search(line)) and "pyright: strict" not in line
    ]
    bare = [(path.name, text) for path, text in found if not re.search(r"[\[:]\s*\w+[\w, ]*\]?\s*(-|#)\s*\w", text)]
    assert not bare, f"ignores without a rule and a reason: {bare}"
    type_ignores = [(name_of(path), text) for path, text in found if "noqa" not in text]
    lint_ignores = [(name_of(path), text) for path, text in found if "noqa" in text]
    assert len(type_ignores) <= MOST_TYPE_IGNORES, type_ignores
    assert len(lint_ignores) <= MOST_LINT_IGNORES, lint_ignores


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_import_nothing(path: Path) -> None:
    if any(name_of(path).startswith(prefix) for prefix in LAZY_IMPORTS):
        return
    tree = ast.parse(path.read_text())
    inner = [
        node.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inner, f"imports inside functions at lines {inner}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_have_a_docstring_and_a_name_that_says_something(path: Path) -> None:
    assert path.stem not in VAGUE_NAMES
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name_of(path)} does not say what it is for"


@pytest.mark.parametrize("path", ALL_PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_path_of_a_machine_stands_in_the_code(path: Path) -> None:
    if path == Path(__file__):
        return
    assert not re.search(r"['\"]/(work|root|farm|home)/", path.read_text())
