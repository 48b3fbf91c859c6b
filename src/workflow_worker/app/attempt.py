"""What an action sees of its own attempt: ``from workflow_worker import action``, then ``action.idempotency_key``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from typing import Protocol

import msgspec

from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunView


class AttemptLog(Protocol):
    """A logger that adds run, action and attempt to every line by itself."""

    def debug(self, event: str, **fields: object) -> None:
        """Details for whoever looks for an error."""
        ...

    def info(self, event: str, **fields: object) -> None:
        """What happened."""
        ...

    def warning(self, event: str, **fields: object) -> None:
        """Something was wrong and was put right."""
        ...

    def error(self, event: str, **fields: object) -> None:
        """Something that a person should look at."""
        ...


class AttemptContext(msgspec.Struct, frozen=True):
    """One attempt of one action, as the worker knows it. `beat` is called by ``action.heartbeat()``."""

    run: str
    action: str
    step: int
    attempt: int
    idempotency_key: str
    fencing_token: int
    log: AttemptLog
    beat: Callable[[], None] | None = None
    look: Callable[[RunRef], Awaitable[RunView | None]] | None = None
    """Reads a run from the store that the worker works on."""


Attempted = AttemptContext | Callable[[], AttemptContext]
"""An attempt as its context, or what makes one when it is asked for, because most bodies never ask."""

_current: ContextVar[Attempted | None] = ContextVar("workflow_worker_attempt", default=None)

enter_attempt: Callable[[Attempted], Token[Attempted | None]] = _current.set
"""Make that what ``action`` shows in this task or thread and all that it starts, until `leave_attempt` of what comes
back. Without a ``with``: a worker does it for each attempt."""
leave_attempt: Callable[[Token[Attempted | None]], None] = _current.reset
"""The end of `enter_attempt`, in the same context."""


class AttemptScope:
    """What `attempt_context` returns. A class, because a generator's context manager costs five times as much."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: AttemptContext) -> None:
        self._context = context
        self._token: Token[Attempted | None] | None = None

    def __enter__(self) -> AttemptContext:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _current.reset(self._token)


def attempt_context(context: AttemptContext) -> AttemptScope:
    """Make `context` what ``action`` shows, in this task or thread and all that it starts: ``with`` it, once."""
    return AttemptScope(context)


class CurrentAttempt:
    """The attempt that the calling code is part of; every attribute raises `UsageError` outside one."""

    __slots__ = ()

    @property
    def run(self) -> str:
        """Full name of the run, ``<workflow>:<id>``."""
        return _here("run").run

    @property
    def name(self) -> str:
        """The action's name."""
        return _here("name").action

    @property
    def step(self) -> int:
        """The number of this call in its run."""
        return _here("step").step

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1, then 2, …"""
        return _here("attempt").attempt

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this step, and of no other: give it to the service that you call."""
        return _here("idempotency_key").idempotency_key

    @property
    def fencing_token(self) -> int:
        """Rises with every lease of the run: let a resource refuse whoever brings a lower one than it has seen."""
        return _here("fencing_token").fencing_token

    @property
    def log(self) -> AttemptLog:
        """``action.log.info("sent", to=address)``: a line with run, action and attempt added."""
        return _here("log").log

    def heartbeat(self) -> None:
        """Tell the worker that a long attempt is alive; does nothing under a worker that does not ask for it."""
        beat = _here("heartbeat()").beat
        if beat is not None:
            beat()

    def __repr__(self) -> str:
        context = _shown()
        return "<action: no attempt>" if context is None else f"<action: {context.action} of {context.run}>"


action = CurrentAttempt()
"""The current attempt."""


async def look_at(ref: RunRef) -> RunView | None:
    """What the store knows of a run now; for actions of our own.

    Raises:
        UsageError: The calling code is no attempt, or its worker gives no look at the store.
        StoreUnavailable: The store does not answer.
    """
    look = _here("look").look
    if look is None:
        raise UsageError(f"the worker that performs this attempt gives no look at run {ref}")
    return await look(ref)


def _shown() -> AttemptContext | None:
    attempted = _current.get()
    return attempted() if callable(attempted) else attempted


def _here(name: str) -> AttemptContext:
    context = _shown()
    if context is None:
        raise UsageError(
            f"action.{name} is known only while a worker performs an action. In a workflow use wf.info(); in a test of"
            " an action, call it inside `with attempt_context(AttemptContext(...))`"
        )
    return context
