"""Clocks that are methods of C types (``datetime.now``), refused in workflow code where functions can be watched.

They can be neither wrapped nor audited, and a profile function for all calls makes workflow code three times as slow.
From Python 3.12 on, the calls of chosen functions can be watched, see
https://docs.python.org/3/library/sys.monitoring.html; a line whose call is no clock is left alone after the first look.
What is watched: functions and methods of the modules that workflows stand in. On 3.11, and for other modules, there are
`check` and the warning at a worker's start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, cast

from workflow_worker.app.registry import App
from workflow_worker.runtime.execution import current_execution
from workflow_worker.worker.guards import clock_name, refuse

_NAME = "workflow-worker"
_IDS = (3, 4)
"""Those that nobody has reserved: the others are a debugger's, coverage's, a profiler's and an optimiser's."""


def watch_clocks(app: App) -> bool:
    """Refuse such clocks in the app's workflows from now on; False where that is not possible."""
    if sys.version_info < (3, 12):
        return False
    return _watch({code for function in _functions_of(app) for code in _codes(function.__code__)})


def _watch(codes: Iterable[CodeType]) -> bool:
    if sys.version_info < (3, 12):
        return False
    monitoring = sys.monitoring
    tool = next((each for each in _IDS if monitoring.get_tool(each) in (None, _NAME)), None)
    if tool is None:
        return False
    if monitoring.get_tool(tool) is None:
        monitoring.use_tool_id(tool, _NAME)

    def called(code: CodeType, offset: int, function: object, argument: object) -> Any:
        del code, offset, argument
        name = clock_name(function)
        if name is None:
            return monitoring.DISABLE
        if current_execution() is not None:
            refuse(name, sys._getframe(1))  # pyright: ignore[reportPrivateUsage] - as in `guards`
        return None

    monitoring.register_callback(tool, monitoring.events.CALL, called)
    for code in codes:
        monitoring.set_local_events(tool, code, monitoring.events.CALL)
    return True


def _functions_of(app: App) -> Iterator[FunctionType]:
    """Workflows, and all that is defined beside them; what runs in an action is let pass when it calls."""
    names = {workflow.fn.__module__ for workflow in app.workflows}
    for workflow in app.workflows:
        if isinstance(workflow.fn, FunctionType):
            yield workflow.fn
    for name in names:
        yield from _defined_in(vars(sys.modules[name]) if name in sys.modules else {}, name)


def _defined_in(found: dict[str, Any], module: str) -> Iterator[FunctionType]:
    for value in list(found.values()):
        if getattr(value, "__module__", None) != module:
            continue
        if isinstance(value, FunctionType):
            yield value
        elif isinstance(value, type):
            members = (getattr(each, "__func__", each) for each in vars(value).values())
            yield from (each for each in members if isinstance(each, FunctionType))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions in it."""
    yield code
    for constant in cast("tuple[object, ...]", code.co_consts):
        if isinstance(constant, CodeType):
            yield from _codes(constant)
