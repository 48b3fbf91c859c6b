"""The simulated workflows: pure functions from what is recorded to what must happen next.

Records are tuples here: ``("mail", entry, type, subject)``, ``("step", number, at)``, ``("timer",)``,
``("fail", step)``, ``("resumed",)`` and ``("round", number)``, with which a history begins that continues another.
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


@dataclass(frozen=True, slots=True)
class Wish:
    """A follow-up event, perhaps for one run alone, perhaps later."""

    number: int
    type: str
    to: tuple[str, str] | None = None
    delay: int = 0


@dataclass(slots=True)
class Demand:
    """What a run wants with these records: one step, or mail and a wake, or another round, or its end."""

    step: int | None = None
    waits: set[Wait] = field(default_factory=set[Wait])
    wake: int | None = None
    end: str | None = None
    round: int | None = None
    emits: list[Wish] = field(default_factory=list[Wish])


ANSWER = "ww.done"
"""What a child tells its parent: a type that nobody declares."""

LAST_STEP = {"A": 1, "B": 2, "C": 2, "D": 1, "P": 1, "Z": 1, "H": 2, "K": 1, "R": 1}

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
    "h": Route(True, (StartRoute("H", 1, ("=h-", "id")),)),
    "k": Route(True, (StartRoute("K", 1),)),
    "r": Route(True, (StartRoute("R", 1, ("subject",), restart=True),)),
}
"""What the first release declares."""

LATER_ROUTES = {**ROUTES, "late": Route(True, (StartRoute("A", 1),)), "a": Route(True, (StartRoute("A", 2),))}
"""What the second release declares."""


@dataclass(slots=True)
class Seen:
    """What stands in a history, as far as a workflow asks."""

    steps: dict[int, int] = field(default_factory=dict[int, int])
    own: int = 0
    other: int = 0
    rounds: int = 0
    timer: bool = False
    answered: bool = False
    cancelled: bool = False


def read(records: list[Record], last: int, subject: str | None, elsewhere: str) -> Seen:
    """Read a history; a cancel request behind the `last` step comes too late."""
    seen = Seen()
    for record in records:
        match record:
            case ("step", int(number), int(at)):
                seen.steps[number] = at
            case ("round", int(number)):
                seen.rounds = number
            case ("timer",):
                seen.timer = True
            case ("mail", _, kind, about):
                seen.cancelled = seen.cancelled or (kind == CANCEL_TYPE and last not in seen.steps)
                seen.answered = seen.answered or kind == ANSWER
                seen.own += kind == "ev" and about == subject
                seen.other += kind == "ev" and about == elsewhere
            case _:
                continue
    return seen


def demand(ref: RunRef, subject: str | None, records: list[Record]) -> Demand:
    """What the workflow of this run asks for after these records."""
    kind, _, run_id = ref.partition(":")
    mark = zlib.crc32(ref.encode())
    elsewhere = f"s{mark % SUBJECTS}"
    seen, wants = read(records, LAST_STEP[kind], subject, elsewhere), Demand()
    if kind == "B" and 1 in seen.steps:
        wants.emits.append(Wish(1, "G"))
    if kind == "H" and 1 in seen.steps:
        wants.emits.append(Wish(1, "k", ("K", run_id), 60 * (mark % 2)))
    if seen.cancelled:
        if UNDO in seen.steps:
            wants.end = "cancelled"
        else:
            wants.step = UNDO
        return wants
    match kind:
        case "B":
            _collect(seen, 200 + mark % 1_500, wants)
        case "C":
            _listen(seen, mark, elsewhere, wants)
        case "H":
            _ask(seen, 500 + mark % 900, wants)
        case "R":
            _go_round(seen, 1 + mark % 3, wants)
        case "K":
            _simple(seen, Wish(1, ANSWER, ("H", run_id), mark % 3 * 90), wants)
        case "D":
            _simple(seen, Wish(1, "G"), wants)
        case _:
            _simple(seen, None, wants)
    return wants


def _simple(seen: Seen, emit: Wish | None, wants: Demand) -> None:
    """One step, and perhaps an emit at the end."""
    if 1 not in seen.steps:
        wants.step = 1
        return
    wants.end = "completed"
    if emit is not None:
        wants.emits.append(emit)


def _collect(seen: Seen, span: int, wants: Demand) -> None:
    """A step and an emit, then two events of the own subject or a timer, then a step and another emit."""
    if 1 not in seen.steps:
        wants.step = 1
    elif seen.own < 2 and not seen.timer:
        wants.wake = seen.steps[1] + span
    elif 2 not in seen.steps:
        wants.step = 2
    else:
        wants.end = "completed"
        wants.emits.append(Wish(2, "F"))


def _listen(seen: Seen, mark: int, elsewhere: str, wants: Demand) -> None:
    """A step (half of the runs wait already meanwhile), then an event of another subject or a timer, then a step."""
    if 1 not in seen.steps:
        wants.step = 1
        if mark % 2:
            wants.waits = {("ev", elsewhere)}
    elif not seen.other and not seen.timer:
        wants.wake = seen.steps[1] + 300 + mark % 2_000
        wants.waits = {("ev", elsewhere)}
    elif 2 not in seen.steps:
        wants.step = 2
    else:
        wants.end = "completed"


def _ask(seen: Seen, span: int, wants: Demand) -> None:
    """A step, a child, then its answer or a timer, then a step."""
    if 1 not in seen.steps:
        wants.step = 1
    elif not seen.answered and not seen.timer:
        wants.wake = seen.steps[1] + span
    elif 2 not in seen.steps:
        wants.step = 2
    else:
        wants.end = "completed"


def _go_round(seen: Seen, rounds: int, wants: Demand) -> None:
    """A step and an emit, again and again, each time with a history of its own."""
    if 1 not in seen.steps:
        wants.step = 1
        return
    wants.emits.append(Wish(1, "G"))
    if seen.rounds < rounds:
        wants.round = seen.rounds + 1
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
