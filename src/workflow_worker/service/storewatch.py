"""`StoreWatch`: the service's own look at the store: how much waits, and is the server there at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from workflow_worker.client.opening import OpenStore
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.facts import StoreBack, StoreLost
from workflow_worker.model.ids import SessionId
from workflow_worker.service.facts import EmitAny
from workflow_worker.service.process import monotonic_ms
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Depth

_LOOK_EVERY_S = 1.0
_ANSWER_WITHIN_S = 3.0
_CLOSE_ATTEMPTS = 3


class StoreWatch:
    """One connection, used by the service's loop alone.

    `depth` is what the last look found, None before the first and while the server does not answer: a number that is
    not known must not be shown as one that is. `may_speak` keeps the report of an outage to one line every 5 s among
    the service and its workers.
    """

    def __init__(self, open_store: OpenStore, emit: EmitAny, may_speak: Callable[[], bool]) -> None:
        self._open_store = open_store
        self._emit = emit
        self._may_speak = may_speak
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._lost_at: int | None = None
        self.depth: Depth | None = None

    async def run(self) -> None:
        """Look once a second, for ever.

        Raises:
            ConfigurationError: The server is there and cannot be used as it is set up.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look once, and report what has changed.

        Raises:
            ConfigurationError: As `run`.
        """
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                self.depth = await (await self._ready()).depth()
        except (StoreUnavailable, TimeoutError) as error:
            self.depth = None
            self._lost(str(error) or f"no answer within {_ANSWER_WITHIN_S:.0f} s")
        else:
            self._answered()

    async def close_session(self, session: str, died: bool) -> bool:
        """Hand back what the session of an ended worker holds, counted as takeovers if it `died`; False: the end of its
        lease will do that."""
        for _ in range(_CLOSE_ATTEMPTS):
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    while not await (await self._ready()).close(SessionId(session), died):
                        pass  # 200 runs a call
                return True
            except (StoreUnavailable, TimeoutError):
                await asyncio.sleep(_LOOK_EVERY_S)
        return False

    async def aclose(self) -> None:
        """Close the connection."""
        if self._store is not None:
            with contextlib.suppress(StoreUnavailable):
                await self._store.aclose()

    async def _ready(self) -> Store:
        async with self._opening:
            if self._store is None:
                self._store = await self._open_store()
            return self._store

    def _lost(self, reason: str) -> None:
        now = monotonic_ms()
        if self._lost_at is None:
            self._lost_at = now
        if self._may_speak():
            self._emit(StoreLost("service", reason, now - self._lost_at))

    def _answered(self) -> None:
        if self._lost_at is not None:
            self._emit(StoreBack("service", monotonic_ms() - self._lost_at))
            self._lost_at = None
