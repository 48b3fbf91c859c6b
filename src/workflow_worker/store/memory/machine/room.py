"""How much one mailbox, or the early events of one subject, may hold."""

from __future__ import annotations

from collections.abc import Sequence

from workflow_worker.model.ids import INTERNAL_PREFIX
from workflow_worker.store.memory.machine import entries
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.memory.machine.state import Partition, RunState

TOO_MANY = "too many"


def put(p: Partition, run: RunState, entry: Entry, now: int) -> bool:
    """Append to a mailbox; False when it is at its cap, then the copy is a dead letter of that run. What another run
    answers has always room: the run asked for it, and would wait for ever."""
    if _is_full(p, [kept.fields for kept in run.mailbox], p.limits.mailbox_cap) and not _is_internal(entry):
        p.bury(entries.without_via(entry.fields), f"{TOO_MANY}: mail of the run", now, run.ref)
        return False
    run.mailbox.append(entry)
    p.state.counts["deliveries"] += 1
    return True


def _is_full(p: Partition, kept: Sequence[Sequence[bytes]], cap: int) -> bool:
    """Whether a list of entries is at its cap, by number or by bytes. So few that they could not be too many bytes are
    not weighed."""
    if len(kept) >= cap:
        return True
    most = p.limits.mailbox_cap_bytes
    return len(kept) * p.limits.max_event_bytes > most and sum(map(entries.size_of, kept)) >= most


def is_early_full(p: Partition, subject: str) -> bool:
    """Whether the early events of a subject are at their cap."""
    return _is_full(p, [kept.entry.fields for kept in p.state.early.get(subject, ())], p.limits.early_cap)


def _is_internal(entry: Entry) -> bool:
    return (entries.field(entry.fields, b"type") or b"").startswith(INTERNAL_PREFIX.encode())
