"""Reading a run's history: its records, and what the worker must know of them, in one look. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.record import AttemptFailed, Record, RunResumed, RunStarted, decode_record


class History(msgspec.Struct, frozen=True):
    """A history as the store has it."""

    records: list[Record]
    begun: bool
    """Whether its first commit was made; one that a person resumed before that has records, too."""
    last_at: int
    failed_transiently: dict[int, int]
    """How often each step has, since a person last let the run go on."""

    @property
    def executed(self) -> bool:
        """Whether a worker has executed behind its last record: of records only a person's resume has none."""
        return bool(self.records) and not isinstance(self.records[-1], RunResumed)


def read_history(raw: Sequence[bytes]) -> History:
    """Decode a history.

    Raises:
        msgspec.DecodeError: A newer release has written it, or it is damaged.
    """
    records: list[Record] = []
    failed: dict[int, int] = {}
    begun, last_at = False, 0
    for one in raw:
        record = decode_record(one)
        records.append(record)
        last_at = max(last_at, record.at)
        kind = type(record)
        if kind is RunStarted:
            begun = True
        elif kind is RunResumed:
            failed.clear()
        elif isinstance(record, AttemptFailed) and counts_as_transient(record):
            failed[record.number] = failed.get(record.number, 0) + 1
    return History(records, begun, last_at, failed)


def counts_as_transient(record: AttemptFailed) -> bool:
    """Whether an attempt of the action itself failed transiently; those of a recovery are its own."""
    of_recovery = record.recovery is not None and record.recovery.attempts > 0
    return record.failure.kind is ErrorKind.TRANSIENT and not of_recovery
