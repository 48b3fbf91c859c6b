"""What a name in a function's source stands for, where that can be known without running or guessing."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from types import ModuleType
from typing import Any

UNKNOWN: Any = object()


class Names:
    """The names that one function sees. Its own variables are unknown: they may hold anything."""

    def __init__(self, fn: Callable[..., Any], tree: ast.AST) -> None:
        self._globals: dict[str, Any] = getattr(fn, "__globals__", {})
        self._own = _bound(tree)
        self._free = _closure(fn)
        self._imported = _imports(tree)

    def qualified(self, node: ast.AST) -> str | None:
        """The qualified name of what an expression such as ``t.time`` stands for."""
        path = _path(node)
        if path is None:
            return None
        root, *attributes = path
        start = self._imported.get(root)
        if start is None:
            found = self._root(root)
            start = None if found is UNKNOWN else _name_of(found)
        return None if start is None else ".".join([start, *attributes])

    def value(self, node: ast.AST) -> Any:
        """The object that an expression stands for now, `UNKNOWN` where it cannot be told."""
        path = _path(node)
        if path is None or path[0] in self._imported:
            return UNKNOWN
        found = self._root(path[0])
        for attribute in path[1:]:
            if not isinstance(found, ModuleType | type):
                return UNKNOWN  # asking an object for an attribute may run code of its own
            found = vars(found).get(attribute, UNKNOWN)
        return found

    def _root(self, name: str) -> Any:
        if name in self._free:
            return self._free[name]
        if name in self._own:
            return UNKNOWN
        return self._globals.get(name, getattr(builtins, name, UNKNOWN))


def _path(node: ast.AST) -> list[str] | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return [node.id, *reversed(attributes)] if isinstance(node, ast.Name) else None


def _bound(tree: ast.AST) -> frozenset[str]:
    """Variables and parameters of the function and of those inside it; one of the latter may hide a module's name."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
    return frozenset(found)


def _closure(fn: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    code: Any = getattr(fn, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(fn, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            found[name] = UNKNOWN  # not filled yet
    return found


def _imports(tree: ast.AST) -> dict[str, str]:
    """What the function imports itself: local name → qualified name."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                root = each.name if each.asname else each.name.partition(".")[0]
                found[each.asname or root] = root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                found[each.asname or each.name] = f"{node.module}.{each.name}"
    return found


def _name_of(found: Any) -> str | None:
    """The name under which the documentation knows an object, whatever it is called here."""
    if isinstance(found, ModuleType):
        return found.__name__
    name = getattr(found, "__qualname__", None) if callable(found) else None
    if isinstance(name, str):
        owner = getattr(found, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType | type):
            # `from random import random` is a method of the module's hidden instance of Random.
            return f"{type(owner).__module__}.{found.__name__}" if type(owner).__module__ == "random" else None
        module = _PUBLIC.get(getattr(found, "__module__", None) or "", getattr(found, "__module__", None))
        return f"{module}.{name}" if module else None
    return "os.environ" if f"{found.__class__!r}" == "<class 'os._Environ'>" else None


_PUBLIC = {
    "_io": "io",
    "posix": "os",
    "nt": "os",
    "_socket": "socket",
    "pathlib._local": "pathlib",
    "asyncio.threads": "asyncio",
    "asyncio.tasks": "asyncio",
    "asyncio.runners": "asyncio",
    "asyncio.streams": "asyncio",
    "asyncio.subprocess": "asyncio",
    "requests.api": "requests",
    "httpx._api": "httpx",
    "httpx._client": "httpx",
}
"""Modules that hide where their names come from."""
