"""The simulated workflows: pure functions from what is recorded to what must happen next.

Records are tuples here: ``("mail", entry, type, subject)``, ``("step", number, at)``, ``("timer",)``,
``("fail", step)`` and ``("resumed",)``.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import msgspec

from workflow_worker.model.ids import CANCEL_TYPE, RunRef
from workflow_worker.store.transitions import Route, StartRoute

Record = tuple[str | int | None, ...]
Wait = tuple[str, str]

SUBJECTS = 5
UNDO = 9
"""The step that a cancelled run takes before it ends."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[str | int | None, ...])


def encode(record: Record) -> bytes:
    """A record as the store keeps it."""
    return _ENCODER.encode(record)


def decode(raw: bytes) -> Record:
    """The inverse of `encode`."""
    return _DECODER.decode(raw)


@dataclass(slots=True)
class Demand:
    """What a run wants with these records: one step, or mail and a wake, or its end. `emits` are (number, type)."""

    step: int | None = None
    waits: set[Wait] = field(default_factory=set[Wait])
    wake: int | None = None
    end: str | None = None
    emits: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


LAST_STEP = {"A": 1, "B": 2, "C": 2, "D": 1, "P": 1, "Z": 1}

ROUTES = {
    "a": Route(True, (StartRoute("A", 1),)),
    "b": Route(True, (StartRoute("B", 1, ("subject",), restart=True),)),
    "c": Route(True, (StartRoute("C", 1, ("=c-", "id")),)),
    "ac": Route(True, (StartRoute("A", 1), StartRoute("C", 1, ("=c-", "id")))),
    "once": Route(True, (StartRoute("A", 1, ("=once-", "subject")),)),
    "free": Route(False, (StartRoute("A", 1),)),
    "pre.*": Route(True, (StartRoute("A", 1, ("=pre-", "id")),)),
    "pre.mail.*": Route(True),
    "F": Route(True, (StartRoute("D", 1),)),
    "G": Route(True),
    "ev": Route(True),
    "p": Route(True, (StartRoute("P", 1),)),
    "z": Route(True, (StartRoute("Z", 1),)),
}
"""What the first release declares."""

LATER_ROUTES = {**ROUTES, "late": Route(True, (StartRoute("A", 1),)), "a": Route(True, (StartRoute("A", 2),))}
"""What the second release declares."""


def demand(ref: RunRef, subject: str | None, records: list[Record]) -> Demand:
    """What the workflow of this run asks for after these records."""
    kind = ref.partition(":")[0]
    steps: dict[int, int] = {}
    own: int = 0
    other: int = 0
    cancelled = timer = False
    mark = zlib.crc32(ref.encode())
    elsewhere = f"s{mark % SUBJECTS}"
    last = LAST_STEP[kind]
    for record in records:
        word = record[0]
        if word == "step" and isinstance(record[1], int) and isinstance(record[2], int):
            steps[record[1]] = record[2]
        elif word == "timer":
            timer = True
        elif word == "mail":
            cancelled = cancelled or (record[2] == CANCEL_TYPE and last not in steps)
            own += record[2] == "ev" and record[3] == subject
            other += record[2] == "ev" and record[3] == elsewhere
    wants = Demand()
    if kind == "B" and 1 in steps:
        wants.emits.append((1, "G"))
    if cancelled:
        if UNDO in steps:
            wants.end = "cancelled"
        else:
            wants.step = UNDO
    elif kind in "ADPZ":
        _simple(kind, steps, wants)
    elif kind == "B":
        _collect(steps, own, timer, 200 + mark % 1_500, wants)
    else:
        _listen(steps, other, timer, mark, elsewhere, wants)
    return wants


def _simple(kind: str, steps: dict[int, int], wants: Demand) -> None:
    """One step; ``D`` emits at its end."""
    if 1 not in steps:
        wants.step = 1
        return
    wants.end = "completed"
    if kind == "D":
        wants.emits.append((1, "G"))


def _collect(steps: dict[int, int], own: int, timer: bool, span: int, wants: Demand) -> None:
    """A step and an emit, then two events of the own subject or a timer, then a step and another emit."""
    if 1 not in steps:
        wants.step = 1
    elif own < 2 and not timer:
        wants.wake = steps[1] + span
    elif 2 not in steps:
        wants.step = 2
    else:
        wants.end = "completed"
        wants.emits.append((2, "F"))


def _listen(steps: dict[int, int], other: int, timer: bool, mark: int, elsewhere: str, wants: Demand) -> None:
    """A step (half of the runs wait already meanwhile), then an event of another subject or a timer, then a step."""
    early = bool(mark % 2)
    if 1 not in steps:
        wants.step = 1
        if early:
            wants.waits = {("ev", elsewhere)}
    elif not other and not timer:
        wants.wake = steps[1] + 300 + mark % 2_000
        wants.waits = {("ev", elsewhere)}
    elif 2 not in steps:
        wants.step = 2
    else:
        wants.end = "completed"


def judge(ref: RunRef, subject: str | None, records: list[Record], status: str) -> str:
    """What is wrong with a finished history; empty if nothing is. Every step must have been asked for by what came
    before it, once, and the end by the whole."""
    done: set[object] = set()
    for index, record in enumerate(records):
        if record[0] == "step":
            if record[1] in done:
                return f"step {record[1]} twice"
            done.add(record[1])
            if demand(ref, subject, records[:index]).step != record[1]:
                return f"step {record[1]} was not asked for"
        elif record[0] == "timer" and demand(ref, subject, records[:index]).wake is None:
            return "a timer fired that was not asked for"
    return "" if demand(ref, subject, records).end == status else f"{status} is not what the history ends with"
