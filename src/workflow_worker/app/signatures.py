"""How a function's annotations are read: lazily, because they may name classes that are defined later."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from workflow_worker.app.places import place_of
from workflow_worker.model.exceptions import UsageError


def hints_of(kind: str, name: str, fn: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of `fn`, resolved; `names` are known besides those of its module.

    Raises:
        UsageError: An annotation names something that its module does not have.
    """
    closure = getattr(fn, "__closure__", None) or ()
    free = getattr(getattr(fn, "__code__", None), "co_freevars", ())
    known = dict(names)
    for variable, cell in zip(free, closure, strict=False):
        try:
            known[variable] = cell.cell_contents
        except ValueError:
            continue  # a cell that is still empty
    try:
        return get_type_hints(fn, localns=known, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise UsageError(
            f"the annotations of {kind} {name!r} ({place_of(fn)}) cannot be resolved: {error}. Define or import the"
            " type at the top level of its module, and not under `if TYPE_CHECKING:`"
        ) from error


def classes_around(fn: Callable[..., Any]) -> dict[str, type]:
    """Classes defined so far in the function that `fn` is being declared in, as tests do; empty at module level."""
    *_, enclosing, local, _name = ["", "", *fn.__qualname__.split(".")]
    frame = inspect.currentframe() if local == "<locals>" else None
    while frame is not None:
        if frame.f_code.co_name == enclosing and frame.f_globals.get("__name__") == fn.__module__:
            return {name: found for name, found in frame.f_locals.items() if isinstance(found, type)}
        frame = frame.f_back
    return {}
