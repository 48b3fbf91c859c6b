"""Durable workflows in plain async Python on Redis Streams."""

from workflow_worker.app.attempt import action
from workflow_worker.app.registry import App
from workflow_worker.errors.classifier import Rule
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.errors.verdict import Fail, Park
from workflow_worker.model.event import Event
from workflow_worker.model.failure import ErrorKind
from workflow_worker.runtime import wf

__version__ = "0.1.0"

__all__ = [
    "App",
    "ErrorKind",
    "Event",
    "Fail",
    "Park",
    "RetryPolicy",
    "Rule",
    "__version__",
    "action",
    "wf",
]
