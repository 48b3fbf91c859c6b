"""``check``: what would go wrong with an app, found before it runs. It reads sources and annotations, calls nothing.

A name that cannot be resolved without guessing is left alone: guards at run time, and replay in tests, see the rest.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol

from workflow_worker.app.actions import Action
from workflow_worker.app.attempt import CurrentAttempt
from workflow_worker.app.forbidden import is_environment, why_forbidden
from workflow_worker.app.names import Names
from workflow_worker.app.registry import App
from workflow_worker.app.workflows import Workflow
from workflow_worker.model.exceptions import UsageError

_GATHERERS = frozenset({"asyncio.gather", "asyncio.wait", "asyncio.as_completed"})
_KEEPS_ORDER_OF = frozenset({"list", "tuple", "enumerate", "iter", "next", "zip", "map", "filter", "reversed"})
_MOST_FUNCTIONS = 200
"""Functions looked at for one workflow: itself and what it calls in its own module."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One line that should be changed. `code` is a word for filters: clock, random, io, thread, types, …"""

    path: str
    line: int
    code: str
    message: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.code}] {self.message}; instead: {self.replacement}"


class _Checked(Protocol):
    def check(self) -> None: ...


def check(app: App) -> list[Finding]:
    """All findings, by file and line, each once."""
    found: set[Finding] = set()
    for workflow in app.workflows:
        found.update(_Search(workflow.fn).run())
        found.update(_types(workflow, workflow.fn, "the return annotation"))
    for action in app.actions:
        found.update(_types(action, action.fn, "the annotations"))
    for event in app.events.definitions:
        found.update(_types(event, event.event_class, "the fields"))
    return sorted(found)


def _types(definition: _Checked, declared: Callable[..., Any] | type, what: str) -> Iterator[Finding]:
    try:
        definition.check()
    except UsageError as error:
        path, line = _place(declared)
        yield Finding(path, line, "types", str(error), f"change {what} to types that can be stored")


def _place(declared: Any) -> tuple[str, int]:
    code = getattr(declared, "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    try:
        return inspect.getsourcefile(declared) or "?", inspect.getsourcelines(declared)[1]
    except (OSError, TypeError):
        return declared.__module__, 0


class _Search:
    """Looks through one workflow function and the functions of its module that it calls."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._module = fn.__module__
        self._waiting: list[Callable[..., Any]] = [fn]
        self._seen: set[Callable[..., Any]] = {fn}

    def run(self) -> Iterator[Finding]:
        while self._waiting and len(self._seen) <= _MOST_FUNCTIONS:
            fn = self._waiting.pop()
            try:
                source = textwrap.dedent(inspect.getsource(fn))
                tree = ast.parse(source)
            except (OSError, TypeError, SyntaxError):
                continue  # made at run time: there is no source to read
            path, first = _place(fn)
            ast.increment_lineno(tree, first - 1)
            names = Names(fn, tree)
            for line, code, message, replacement in self._look(tree, names):
                yield Finding(path, line, code, f"{fn.__qualname__}: {message}", replacement)

    def _look(self, tree: ast.AST, names: Names) -> Iterator[tuple[int, str, str, str]]:
        decorators = {id(each) for node in ast.walk(tree) for each in getattr(node, "decorator_list", ())}
        skipped = {id(inner) for node in ast.walk(tree) if id(node) in decorators for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Call):
                yield from self._call(node, names)
            elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension) and _is_set(node.iter, names):
                yield node.iter.lineno, "order", "iterates over a set, whose order differs per process", "sorted(…)"
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                called = names.value(node.value.func)
                if isinstance(called, Workflow):
                    message = f"starts a child of {called.name} without await: nobody sees its result or its error"
                    yield node.lineno, "await", message, f"await {called.name}(…), or wf.start({called.name}, …)"
                if isinstance(called, Action):
                    message = f"calls {called.name} without await: nobody sees its result or its error"
                    yield node.lineno, "await", message, f"await {called.name}(…)"
            elif isinstance(node, ast.Attribute):
                yield from _attribute(node, names)
            elif isinstance(node, ast.Name) and is_environment(names.qualified(node) or ""):
                yield from _refused(node, "os.environ")

    def _call(self, node: ast.Call, names: Names) -> Iterator[tuple[int, str, str, str]]:
        called = names.value(node.func)
        name = names.qualified(node.func)
        if isinstance(called, type) and issubclass(called, BaseException):
            return
        if name is not None:
            yield from _refused(node, name)
        if isinstance(called, Workflow):
            self._follow(called.fn)
        elif isinstance(called, FunctionType):
            self._follow(called)
        if name in _GATHERERS:
            for argument in node.args:
                given = argument.value if isinstance(argument, ast.Starred) else argument
                if _is_set(given, names):
                    yield given.lineno, "order", f"gives a set to {name}, whose order differs per process", "a list"
        if (
            isinstance(node.func, ast.Name)
            and node.func.id in _KEEPS_ORDER_OF
            and names.qualified(node.func) == (f"builtins.{node.func.id}")
        ):
            for argument in node.args:
                if _is_set(argument, names):
                    yield argument.lineno, "order", "takes a set in its order, which differs per process", "sorted(…)"
        if any(keyword.arg == "eager_start" for keyword in node.keywords):
            yield node.lineno, "loop", "eager_start numbers steps differently per Python", "leave eager_start out"

    def _follow(self, fn: Callable[..., Any]) -> None:
        if fn.__module__ == self._module and fn not in self._seen:
            self._seen.add(fn)
            self._waiting.append(fn)


def _attribute(node: ast.Attribute, names: Names) -> Iterator[tuple[int, str, str, str]]:
    owner = names.value(node.value)
    if isinstance(owner, CurrentAttempt):
        yield node.lineno, "attempt", f"action.{node.attr} is known only in an action", "wf.info(), wf.now()"
    elif isinstance(owner, Action) and node.attr == "fn":
        yield node.lineno, "io", f"{owner.name}.fn is the plain function: not durable", f"await {owner.name}(…)"
    elif is_environment(names.qualified(node) or ""):
        yield from _refused(node, "os.environ")


def _refused(node: ast.expr, name: str) -> Iterator[tuple[int, str, str, str]]:
    why = why_forbidden(name)
    if why is not None:
        shown = name.removeprefix("builtins.")
        yield node.lineno, why.code, f"{shown} {why.reason}", why.replacement


def _is_set(node: ast.AST, names: Names) -> bool:
    """Whether an expression is certainly a set: a display, a comprehension, a call of set or frozenset."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp):
        return _is_set(node.left, names) or _is_set(node.right, names)
    return isinstance(node, ast.Call) and names.qualified(node.func) in ("builtins.set", "builtins.frozenset")
