"""Sequences of operations that mean something: pieces of stories about few subjects, in any order, with noise between.

Single operations rarely meet by chance (a wait and the early event that it needs, a rejected start and the event that
comes again); so most of a sequence are whole pieces. Who chooses is an argument: Hypothesis, which makes a failing
sequence short, or a seeded `random.Random`, which is quick and spreads evenly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

from tests.contract.actor import LIMITS
from tests.contract.walk import Operation
from workflow_worker.store.transitions import Mode

T = TypeVar("T")
Piece = list[Operation]


class Choose(Protocol):
    """Picks one of several."""

    def __call__(self, options: Sequence[T], /) -> T: ...


KINDS = ("order.placed", "order.placed", "order.paid", "order.again", "order.both", "many", "bare", "news.a.b", "what")
SUBJECTS = ("1", "2")
MODES = (Mode.KEEP, Mode.RELEASE, Mode.RELEASE, Mode.END)
WORKERS = (0, 1)
ROOMS = (1, 2, 5)
PLACES = (0, 0, 0, 1, 2, 5)
LEFT_OVER = (0, 0, 0, 1)
BENDS = (
    *(
        "",
        "",
        "",
        "wait 1",
        "wait 2",
        "unwait",
        "reject",
        "reject start",
        "emit",
        "suspend",
        "wrong base",
        "wrong mail",
    ),
    *("old token", "other session", "nobody", "no records", "fields", "repeat", "earlier", "redo", "wake"),
    *("emit late", "emit note", "emit start", "restart", "restart then"),
)
HOW = ("again", "stale", "unregistered", "quarantine")
SPANS = (0, 300, 1_000, LIMITS.early_event_ttl_ms, LIMITS.dedup_window_ms, LIMITS.retention_ms)
PAUSES = (LIMITS.lease_ttl_ms // 2, LIMITS.lease_ttl_ms // 4)
CALL = ("ingest", 0, 5)

SINGLE: tuple[Callable[[Choose], Operation], ...] = (
    lambda choose: ("publish", choose(KINDS), choose(("1", "2", None)), choose((0, 0, 0, 1, 2))),
    lambda choose: ("publish", choose(KINDS), choose(SUBJECTS), 0, choose((100, 2_000))),
    lambda choose: ("twice", choose(KINDS), choose(SUBJECTS)),
    lambda choose: ("address", choose(KINDS), choose(("1", None)), choose(("order-1", "order-2", "x"))),
    lambda choose: ("raw", choose(KINDS), choose(SUBJECTS), choose((1, 2, 3)), choose((b"1", b"1", b"\xff"))),
    lambda choose: ("ingest", choose(WORKERS), choose(ROOMS)),
    lambda choose: ("ingest", choose(WORKERS), choose(ROOMS)),
    lambda choose: ("ingest", choose(WORKERS), choose(ROOMS), choose(HOW)),
    lambda choose: ("step", choose(PLACES), choose(MODES), choose(LEFT_OVER), choose(BENDS)),
    lambda choose: ("step", choose(PLACES), choose(MODES), choose(LEFT_OVER), choose(BENDS)),
    lambda choose: ("step", choose(PLACES), choose(MODES), choose(LEFT_OVER), choose(BENDS)),
    lambda choose: ("hand_back", choose(PLACES), choose((0, 0, 300))),
    lambda choose: ("renew", choose(WORKERS)),
    lambda choose: ("close", choose(WORKERS), choose((False, True))),
    lambda choose: ("die", choose(WORKERS), choose(PAUSES)),
    lambda choose: ("tick", choose(SPANS)),
    lambda choose: ("cancel", choose(PLACES), choose((1, 2))),
    lambda choose: ("resume", choose(PLACES)),
    lambda choose: ("redrive", choose(PLACES)),
    lambda choose: ("drop", choose(PLACES)),
    lambda choose: ("drop_letters", choose(("", "un", "too")), choose((None, "what")), choose((None, 300)), 2),
    lambda _: ("scarce",),
    lambda _: ("register",),
)


def noise(choose: Choose) -> Piece:
    """Anything at all."""
    return [choose(SINGLE)(choose) for _ in range(choose((1, 2, 3)))]


def started(subject: str, kind: str = "order.placed") -> Piece:
    """An event that starts a run, and the ingest that leases it."""
    return [("publish", kind, subject), CALL]


def early(choose: Choose) -> Piece:
    """Events before their run, perhaps more than are kept, then a run that takes them."""
    subject = choose(SUBJECTS)
    kind = choose(("order.placed", "order.both", "order.again", "many"))
    before: Piece = [("publish", "order.paid", subject)] * choose((1, 2, 3, LIMITS.early_cap + 1))
    return [*before, CALL, ("publish", kind, subject), ("ingest", choose(WORKERS), choose(ROOMS))]


def waiting(choose: Choose) -> Piece:
    """A run that waits for another subject, with the event before or after the wait, perhaps waiting twice."""
    mine, other = choose((("1", "2"), ("2", "1")))
    wait = ("step", 0, choose(MODES), choose((0, 0, 9)), f"wait {other}")
    before: Piece = choose(([], [("publish", "order.paid", other), ("publish", "news.a.b", other), CALL]))
    own: Piece = choose(([], [], [("publish", "order.paid", mine)] * LIMITS.mailbox_cap + [("ingest", 1, 5)]))
    again: Piece = choose(([], [wait], [("step", 0, Mode.KEEP, 0, "unwait"), wait]))
    after: Piece = [("publish", "order.paid", other), ("ingest", choose(WORKERS), 5)]
    owner: Piece = choose(([], started(other), [("step", 0, Mode.END, 0, ""), *started(other)]))
    return [*before, *started(mine), *own, wait, *again, *after, *owner]


def known_already(choose: Choose) -> Piece:
    """A run waits for its later subject, has the early event by that, ends, and starts anew under that subject."""
    wait = ("step", 0, Mode.KEEP, 0, "wait 2")
    start: Piece = [("address", "order.again", "1", "order-1"), ("publish", "order.placed", "1"), CALL]
    anew: Piece = choose(([("address", "order.placed", "2", "order-1"), CALL], started("2")))
    end: Piece = [("step", 0, Mode.END, 0, choose(("", "reject start")))]
    return [("publish", "order.paid", "2"), CALL, *start, wait, *end, *anew]


def restarted(choose: Choose) -> Piece:
    """A start event that is rejected, or a run that ends, and the event that comes again."""
    start = started(choose(SUBJECTS), choose(("order.placed", "order.placed", "order.again")))
    anew: Piece = choose((start, [("redrive", 0), CALL]))
    mail: Piece = choose(([], [("publish", "order.paid", choose(SUBJECTS)), ("ingest", 1, 5)]))
    step = ("step", 0, choose(MODES), choose((0, 0, 9)), choose(("reject start", "reject start", "")))
    return [*start, *mail, step, *anew]


def held_mail(choose: Choose) -> Piece:
    """Mail for a held run, up to the cap and over it; then a commit that takes all of it, or not."""
    subject = choose(SUBJECTS)
    mails: Piece = [("publish", choose(("order.paid", "order.placed")), subject)] * choose(
        (1, 2, LIMITS.mailbox_cap + 1)
    )
    step = ("step", 0, choose(MODES), choose(LEFT_OVER), choose(BENDS))
    more: Piece = choose(([], [("redrive", 0), CALL], [("step", 0, Mode.END, 0, "reject start"), ("redrive", 0), CALL]))
    return [*started(subject), *mails, ("ingest", 1, 5), ("renew", 0), step, *more]


def stolen(choose: Choose) -> Piece:
    """A run taken over, handed back or parked, and the former holder that writes all the same."""
    subject = choose(SUBJECTS)
    parked: Piece = [("hand_back", 0, 300), ("publish", "order.paid", subject), ("ingest", 1, 5), ("tick", 300)]
    away: Piece = choose(
        (
            [("die", 0)],
            [("die", 0)] * 2,
            [("hand_back", 0, 0)],
            parked,
            parked[:1],
            [("close", 0, choose((False, True)))],
        )
    )
    taken: Piece = choose(([], [("ingest", 1, 5)], [CALL]))
    late: Piece = [("step", 0, choose(MODES), 0, choose(BENDS))]
    return [*started(subject), *away, *late, *taken, ("step", 1, choose(MODES), 0), ("step", 0, choose(MODES), 0)]


def poison(choose: Choose) -> Piece:
    """A run whose holders die again and again, perhaps with a record between."""
    death: Operation = choose((("die", 0), ("close", 0, True)))
    deaths: Piece = [death, CALL, CALL] * LIMITS.max_takeovers
    saved: Piece = choose(([], [("step", 0, Mode.KEEP, 0, "")]))
    return [*started(choose(SUBJECTS)), *deaths, *saved, death, ("resume", 0), ("ingest", 1, 5)]


def suspended(choose: Choose) -> Piece:
    """A suspended run, mail for it, and a person."""
    subject = choose(SUBJECTS)
    person: Piece = choose(([("resume", 0)], [("cancel", 0, 2)], [("cancel", 0), ("resume", 0)], []))
    mail: Piece = [("publish", "order.paid", subject), ("ingest", 1, 5)]
    return [*started(subject), ("step", 0, Mode.RELEASE, 0, "suspend"), *mail, *person, ("tick", 500), ("ingest", 1, 5)]


def crowded(choose: Choose) -> Piece:
    """More ready runs than there is room for, looked through with a cursor, some of their entries stale."""
    starts: Piece = [("publish", "bare", None)] * choose((3, 5, 7))
    stale: Piece = choose(([], [("cancel", choose(PLACES), 1)], [("hand_back", 0, 0), ("ingest", 0, 1)]))
    looks: Piece = [("ingest", 1, 1), ("ingest", 1, choose(ROOMS))]
    return [*starts, CALL, ("close", 0), ("ingest", 0, 1), *stale, *looks, ("ingest", 0, 1, choose(HOW)), *looks]


def busy(choose: Choose) -> Piece:
    """Released runs of one subject that get mail again and again while there is room for one of them."""
    subject = choose(SUBJECTS)
    mail: Piece = [("publish", "order.paid", subject), ("ingest", 1, choose(ROOMS))]
    release = ("step", 0, Mode.RELEASE, 0, choose(("", "wake")))
    start: Piece = [("publish", choose(("order.both", "order.placed")), subject), ("ingest", 0, choose(ROOMS))]
    more: Piece = [release, *mail] * choose((1, 2, 3))
    return [*start, *more, ("tick", choose(SPANS)), ("ingest", 1, choose(ROOMS))]


def repeated(choose: Choose) -> Piece:
    """The same id again, bare and published, within the window, one window later, and two."""
    kind, subject, number = choose(KINDS), choose(SUBJECTS), choose((1, 2, 3))
    later: Piece = choose(([], [("tick", 0), ("tick", LIMITS.dedup_window_ms), ("renew", 0), ("renew", 1)]))
    bare: Piece = [("raw", kind, subject, number)] * choose((1, 2))
    published: Piece = [("publish", kind, subject), *later, ("publish", kind, subject, 1)]
    return [*bare, CALL, *later, *bare, *published, ("ingest", 0, 5, choose(("", "again", "quarantine"))), CALL]


def related(choose: Choose) -> Piece:
    """Runs that send to one another, late or after the other's end, and begin again."""
    other: Piece = choose(([], [*started("1"), ("step", 0, Mode.END, 0)], started("1")))
    step: Operation = ("step", 0, Mode.KEEP, 0, choose(("emit late", "emit note", "emit start", "restart")))
    more: Piece = [("step", 0, Mode.KEEP, 0, choose(("emit note", "emit", "restart then", "suspend")))]
    seen: Piece = [("tick", choose(SPANS)), ("ingest", choose(WORKERS), 5), ("ingest", choose(WORKERS), 5)]
    end: Piece = choose(([], [("die", 0), CALL, ("step", 0, Mode.KEEP, 0)], [("step", 1, Mode.END, 0)]))
    return [*other, *started("2"), step, *more, *seen, *end, ("ingest", 1, 5)]


