"""`FitnessWatch`: looks again, now and then, whether the server is fit for the guarantees.

It was, or the service would not have started. But its settings can be changed while it runs, and after an outage
another server can stand in for it.
"""

from __future__ import annotations

import asyncio

from workflow_worker.client.opening import OpenStore
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.service.facts import EmitAny, ServerUnfit

_ANSWER_WITHIN_S = 5.0


class FitnessWatch:
    """`open_checked` opens a store only on a server that is fit. Each reason is reported once, until it is gone."""

    def __init__(self, open_checked: OpenStore, emit: EmitAny) -> None:
        self._open_checked = open_checked
        self._emit = emit
        self._told = ""

    async def run(self, every_s: float) -> None:
        """Look every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.look()

    async def look(self) -> None:
        """Look once. Whether the server answers at all is `StoreWatch`'s to say."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                store = await self._open_checked()
                await store.aclose()
        except (StoreUnavailable, TimeoutError):
            return
        except ConfigurationError as error:
            reason = str(error)
            if reason != self._told:
                self._emit(ServerUnfit(reason))
            self._told = reason
        else:
            self._told = ""
