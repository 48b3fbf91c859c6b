"""The planned events of a chaos run: a pure function of its seed, each with the promise that its acknowledgement makes.

Subjects of notes are drawn by Zipf's law, so that a few runs get most of the mail; ledgers are opened before or after
their first notes, gates signalled before or after somebody waits. What belongs to one subject stays in one lane: one
producer publishes it in the order of the plan, and that order is a promise.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.support.checker_facts import Promise

MAX_EVENT_BYTES = 120_000
"""MAX_EVENT_BYTES of the services under chaos: one planned event in some thousands is larger, and must be dead."""

_LATE_LEDGERS = 10
_SLOW_AT_MOST = 6
_ANOTHER_WAY = 0.06
"""How often a producer changes the way in which it publishes: what follows each other the same way is one request."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One event to publish. `by` is ``publish`` (the client), ``xadd`` (anybody) or ``bare`` (XADD without an id)."""

    promise: Promise
    type: str
    subject: str | None
    data: bytes
    by: str

    @property
    def fields(self) -> dict[str, str | bytes]:
        """As a stream entry."""
        found: dict[str, str | bytes] = {"data": self.data}
        if self.type:
            found["type"] = self.type
        if self.promise.id:
            found["id"] = self.promise.id
        if self.subject is not None:
            found["subject"] = self.subject
        return found

    def lane_of(self, lanes: int) -> int:
        """Which of so many producers publishes it."""
        return zlib.crc32((self.subject or str(self.promise.n)).encode()) % lanes


@dataclass
class _Ledger:
    name: str
    notes: int
    opens_after: int
    sent: int = 0
    opened: bool = False


