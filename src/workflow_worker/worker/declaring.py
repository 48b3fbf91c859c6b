"""The part of a worker that tells the store which schedules its app declares."""

from __future__ import annotations

import asyncio

from workflow_worker.app.registry import App
from workflow_worker.client.declaring import declare_schedules
from workflow_worker.model.environment import Environment
from workflow_worker.store.protocol import Store
from workflow_worker.worker.part import Patience

_AGAIN_S = 60.0
"""While memory is too scarce to begin a schedule."""


class ScheduleDeclarer:
    """Declares them when the worker starts, and again when the namespace is another one (FLUSHALL, a restored server);
    not now and then: in a rolling deploy old and new releases would undo each other's word."""

    def __init__(self, store: Store, app: App, patience: Patience, environment: Environment) -> None:
        self._store = store
        self._app = app
        self._patience = patience
        self._environment = environment
        self._mark = ""
        self._wanted = asyncio.Event()

    def session_opened(self, mark: str) -> None:
        """The worker works on the namespace with this mark now."""
        if mark != self._mark:
            self._mark = mark
            self._wanted.set()

    async def run(self) -> None:
        """Declare when there is a reason to."""
        while self._app.schedules:
            await self._wanted.wait()
            self._wanted.clear()
            while await self._patience.call(lambda: declare_schedules(self._store, self._app)) is False:
                await self._environment.sleep(_AGAIN_S)
