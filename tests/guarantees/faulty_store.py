"""Stores that pass every verb on and do harm on the way: they lose answers, or kill their process."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Ingested, Ticked


@dataclass(frozen=True)
class Crash:
    """The process dies, as by ``kill -9``, around the `nth` call of a verb: ``before`` it is sent, ``after`` its answer
    came and before anything was made of it, or ``moved``: after the n-th answer that moved or brought something."""

    verb: str
    when: str
    nth: int = 1


class DyingStore:
    """Passes every verb on, and kills its process at one of them."""

    def __init__(self, store: Store, crash: Crash) -> None:
        self._store = store
        self._crash = crash
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name == "wait_for_work" and self._crash.verb == "ingest":
            return self._around_sleep(verb)
        return self._around(verb) if name == self._crash.verb else verb

    def _around(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **named: Any) -> Any:
            if self._crash.when == "before":
                self._count()
            answer = await verb(*args, **named)
            if self._crash.when == "after" or (self._crash.when == "moved" and _moved(answer)):
                self._count()
            return answer

        return call

    def _around_sleep(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        """A sleep may end with the answer to the ingest that was sent behind it."""

        async def call(*args: Any, **named: Any) -> Any:
            answer = await verb(*args, **named)
            ingested = not isinstance(answer, bool)
            if (self._crash.when == "after" and ingested) or (self._crash.when == "moved" and _moved(answer)):
                self._count()
            return answer

        return call

    def _count(self) -> None:
        self._calls += 1
        if self._calls == self._crash.nth:
            os.kill(os.getpid(), signal.SIGKILL)


def _moved(answer: object) -> bool:
    match answer:
        case Ticked():
            return answer.moved > 0
        case Ingested():
            return bool(answer.runs)
        case _:
            return False


class LossyStore:
    """Passes every verb on, and loses answers after the server did what it was asked for."""

    def __init__(self, store: Store, loses: Callable[[str], bool]) -> None:
        self._store = store
        self._loses = loses

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name in ("hints", "aclose") or not inspect.iscoroutinefunction(verb):
            return verb

        async def call(*args: Any, **named: Any) -> Any:
            answer = await verb(*args, **named)
            if self._loses(name):
                raise StoreUnavailable(f"the answer to {name} was lost on the way")
            return answer

        return call
