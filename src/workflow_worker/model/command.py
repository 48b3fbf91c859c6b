"""The closed union of commands: what a run asks of the worker that drives it."""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker.model.failure import Failure


@dataclass(frozen=True, slots=True)
class StartAction:
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


@dataclass(frozen=True, slots=True)
class CancelAction:
    """Nobody waits for this action any more."""

    number: int


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Wake the run at `due`, milliseconds since 1970."""

    number: int
    due: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Nobody waits for this timer any more."""

    number: int


@dataclass(frozen=True, slots=True)
class AddWait:
    """Deliver events of this type about *another* subject too."""

    event_type: str
    subject: str


@dataclass(frozen=True, slots=True)
class RemoveWait:
    """Take an `AddWait` back."""

    event_type: str
    subject: str


@dataclass(frozen=True, slots=True)
class SetState:
    """Publish the run's state, as encoded JSON: readable from outside without a worker."""

    state: bytes


@dataclass(frozen=True, slots=True)
class Complete:
    """The workflow returned this encoded result. `unmatched` lists mail that nobody took."""

    result: bytes
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fail:
    """The workflow raised ``wf.Failed``."""

    failure: Failure
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The workflow ended by cancellation."""

    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspend:
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
    | Complete
    | Fail
    | Cancelled
    | Suspend
)
