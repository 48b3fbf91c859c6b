"""The closed union of commands: what a run asks of the worker that drives it."""

from __future__ import annotations

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.model.failure import Failure
from workflow_worker.model.recovery import Recovery


class StartAction(msgspec.Struct, frozen=True):
    """Perform an action. `arguments` is its encoded call, `checksum` the crc32 of that, `options` what the call
    changed of the action's policy (None: nothing)."""

    number: int
    name: str
    arguments: bytes
    checksum: int
    attempts: int = 0
    """Attempts that the history already holds."""
    due: int = 0
    """When the next attempt may start (milliseconds since 1970); 0 means now."""
    options: object | None = None
    recovery: Recovery | None = None
    """What must be done before; its `error` is set."""


class CancelAction(msgspec.Struct, frozen=True):
    """Nobody waits for this action any more. With `wait` somebody waits for its end: the attempt is cancelled, and how
    it ended (also that it never began) must be recorded under `name` and `checksum`, whatever its policy says."""

    number: int
    wait: bool = False
    name: str = ""
    checksum: int = 0


class StartTimer(msgspec.Struct, frozen=True):
    """Wake the run at `due`, milliseconds since 1970."""

    number: int
    due: int


class CancelTimer(msgspec.Struct, frozen=True):
    """Nobody waits for this timer any more."""

    number: int


class AddWait(msgspec.Struct, frozen=True):
    """Deliver events of this type about *another* subject too."""

    event_type: str
    subject: str


class RemoveWait(msgspec.Struct, frozen=True):
    """Take an `AddWait` back."""

    event_type: str
    subject: str


class SetState(msgspec.Struct, frozen=True):
    """Publish the run's state, as encoded JSON: readable from outside without a worker."""

    state: bytes


class EmitEvent(msgspec.Struct, frozen=True):
    """Publish a follow-up event with the commit, once: `number` is never given twice in a history.

    `workflow` and `run` (both or neither) address it to one run; `delay_ms` holds it back.
    """

    number: int
    event: Event
    workflow: str | None = None
    run: str | None = None
    delay_ms: int = 0


class MarkPatch(msgspec.Struct, frozen=True):
    """Note in the history that ``wf.patched`` said yes, as an `EventReceived` of type ``ww.patch``."""

    id: str


class Complete(msgspec.Struct, frozen=True):
    """The workflow returned this encoded result. `unmatched` lists mail that nobody took."""

    result: bytes
    unmatched: tuple[str, ...] = ()


class Fail(msgspec.Struct, frozen=True):
    """The workflow raised ``wf.Failed``."""

    failure: Failure
    unmatched: tuple[str, ...] = ()


class Cancelled(msgspec.Struct, frozen=True):
    """The workflow ended by cancellation."""

    unmatched: tuple[str, ...] = ()


class Restart(msgspec.Struct, frozen=True):
    """Continue as new with this encoded input: the history begins again, with the mail at its head that nobody took."""

    data: bytes


class Suspend(msgspec.Struct, frozen=True):
    """The run cannot go on without a person: an unexpected error, or code that does not fit the history."""

    failure: Failure


Command = (
    StartAction
    | CancelAction
    | StartTimer
    | CancelTimer
    | AddWait
    | RemoveWait
    | SetState
    | EmitEvent
    | MarkPatch
    | Complete
    | Fail
    | Cancelled
    | Restart
    | Suspend
)
