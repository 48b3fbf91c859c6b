"""The closed union of history records: the append-only truth of a run.

Each record is one msgpack array whose first element is its tag. `at` is the server's time in milliseconds when the
thing happened; in a replay it is the run's clock. `number` is the number of the call in the workflow's code.
"""

from __future__ import annotations

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.model.failure import Failure
from workflow_worker.model.recovery import Recovery


class RunStarted(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """First record of a run: which Python and which release wrote what follows."""

    at: int
    python: str
    release: str


class EventReceived(msgspec.Struct, frozen=True, array_like=True, tag="event"):
    """Mail taken in, wanted or not; its place in the history is the order in which the run saw it."""

    at: int
    entry: str
    event: Event


class CancelRequested(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """A person asked the run to end; delivered as `asyncio.CancelledError`."""

    at: int
    entry: str
    by: str
    reason: str


class ActionCompleted(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """An action's result, recorded once."""

    at: int
    number: int
    name: str
    checksum: int
    result: bytes
    attempts: int = 1
    took_ms: int = 0


class ActionRaised(msgspec.Struct, frozen=True, array_like=True, tag="raised"):
    """An action's final error, raised at its ``await`` because its policy says ``Fail()``."""

    at: int
    number: int
    name: str
    checksum: int
    failure: Failure


class AttemptFailed(msgspec.Struct, frozen=True, array_like=True, tag="attempt"):
    """One attempt failed; the next starts at `due`, behind the `recovery` if there is one. Workflow code does not see
    it. Where the recovery has `attempts`, its own attempt failed, and `attempt` is still the last of the action."""

    at: int
    number: int
    name: str
    checksum: int
    failure: Failure
    attempt: int
    due: int
    recovery: Recovery | None = None


class ActionParked(msgspec.Struct, frozen=True, array_like=True, tag="parked"):
    """An action's final error suspends the run at this step; a resume tries the step again. `reason` is that of
    ``Park(reason)``."""

    at: int
    number: int
    name: str
    checksum: int
    failure: Failure
    attempts: int
    reason: str = ""


class TimerFired(msgspec.Struct, frozen=True, array_like=True, tag="timer"):
    """A durable timer came due; `due` is what the code had asked for."""

    at: int
    number: int
    due: int


class RunSuspended(msgspec.Struct, frozen=True, array_like=True, tag="suspended"):
    """The run as a whole needs a person: unexpected error in workflow code, non-determinism, poison pill."""

    at: int
    failure: Failure


class RunResumed(msgspec.Struct, frozen=True, array_like=True, tag="resumed"):
    """A person let a suspended run go on."""

    at: int
    by: str
    note: str = ""


class RunCompleted(msgspec.Struct, frozen=True, array_like=True, tag="completed"):
    """The workflow returned. `unmatched` names the mail that no ``wait_for`` took."""

    at: int
    result: bytes
    unmatched: tuple[str, ...] = ()


class RunFailed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The workflow raised ``wf.Failed``, or its start event was rejected."""

    at: int
    failure: Failure
    unmatched: tuple[str, ...] = ()


class RunCancelled(msgspec.Struct, frozen=True, array_like=True, tag="cancelled"):
    """The workflow ended by cancellation."""

    at: int
    unmatched: tuple[str, ...] = ()


Record = (
    RunStarted
    | EventReceived
    | CancelRequested
    | ActionCompleted
    | ActionRaised
    | AttemptFailed
    | ActionParked
    | TimerFired
    | RunSuspended
    | RunResumed
    | RunCompleted
    | RunFailed
    | RunCancelled
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """One record as the store keeps it."""
    return _encoder.encode(record)


def decode_record(raw: bytes) -> Record:
    """Read one record back.

    Raises:
        msgspec.DecodeError: The bytes are not a record of this release; a newer release may have written them.
    """
    return _decoder.decode(raw)
