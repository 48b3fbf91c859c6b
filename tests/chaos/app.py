"""The workflows under chaos. Each kind exercises one thing; `workload.py` says what it must have done in the end.

Every action leaves two lines in the file CHAOS_EFFECTS, one when it begins and one when it has done its work, and
returns a receipt that names the second one. So a history tells which of several attempts was *recorded*, and under
which fencing token, without asking the store how it decides.

While the file CHAOS_ARM is there, a worker process arms itself, when it imports this, with at most one crash or pause
point (WW_FAULT), chosen by chance, and says so among the effects. So points are hit by processes that are busy, a new
one each time.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from workflow_worker import App, Fail, RetryPolicy, Rule, action, wf

app = App("chaos")

LEASE_S = int(os.environ.get("LEASE_TTL_MS", "10000")) / 1000
BLOCKED_LEASES = 3
LONG_LEASES = float(os.environ.get("CHAOS_LONG_LEASES", "20"))
FOR_EVER = timedelta(hours=12)

POINTS = {
    # How often a busy worker passes the point in a second, roughly: the chance is chosen so that it dies in seconds.
    "read.woken": 1,
    "ingest.sent": 8,
    "ingest.done": 8,
    "action.before": 40,
    "action.after": 40,
    "commit.before": 20,
    "commit.done": 20,
    "renew.before": 3,
}
_POINT_WEIGHTS = {"read.woken": 3}
"""How often a point lies in the deck; 1 where nothing is said. A worker with a backlog is seldom woken."""
WAYS = ("exit", "kill", "stop")
_WAY_WEIGHTS = {"exit": 1, "kill": 1, "stop": 2}
_ARMED_SHARE = float(os.environ.get("CHAOS_ARMED_SHARE", "0.6"))
_MEAN_LIFE_S = 5.0

_effects: int | None = None
_numbers = itertools.count(1)


def _line(*words: object) -> None:
    """Append one line; one write with O_APPEND, so that lines of several processes never mix."""
    global _effects  # one descriptor for the process's life, opened when it is first needed
    if _effects is None:
        path = os.environ.get("CHAOS_EFFECTS")
        if path is None:
            return
        _effects = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(_effects, (" ".join(map(str, words)) + "\n").encode())


def _deck() -> list[tuple[str, str]]:
    """Every point in every way, in an order that is the same for all processes."""
    deck = [
        (point, way)
        for point in sorted(POINTS)
        for way in WAYS
        for _ in range(_POINT_WEIGHTS.get(point, 1) * _WAY_WEIGHTS[way])
    ]
    random.Random(1).shuffle(deck)
    return deck


def _arm() -> None:
    """Take the next card of the deck: by chance alone some point would be met by nobody."""
    flag = os.environ.get("CHAOS_ARM")
    chance = random.Random(int.from_bytes(os.urandom(8)))
    if not flag or not Path(flag).exists() or chance.random() >= _ARMED_SHARE:
        return
    with Path(flag).open("ab") as cards:
        cards.write(b".")
        cards.flush()
        number = os.fstat(cards.fileno()).st_size
    deck = _deck()
    point, way = deck[number % len(deck)]
    probability = min(1.0, 1 / (POINTS[point] * _MEAN_LIFE_S))
    os.environ["WW_FAULT"] = f"{point}:{way}:{probability:.5f}:{chance.randrange(1_000_000)}"
    _line("armed", os.getpid(), point, way, time.monotonic_ns())


_arm()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an action returns: which of its attempts this was. `pad` makes results large."""

    nonce: str
    token: int
    pad: str = ""


class Nonce:
    """One attempt, from its beginning to its end, in the effects file."""

    def __init__(self) -> None:
        self._nonce = f"{os.getpid():x}.{time.monotonic_ns():x}.{next(_numbers):x}"
        self._say("begin")

    def failed(self) -> None:
        """The attempt is going to raise."""
        self._say("failed")

    def done(self, pad: int = 0) -> Receipt:
        """The work is done."""
        self._say("end")
        return Receipt(self._nonce, action.fencing_token, "p" * pad)

    def _say(self, word: str) -> None:
        key = action.idempotency_key
        token, attempt = action.fencing_token, action.attempt
        _line(
            word, action.run, action.step, action.name, key, attempt, token, os.getpid(), time.monotonic_ns(),
            self._nonce,
        )  # fmt: skip


class Busy(Exception):
    """The other side asks for another try."""


class Declined(Exception):
    """The other side says no."""


OTHER_SIDE = RetryPolicy(
    Rule(ConnectionError).transient(),
    Rule(Busy).recoverable(),
    Rule(Declined).permanent(Fail()),
    attempts=20,
    initial=0.02,
    factor=1.5,
    cap=0.3,
)


# ------------------------------------------------------------------------------------------------------------- actions


@app.action
async def work(pad: int = 0, wait_ms: float = 0) -> Receipt:
    """An ordinary step."""
    nonce = Nonce()
    await asyncio.sleep(wait_ms / 1000)
    return nonce.done(pad)


@app.action
def work_in_thread(wait_ms: float) -> Receipt:
    """The same on a thread."""
    nonce = Nonce()
    time.sleep(wait_ms / 1000)
    return nonce.done()


@app.action(retry=OTHER_SIDE)
async def fail_first(times: int, transient: bool) -> Receipt:
    """Fails as often as it is told, then works."""
    nonce = Nonce()
    if action.attempt <= times:
        nonce.failed()
        raise ConnectionResetError("try again") if transient else Busy("try later")
    return nonce.done()