def letters(choose: Choose) -> Piece:
    """Dead letters of several kinds, sent again or declared later."""
    subject = choose(SUBJECTS)
    many: Piece = [("publish", "many", subject)] * (LIMITS.subject_cap + 1)
    sent: Piece = choose(([("publish", "what", subject)], many))
    again: Piece = choose(([("redrive", 0)], [("register",)], [("drop", 0), ("redrive", 0)]))
    return [*sent, CALL, *again, CALL, ("ingest", 1, 5), ("tick", choose(SPANS))]


PIECES: tuple[Callable[[Choose], Piece], ...] = (
    *(noise, noise, noise, noise, early, waiting, waiting, known_already, restarted, held_mail, held_mail, stolen),
    *(stolen, poison, suspended, crowded, crowded, busy, repeated, letters, related, related),
)


def sequence(choose: Choose) -> Piece:
    """Up to five pieces, one behind the other."""
    return [operation for _ in range(choose((1, 2, 3, 4, 5))) for operation in choose(PIECES)(choose)]


def seeded(seed: int) -> Piece:
    """The sequence of a seed."""
    return sequence(random.Random(seed).choice)


@st.composite
def sequences(draw: st.DrawFn) -> Piece:
    """What Hypothesis draws and makes shorter."""

    def choose(options: Sequence[T], /) -> T:
        return draw(st.sampled_from(options))

    return sequence(choose)