@dataclass
class _Plan:
    """What has been planned so far."""

    chance: random.Random
    most: int
    slow: bool
    n: int = 0
    ledgers_made: int = 0
    slow_left: int = _SLOW_AT_MOST
    by: str = "publish"
    ledgers: list[_Ledger] = field(default_factory=list["_Ledger"])
    late: list[_Ledger] = field(default_factory=list["_Ledger"])
    queue: deque[Planned] = field(default_factory=deque[Planned])

    # --------------------------------------------------------------------------------------------- one event each

    def event(
        self, kind: str, data: dict[str, Any], *, subject: str | None = None, by: str = "", **promised: Any
    ) -> Planned:
        """An event of our app, with its promise."""
        self.n += 1
        chosen = by or self.way()
        event_id = "" if chosen == "bare" else f"e-{self.n}"
        promise = Promise(self.n, event_id, kind, **promised)
        raw = msgspec.json.encode({"n": self.n, **data})
        return Planned(promise, f"chaos.{kind}", subject, raw, chosen)

    def way(self) -> str:
        """How the next event is published: mostly like the last one."""
        if self.chance.random() < _ANOTHER_WAY:
            self.by = "publish" if self.chance.random() < 0.6 else "xadd"
        return self.by

    def pad(self) -> str:
        """Text of 10 bytes to 100 kB, mostly short."""
        drawn = self.chance.random()
        most = 100_000 if drawn < 0.002 else 5_000 if drawn < 0.02 else 200
        return "x" * round(10 * (most / 10) ** self.chance.random())

    def wait_ms(self) -> int:
        """How long an action takes: mostly nothing, now and then long enough to die in it."""
        return self.chance.choice((0, 0, 0, 1, 2, 5, 20, 100, 400))

    def one(self) -> None:
        """One step; a third of them without an id, as a program that knows only XADD sends them."""
        by = "bare" if self.chance.random() < 1 / 3 else self.way()
        result = 50_000 if self.chance.random() < 0.002 else self.chance.randrange(50)
        n = self.n + 1
        runs = (f"one:e-{n}",) if by != "bare" else ()
        data = {"pad": self.pad(), "result": result, "wait_ms": self.wait_ms()}
        self.queue.append(self.event("one", data, by=by, fate="starts", runs=runs, steps={"work": 1}))

    def three(self) -> None:
        """Three steps."""
        subject = f"s{self.n + 1}"
        self.queue.append(
            self.event(
                "three",
                {"subject": subject, "wait_ms": self.wait_ms()},
                subject=subject,
                fate="starts",
                runs=(f"three:three-{subject}",),
                steps={"work": 2, "work_in_thread": 1},
            )
        )

    def _own(self, kind: str, data: dict[str, Any], **promised: Any) -> None:
        runs = (f"{kind}:e-{self.n + 1}",)
        self.queue.append(self.event(kind, data, fate="starts", runs=runs, **promised))

    def fan(self) -> None:
        """Steps at once."""
        width = self.chance.randint(2, 6)
        self._own("fan", {"width": width}, steps={"work": width + 1}, sequential=False)

    def nap(self) -> None:
        """A durable timer."""
        self._own("nap", {"sleep_ms": self.chance.choice((20, 150, 500, 1_500))}, steps={"work": 2})

    def flaky(self) -> None:
        """Retries, or a refusal."""
        if self.chance.random() < 0.2:
            self._own("flaky", {"times": 0, "transient": False, "declined": True}, ends=("failed",))
            return
        times, transient = self.chance.randint(1, 3), self.chance.random() < 0.5
        self._own("flaky", {"times": times, "transient": transient}, steps={"fail_first": 1})

    def endless(self) -> None:
        """Cancelled by an operator."""
        subject = f"x{self.n + 1}"
        self.queue.append(
            self.event(
                "endless",
                {"subject": subject},
                subject=subject,
                fate="starts",
                runs=(f"endless:{subject}",),
                steps={"undo": 1},
                optional={"work": 1},
                ends=("cancelled",),
            )
        )

    def slow_one(self) -> None:
        """Blocks the loop, or lasts many leases; only a few, and the long ones early, so that the run can end."""
        if not self.slow or not self.slow_left:
            return self.one()
        self.slow_left -= 1
        blocks = self.n > self.most // 4 or self.slow_left % 3 > 0
        return self._own("slow", {"blocks": blocks}, steps={"block" if blocks else "last_long": 1})

    def bad(self) -> None:
        """What nobody can take in: it must be a dead letter."""
        kind = self.chance.choice(("no-type", "undeclared", "no-subject", "misfit", "too-big"))
        planned = self.event("one", {}, by="xadd", fate="dead")
        # One that only its class refuses has a run, which ends as failed; the others reach none.
        runs = (f"one:{planned.promise.id}",) if kind == "misfit" else ()
        promise = msgspec.structs.replace(planned.promise, kind=kind, runs=runs)
        event_type, data = planned.type, planned.data
        match kind:
            case "no-type":
                event_type = ""
            case "undeclared":
                event_type = "chaos.unheard-of"
            case "no-subject":
                event_type = "chaos.three"
            case "misfit":
                data = b'{"n": "no number"}'
            case _:
                if self.chance.random() < 0.9:
                    return self.bad()
                data = msgspec.json.encode({"n": self.n, "pad": "x" * MAX_EVENT_BYTES})
        return self.queue.append(Planned(promise, event_type, None, data, "xadd"))

    # ------------------------------------------------------------------------------------------------------- mail

    def note(self) -> None:
        """One note about an open ledger; the low numbers get most of them."""
        while len(self.ledgers) < min(40, 4 + self.most // 500):
            self.ledgers.append(self._new_ledger())
        if self.late and self.chance.random() < 0.02:
            self._note_about(self.chance.choice(self.late))
            return
        ranks = [1 / (rank + 1) for rank in range(len(self.ledgers))]
        place = self.chance.choices(range(len(self.ledgers)), ranks)[0]
        ledger = self.ledgers[place]
        self._note_about(ledger)
        if ledger.sent >= ledger.opens_after and not ledger.opened:
            self.open(ledger)
        if ledger.sent == ledger.notes:
            self.ledgers[place] = self._new_ledger()

    def _new_ledger(self) -> _Ledger:
        opens_after = self.chance.choice((0, 0, 1, 3))
        notes_at_most = 80 if self.most >= 10_000 else 25
        self.ledgers_made += 1
        return _Ledger(f"l{self.ledgers_made}", self.chance.randint(opens_after + 1, notes_at_most), opens_after)

    def _note_about(self, ledger: _Ledger) -> None:
        if ledger.opens_after == 0 and not ledger.opened:
            self.open(ledger)
        ledger.sent += 1
        data = {"ledger": ledger.name, "number": ledger.sent, "pad": self.pad() if self.chance.random() < 0.1 else ""}
        runs = (f"ledger:{ledger.name}",)
        self.queue.append(self.event("noted", data, subject=ledger.name, fate="mail", runs=runs, order=ledger.sent))

    def open(self, ledger: _Ledger) -> None:
        """The event that starts a ledger's run."""
        ledger.opened = True
        self.queue.append(
            self.event(
                "opened",
                {"ledger": ledger.name, "notes": ledger.notes},
                subject=ledger.name,
                fate="starts",
                runs=(f"ledger:{ledger.name}",),
                steps={"work": ledger.notes // 10 + 1},
            )
        )

    def gate(self) -> None:
        """Some runs that wait for one signal about another subject, which comes before, between or after them."""
        gate = f"g{self.n + 1}"
        pairs = [f"{gate}-{number}" for number in range(self.chance.randint(1, 6))]
        signal_at = self.chance.randint(0, len(pairs))
        for place in range(len(pairs) + 1):
            if place == signal_at:
                runs = tuple(f"pair:{pair}" for pair in pairs)
                self.queue.append(self.event("signal", {"gate": gate}, subject=gate, fate="mail", runs=runs))
            if place < len(pairs):
                name = pairs[place]
                self.queue.append(
                    self.event(
                        "pair",
                        {"pair": name, "gate": gate},
                        subject=name,
                        fate="starts",
                        runs=(f"pair:{name}",),
                        steps={"work": 2},
                    )
                )

    def finish(self) -> Iterator[Planned]:
        """Close what is open: the notes that are still owed, and the openings of ledgers that nobody opened so far."""
        for ledger in self.ledgers:
            if ledger.sent or ledger.opened:
                ledger.notes = ledger.notes if ledger.opened else ledger.sent
                while ledger.sent < ledger.notes:
                    self._note_about(ledger)
        for ledger in [*self.ledgers, *self.late]:
            if ledger.sent and not ledger.opened:
                ledger.notes = ledger.sent
                self.open(ledger)
        while self.queue:
            yield self.queue.popleft()


_SHARES: tuple[tuple[float, str], ...] = (
    (42, "note"),
    (26, "one"),
    (10, "three"),
    (4, "fan"),
    (7, "nap"),
    (4, "flaky"),
    (3, "gate"),
    (2, "endless"),
    (1, "bad"),
    (0.2, "slow_one"),
)


def plan(seed: int, events: int, slow: bool = True) -> Iterator[Planned]:
    """About so many events, in the order in which they are published; the same ones for the same arguments.

    Args:
        seed: Of everything that is drawn.
        events: How many; a few hundred more, because what was begun is brought to its end.
        slow: With actions that outlast leases.
    """
    made = _Plan(random.Random(seed), events, slow)
    made.late = [_Ledger(f"late{number}", 0, 1_000_000) for number in range(_LATE_LEDGERS)]
    steps: dict[str, Callable[[], None]] = {name: getattr(made, name) for _, name in _SHARES}
    names, weights = [name for _, name in _SHARES], [share for share, _ in _SHARES]
    while made.n < events:
        steps[made.chance.choices(names, weights)[0]]()
        while made.queue:
            yield made.queue.popleft()
    yield from made.finish()