@app.action(retry=OTHER_SIDE)
async def decline() -> Receipt:
    """Never works."""
    Nonce().failed()
    raise Declined("no")


@app.action
async def block() -> Receipt:
    """Holds the event loop for several leases, as careless code does."""
    nonce = Nonce()
    time.sleep(BLOCKED_LEASES * LEASE_S)  # noqa: ASYNC251 - this is the fault
    return nonce.done()


@app.action(timeout=3_600)
async def last_long() -> Receipt:
    """Takes many leases without blocking anybody."""
    nonce = Nonce()
    await asyncio.sleep(LONG_LEASES * LEASE_S)
    return nonce.done()


@app.action
async def undo() -> Receipt:
    """What a cancelled run still does."""
    return Nonce().done()


# ------------------------------------------------------------------------------------------------- events and workflows


@app.event("chaos.one")
@dataclass(frozen=True, slots=True)
class One:
    """Starts a run of one step; its id is the event's, or the stream entry's."""

    n: int
    pad: str = ""
    result: int = 0
    wait_ms: float = 0


@app.event("chaos.three", subject="subject")
@dataclass(frozen=True, slots=True)
class Three:
    """Starts a run of three steps, one of them on a thread."""

    n: int
    subject: str
    wait_ms: float = 0


@app.event("chaos.fan")
@dataclass(frozen=True, slots=True)
class Fan:
    """Starts a run that does `width` steps at once, then one more."""

    n: int
    width: int


@app.event("chaos.nap")
@dataclass(frozen=True, slots=True)
class Nap:
    """Starts a run that sleeps between two steps."""

    n: int
    sleep_ms: int


@app.event("chaos.flaky")
@dataclass(frozen=True, slots=True)
class Flaky:
    """Starts a run whose step fails before it works, or is declined."""

    n: int
    times: int
    transient: bool
    declined: bool = False


@app.event("chaos.slow")
@dataclass(frozen=True, slots=True)
class Slow:
    """Starts a run whose step blocks the loop, or lasts long."""

    n: int
    blocks: bool


@app.event("chaos.opened", subject="ledger")
@dataclass(frozen=True, slots=True)
class Opened:
    """Opens a ledger, which ends when it has taken so many notes in."""

    n: int
    ledger: str
    notes: int


@app.event("chaos.noted", subject="ledger")
@dataclass(frozen=True, slots=True)
class Noted:
    """One note about a ledger; may come before the ledger is opened."""

    n: int
    ledger: str
    number: int
    pad: str = ""


@app.event("chaos.pair", subject="pair")
@dataclass(frozen=True, slots=True)
class Pair:
    """Starts a run that waits for a signal about another subject."""

    n: int
    pair: str
    gate: str


@app.event("chaos.signal", subject="gate")
@dataclass(frozen=True, slots=True)
class Signal:
    """What the runs of a gate wait for."""

    n: int
    gate: str


@app.event("chaos.endless", subject="subject")
@dataclass(frozen=True, slots=True)
class Endless:
    """Starts a run that only a cancel ends."""

    n: int
    subject: str


@app.event("chaos.never", subject="subject")
@dataclass(frozen=True, slots=True)
class Never:
    """Nobody publishes this."""

    subject: str


@app.workflow(on=One)
async def one(event: One) -> str:
    """One step."""
    return (await work(event.result, event.wait_ms)).nonce


@app.workflow(on=Three, id="three-{subject}")
async def three(event: Three) -> list[str]:
    """Three steps, with state in between."""
    wf.state(at="first")
    first = await work(0, event.wait_ms)
    wf.state(at="second", first=first.nonce)
    second = await work_in_thread(event.wait_ms)
    wf.state(at="third", second=second.nonce)
    third = await work()
    return [first.nonce, second.nonce, third.nonce]


@app.workflow(on=Fan)
async def fan(event: Fan) -> int:
    """Several steps at once."""
    receipts = await asyncio.gather(*(work(0, number) for number in range(event.width)))
    await work()
    return len({receipt.nonce for receipt in receipts})


@app.workflow(on=Nap)
async def nap(event: Nap) -> None:
    """Two steps and a durable timer."""
    await work()
    await asyncio.sleep(event.sleep_ms / 1000)
    await work()


@app.workflow(on=Flaky)
async def flaky(event: Flaky) -> str:
    """A step that fails first, or for good: then the run ends as failed."""
    if event.declined:
        try:
            await decline()
        except Declined as error:
            raise wf.Failed("declined") from error
    return (await fail_first(event.times, event.transient)).nonce


@app.workflow(on=Slow)
async def slow(event: Slow) -> str:
    """A step that outlasts leases."""
    return (await (block() if event.blocks else last_long())).nonce


@app.workflow(on=Opened, id="{ledger}")
async def ledger(event: Opened) -> int:
    """Takes notes in, in order; every tenth leads to a step."""
    taken = 0
    while taken < event.notes:
        await wf.wait_for(Noted, timeout=FOR_EVER)
        taken += 1
        wf.state(taken=taken)
        if taken % 10 == 0:
            await work()
    await work()
    return taken


@app.workflow(on=Pair, id="{pair}")
async def pair(event: Pair) -> str:
    """Waits for what is about another subject, whether it comes before or after."""
    await work()
    signal = await wf.wait_for(Signal, subject=event.gate, timeout=FOR_EVER)
    await work()
    return signal.gate


@app.workflow(on=Endless, id="{subject}")
async def endless(event: Endless) -> None:
    """Works, waits for ever, and undoes when it is cancelled."""
    try:
        await work()
        await wf.wait_for(Never, timeout=FOR_EVER)
    finally:
        await undo()
