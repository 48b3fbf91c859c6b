"""What `check` finds in an app, for the log of its workers.

The guards of a running worker cannot see everything: ``datetime.now`` is a method of a C type, which can be neither
wrapped nor audited, and watching every call would make workflow code three times as slow. So a worker reads the code
once, when it starts.
"""

from __future__ import annotations

from workflow_worker.app.check import check
from workflow_worker.app.registry import App

_MOST = 20
_UNREADABLE = (AttributeError, LookupError, NameError, OSError, RuntimeError, SyntaxError, TypeError, ValueError)
"""What reading strange code may raise; it may run all the same."""


def suspicions(app: App) -> tuple[str, ...]:
    """One line for each finding, ``path:line: [code] what; instead: what to write``."""
    try:
        found = check(app)
    except _UNREADABLE as error:
        return (f"the code could not be checked: {type(error).__qualname__}: {error}",)
    return tuple(map(str, found[:_MOST]))
