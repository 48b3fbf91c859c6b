"""What the service itself reports, beside the facts of its workers (`model/facts.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workflow_worker.model.facts import Fact


@dataclass(frozen=True, slots=True)
class ServiceStarted:
    """The first workers are about to start. `server` is Redis' address without its password, `web` that of the web
    server; empty without one."""

    app: str
    workers: int
    server: str
    namespace: str
    web: str = ""


@dataclass(frozen=True, slots=True)
class NothingToRun:
    """A worker's app declares no workflow: it was only begun, or the wrong attribute was named."""

    app: str


@dataclass(frozen=True, slots=True)
class CodeSuspected:
    """What ``workflow-worker check`` says of an app, found by a worker at its start; at most twenty lines."""

    app: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceDraining:
    """A signal or a caller asked the service to end; `hurry`: more than once."""

    hurry: bool


@dataclass(frozen=True, slots=True)
class ServiceStopped:
    """All workers have ended and handed back what they held."""


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A worker process was started in this slot; `restart` when one died there before."""

    worker: str
    slot: int
    pid: int
    restart: bool


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A worker process ended: as `planned`, or it died with this code (negative: the signal).

    `reason` is what the worker itself had to say, `restart_in_ms` when the next one starts in its slot.
    """

    worker: str
    slot: int
    pid: int
    code: int
    planned: bool
    reason: str = ""
    restart_in_ms: int = 0


@dataclass(frozen=True, slots=True)
class ProcessKilled:
    """The service sent SIGKILL."""

    worker: str
    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A dead worker's runs were handed back at once instead of at the end of their lease."""

    worker: str
    session: str


@dataclass(frozen=True, slots=True)
class Scaled:
    """The number of workers wanted has changed."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """The judgement of the service differs from the last one; `reasons` say why it is not better."""

    before: str
    after: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricsReported:
    """The regular line of numbers."""

    numbers: dict[str, int | float]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """All workers run the new code."""

    files: tuple[str, ...]
    took_ms: int


@dataclass(frozen=True, slots=True)
class ReloadRefused:
    """The new code does not start; the workers with the old code go on."""

    files: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ServerRestarted:
    """The embedded server had died."""

    server: str


@dataclass(frozen=True, slots=True)
class ServerQuestioned:
    """The server works, and something about it wants a person's look."""

    reason: str


@dataclass(frozen=True, slots=True)
class ServerUnfit:
    """The server in use would be refused at a start: it was set up anew, or another one stands in for it."""

    reason: str


ServiceFact = (
    ServiceStarted
    | NothingToRun
    | CodeSuspected
    | ServiceDraining
    | ServiceStopped
    | ProcessStarted
    | ProcessEnded
    | ProcessKilled
    | SessionClosed
    | Scaled
    | HealthChanged
    | MetricsReported
    | Reloaded
    | ReloadRefused
    | ServerRestarted
    | ServerQuestioned
    | ServerUnfit
)

EmitAny = Callable[[Fact | ServiceFact], None]
"""A subscriber of both kinds; synchronous, does not block, does not raise."""
