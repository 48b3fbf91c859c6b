"""What the checker judges by: what was promised to producers, what actions did, and what anybody can see of the runs.

Nothing here comes from the inside of the product: promises are written by the producers of the chaos run when an event
was acknowledged, effects by the actions themselves, and the rest is read through the public API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

Fate = Literal["starts", "mail", "dead"]


class Promise(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must be seen of one acknowledged event, in the end.

    `starts`: its run exists and has ended in one of `ends`, with these `steps` recorded (by action, how many), none
    other than the `optional` ones besides. `mail`: each of `runs` has recorded it, those of one run in rising `order`.
    `dead`: a dead letter with a reason has it.
    """

    n: int
    id: str
    kind: str
    fate: Fate
    runs: tuple[str, ...] = ()
    order: int = 0
    steps: dict[str, int] = {}
    optional: dict[str, int] = {}
    ends: tuple[str, ...] = ("completed",)
    sequential: bool = True
    """Steps are made one after the other, so their numbers rise in the history."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One line that an action wrote: ``begin``, ``end`` or ``failed`` of one attempt; `at` is monotonic, in ns."""

    word: str
    run: str
    step: int
    action: str
    key: str
    attempt: int
    token: int
    pid: int
    at: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Armed:
    """A worker process said at which point it would die or stop."""

    pid: int
    point: str
    way: str
    at: int


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects file, read. `torn` counts lines that cannot be read: a process died within its write."""

    effects: tuple[Effect, ...]
    armed: tuple[Armed, ...] = ()
    torn: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded result, in the order of the history: which attempt it was (`nonce`) and under which `token`."""

    number: int
    action: str
    nonce: str
    token: int
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class SeenRun:
    """One run, as the public API shows it at rest. `events` are the ids of its recorded mail, in order."""

    ref: str
    status: str
    owner: str = ""
    token: int = 0
    mails: int = 0
    takeovers: int = 0
    resumed: int = 0
    """How often a person let it go on after it was suspended."""
    steps: tuple[Step, ...] = ()
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenLetter:
    """One dead letter."""

    event_id: str
    reason: str
    run: str = ""


@dataclass(frozen=True)
class Seen:
    """Everything that an outsider can see after the faults are over and the work has come to rest."""

    runs: dict[str, SeenRun]
    letters: tuple[SeenLetter, ...] = ()
    audit: dict[str, object] = field(default_factory=lambda: {"balanced": True})
    workers: frozenset[str] = frozenset()
    """Names of the worker processes that live: a session's name begins with its worker's."""
    total: int | None = None
    """How many runs the service counts; None: it was not asked."""
    unsure: int = 0
    """Events that were sent and never acknowledged: each may have a run of its own."""


_promises = msgspec.json.Decoder(Promise)


def read_promises(paths: Iterable[Path]) -> list[Promise]:
    """Promises that producers wrote down, one JSON object a line; a torn last line was not acknowledged to anybody."""
    found: dict[int, Promise] = {}
    for path in paths:
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                promise = _promises.decode(line)
            except msgspec.DecodeError:
                continue
            found.setdefault(promise.n, promise)
    return [found[n] for n in sorted(found)]


def read_effects(path: Path) -> Effects:
    """What the actions wrote, in the order in which they wrote it."""
    effects: list[Effect] = []
    armed: list[Armed] = []
    torn = 0
    for words in _lines(path):
        match words:
            case ["armed", pid, point, way, at]:
                armed.append(Armed(int(pid), point, way, int(at)))
            case ["begin" | "end" | "failed" as word, run, step, action, key, attempt, token, pid, at, nonce]:
                effects.append(
                    Effect(word, run, int(step), action, key, int(attempt), int(token), int(pid), int(at), nonce)
                )
            case _:
                torn += 1
    return Effects(tuple(effects), tuple(armed), torn)


def _lines(path: Path) -> Iterator[list[str]]:
    if path.exists():
        with path.open() as lines:
            for line in lines:
                yield line.split()
