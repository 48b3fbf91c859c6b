"""Workflows that every app has, for what the runtime itself needs: the keeper of locks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from workflow_worker.app.events import EventCatalogue
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.internal import LOCK_WORKFLOW
from workflow_worker.runtime.execution import current_execution
from workflow_worker.runtime.locks import keep_lock


class LockKeeper(WorkflowDefinition):
    """The workflow behind ``wf.lock``: one run for each name, while somebody holds it or waits for it."""

    def main(self, event: Event, catalogue: EventCatalogue) -> Callable[[], Coroutine[Any, Any, Any]]:
        """What starts the run; its start event is a request, or what the history before it knew."""
        return functools.partial(_keep, event.data)


async def _keep(data: bytes) -> None:
    execution = current_execution()
    if execution is None:
        raise UsageError("the keeper of a lock runs in a worker")
    await keep_lock(execution.letters.locks, data, lambda: execution.info().records)


def lock_keeper() -> LockKeeper:
    """The definition, for an app's registry."""
    return LockKeeper(LOCK_WORKFLOW, 1, _keep, None, (), True, __name__, dict)
