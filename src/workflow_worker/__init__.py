"""Durable workflows in plain async Python on Redis Streams.

The names below are the public API. Those of the authoring side are here at once; `Client`, `WorkerService` and
`WorkflowWorker` bring Redis and the rest with them, so they are imported when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workflow_worker.app.attempt import action
from workflow_worker.app.registry import App
from workflow_worker.errors.classifier import Rule
from workflow_worker.errors.recover import Recover
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.errors.verdict import Fail, Park
from workflow_worker.model.event import Event
from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.settings import Settings
from workflow_worker.runtime import wf

if TYPE_CHECKING:
    from workflow_worker.client.client import Client
    from workflow_worker.service.service import WorkerService
    from workflow_worker.worker.worker import WorkflowWorker

__version__ = "0.1.0"

__all__ = [
    "App",
    "Client",
    "ErrorKind",
    "Event",
    "Fail",
    "Park",
    "Recover",
    "RetryPolicy",
    "Rule",
    "Settings",
    "WorkerService",
    "WorkflowWorker",
    "__version__",
    "action",
    "wf",
]

_ON_DEMAND = {
    "Client": "workflow_worker.client.client",
    "WorkerService": "workflow_worker.service.service",
    "WorkflowWorker": "workflow_worker.worker.worker",
}


def __getattr__(name: str) -> Any:
    module = _ON_DEMAND.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
