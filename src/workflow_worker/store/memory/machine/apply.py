"""The list of verbs: who knows it knows the machine. `apply` performs one by name, as a simulated network does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_worker.store.memory.machine import arrivals, operations, progress, ticking
from workflow_worker.store.memory.machine.state import Partition


def _add(p: Partition, fields: tuple[bytes, ...], now: int) -> str:
    """A stranger's plain XADD."""
    return p.add(fields, now)


VERBS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "register": arrivals.register,
    "publish": arrivals.publish,
    "ingest": arrivals.ingest,
    "open": progress.open_session,
    "close": progress.close_session,
    "renew": progress.renew,
    "load": progress.load,
    "commit": progress.commit,
    "hand_back": progress.hand_back,
    "tick": ticking.tick,
    "cancel": operations.cancel,
    "resume": operations.resume,
    "redrive": operations.redrive,
    "drop": operations.drop,
    "drop_letters": operations.drop_letters,
}
"""Verb → transition; each takes the partition, its own arguments, and the time in milliseconds as the last one."""


def apply(partition: Partition, verb: str, arguments: tuple[object, ...], now: int) -> object:
    """Perform one transition: `partition` is changed in place, the outcome returned.

    Raises:
        KeyError: There is no such verb.
        ValueError: The arguments break the verb's contract; nothing was changed.
    """
    return VERBS[verb](partition, *arguments, now)
