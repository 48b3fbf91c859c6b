"""Entries that no producer should write, each with the reason for which it must end as a dead letter.

All are made from a seed. `odd_entries` are strange too, but valid: those must be worked on like any other.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Fields = tuple[bytes, ...]
MEGABYTE = 1_000_000
SETTLED = "settled"
"""A job that has ended when the hostile entries come."""

_NOT_UTF8 = (
    b"\xff",
    b"\xc0\x80",  # NUL in two bytes, overlong
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",  # half of a surrogate pair
    b"\xf4\x90\x80\x80",  # above the last code point
    b"\xf8\x88\x80\x80\x80",
    b"\xe2\x82",  # cut off
    b"\x80",
)
_TYPES_NOBODY_CAN_DECLARE = (
    b"wf.cancel",
    b"wf.anything",
    b"ww.ended",
    b"ww.",
    b"#jobs",
    b"job.*",
    b"*",
    b"job asked",
    b"job.asked\n",
    b"\tjob.asked",
    b"job\x00asked",
    b"\x7f",
)
_UNDECLARED = (
    b"job.unknown",
    b"job.asked.",
    b"JOB.ASKED",
    b".",
    b"%a+",
    b"[a-z",
    b"%",
    b"job.asked:{ww:0}",
    b"job.asked/../x",
    "job.\N{ZERO WIDTH SPACE}asked".encode(),
)
_NO_JOB = (
    b"",
    b"null",
    b"{}",
    b"[]",
    b'"text"',
    b"7",
    b"true",
    b"NaN",
    b'{"job": NaN}',
    b'{"job": Infinity}',
    b'{"job": -Infinity}',
    b'{"job": 1e999}',
    b'{"job": 7}',
    b'{"job": null}',
    b'{"job": ["a"]}',
    b'{"job": {"job": "a"}}',
    b'{"job": "a", "steps": "note"}',
    b'{"job": "a", "steps": [7]}',
    b'{"job": "a", "job": 7}',
    b'{"job": "a"',
    b'{"job": "a"} trailing',
    b'{"job": "a",}',
    b"{'job': 'a'}",
    b'{"job": "a\x00"}',
    b'{"job": "\\ud800"}',
    b'{"job": "\\x41"}',
    b'\xef\xbb\xbf{"job": "a"}',
    b"\x00",
    b"<job>a</job>",
    b'{"job": ' + b"9" * 5_000 + b"}",
    b"[" * 100_000,
    b"[" * 50_000 + b"]" * 50_000,
    b'{"job":' * 30_000 + b"0" + b"}" * 30_000,
    b'{"job": "' + b"\\" * 20_001,
)


@dataclass(frozen=True)
class Hostile:
    """One entry: its fields, flat, and how the reason of its dead letter must begin."""

    fields: Fields
    reason: str


def flat(*pairs: tuple[bytes, bytes]) -> Fields:
    """Names and values, flat."""
    return tuple(itertools.chain.from_iterable(pairs))


def hostile_entries(count: int, seed: int) -> list[Hostile]:
    """So many entries of all kinds, mixed; no two are equal."""
    chance = random.Random(seed)
    kinds = list(_kinds())
    made = [kinds[number % len(kinds)](b"%d" % number) for number in range(count)]
    chance.shuffle(made)
    return made


def huge_entries() -> list[Hostile]:
    """Entries of several megabytes: few, because the server keeps every byte of them."""
    filler = b"x" * 5 * MEGABYTE
    asked = (b"type", b"job.asked")
    return [
        Hostile(flat(asked, (b"subject", b"huge"), (b"data", b'"' + filler + b'"')), "too big"),
        Hostile(flat(asked, (b"subject", filler)), "too big"),
        Hostile(flat((b"type", filler)), "too big"),
        Hostile(flat(asked, (filler, b"")), "too big"),
        Hostile(flat(asked, (b"data", b"[" * 2 * MEGABYTE)), "too big"),
        Hostile(flat((b"\xff" * MEGABYTE, b"\x00" * MEGABYTE)), "too big"),
        Hostile(flat(asked, *((b"f%d" % number, b"v" * 50) for number in range(20_000))), "too big"),
    ]


def many_fields(number: bytes, count: int) -> Hostile:
    """An undeclared event with so many fields."""
    more = ((b"field-%d" % place, b"%d" % place) for place in range(count))
    return Hostile(flat((b"type", b"job.many"), (b"n", number), *more), "undeclared")


Kind = Callable[[bytes], Hostile]


def _kinds() -> Iterator[Kind]:
    yield from _without_type()
    yield from _not_utf8()
    yield from _routed_nowhere()
    yield from _addressed_badly()
    yield from _not_fitting()
    yield lambda n: many_fields(n, 1_000)
    for name in (b"id", b"type", b"subject", b"workflow", b"run"):
        for long in (b"x" * 500, b"." * 5_000, "\N{EURO SIGN}".encode() * 167):

            def make(n: bytes, name: bytes = name, long: bytes = long) -> Hostile:
                fields = flat(*({b"type": b"job.asked"} | {name: n + long}).items())
                return Hostile(fields, f"malformed: {name.decode()} is longer")

            yield make
    yield lambda n: Hostile(flat((b"type", b"job.asked"), (b"data", b"x" * 262_145), (b"n", n)), "too big")
    yield lambda n: Hostile(flat((b"type", b"job.asked"), (b"anything", b"x" * 300_000), (b"n", n)), "too big")


def _without_type() -> Iterator[Kind]:
    yield lambda n: Hostile(flat((b"data", b"{}"), (b"n", n)), "no type")
    yield lambda n: Hostile(flat((b"type", b""), (b"subject", b"s"), (b"n", n)), "no type")
    yield lambda n: Hostile(flat((b"", b""), (b"n", n)), "no type")
    yield lambda n: Hostile(flat((b"", n)), "no type")
    yield lambda n: Hostile(flat((b"Type", b"job.asked"), (b"n", n)), "no type")
    yield lambda n: Hostile(flat((b"type", b"job.asked"), (b"type", b""), (b"n", n)), "no type")


def _not_utf8() -> Iterator[Kind]:
    for bad in _NOT_UTF8:
        for name in (b"type", b"subject", b"data", b"id", b"source", b"anything"):

            def make(n: bytes, bad: bytes = bad, name: bytes = name) -> Hostile:
                good = {b"type": b"job.asked", b"subject": b"s" + n, b"data": b"{}", b"id": b"utf-" + n}
                return Hostile(flat(*(good | {name: b"a" + bad + n}).items()), "not utf-8")

            yield make
        yield lambda n, bad=bad: Hostile(flat((b"type", b"job.asked"), (bad, b""), (b"n", n)), "not utf-8")


def _routed_nowhere() -> Iterator[Kind]:
    for event_type in _TYPES_NOBODY_CAN_DECLARE:
        yield lambda n, t=event_type: Hostile(flat((b"type", t), (b"subject", b"s"), (b"n", n)), "malformed: type")
    for event_type in _UNDECLARED:
        yield lambda n, t=event_type: Hostile(flat((b"type", t), (b"subject", b"s"), (b"n", n)), "undeclared")
    yield lambda n: Hostile(flat((b"type", b"job.asked"), (b"n", n)), "subject missing")
    yield lambda n: Hostile(flat((b"type", b"job.told"), (b"subject", b""), (b"n", n)), "subject missing")


def _addressed_badly() -> Iterator[Kind]:
    told = ((b"type", b"job.told"), (b"data", b'{"job": "a", "word": 1}'))

    def to(reason: str, *pairs: tuple[bytes, bytes]) -> Kind:
        return lambda n: Hostile(flat(*told, (b"subject", b"elsewhere"), *pairs, (b"n", n)), reason)

    yield to("malformed: addressed without run", (b"workflow", b"perform"))
    yield to("malformed: addressed without workflow", (b"run", b"a"))
    yield to("malformed: workflow name with a colon", (b"workflow", b"perform:x"), (b"run", b"a"))
    yield to("no such run", (b"workflow", b"perform"), (b"run", b"nobody"))
    yield to("no such run", (b"workflow", b"someone-elses"), (b"run", b"a"))
    yield to("no such run", (b"workflow", b"perform"), (b"run", b"x:history"))
    yield to("no such run", (b"workflow", b"perform"), (b"run", b"%d+[^]*{ww:0}"))
    yield to("no such run", (b"workflow", b"%z\x00"), (b"run", b"\x00"))
    yield to("run ended", (b"workflow", b"perform"), (b"run", SETTLED.encode()))


def _not_fitting() -> Iterator[Kind]:
    for data in _NO_JOB:

        def make(n: bytes, data: bytes = data) -> Hostile:
            fields = flat((b"type", b"job.asked"), (b"subject", b"misfit-" + n), (b"data", data))
            return Hostile(fields, "rejected: does not fit JobAsked")

        yield make
    yield lambda n: Hostile(
        flat((b"type", b"job.asked"), (b"subject", b"misfit-" + n)), "rejected: does not fit JobAsked"
    )


_ODD_NAMES = (
    "%d+",
    "[^%s]*(%w)%1",
    "{ww:0}:events",
    "x:history",
    "x:mailbox",
    "*",
    "#",
    "=literal",
    "subject",
    "ready",
    "parked",
    "a\nb",
    "a\x00b",
    "\x7f\x1b[2J\x1b[31m",
    "..",
    "'; DROP TABLE runs; --",
    "<script>alert(1)</script>",
    "{job}",
    "%s%n",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    "\N{PILE OF POO}" * 100,
    " ",
    "__class__",
    "-1",
    "1e400",
    "perform:perform:perform",
)
_ODD_ATTRIBUTES = (
    (b"time", b"yesterday"),
    (b"time", b"9999-99-99T99:99:99Z"),
    (b"source", b"\x00\n\r"),
    (b"traceparent", b"00-" + b"g" * 400),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nx: y"),
    (b"tenant", b"t" * 100_000),
    (b"specversion", b"99"),
    (b"origin", b"garbage"),
    (b"origin", b"{}"),
    (b"origin", b'{"parent": 7}'),
    (b"origin", b'{"parent": "perform:nobody", "run": "perform:nobody", "tag": 1, "number": 1, "round": 9}'),
    (b"origin", b"[" * 50_000),
    (b"datacontenttype", b"application/octet-stream"),
    (b"dataschema", b"file:///etc/passwd"),
    (b"data_base64", b"!!!"),
    (b"", b""),
    (b"type", b"job.asked"),
)


def odd_entries() -> dict[str, Fields]:
    """Valid start events by the name of their job: names, attributes and fields as strange as they may be."""
    found: dict[str, Fields] = {}

    def ask(job: str, *more: tuple[bytes, bytes], data: bytes | None = None) -> None:
        text = json.dumps({"job": job, "steps": ["note"]}).encode() if data is None else data
        known = ((b"type", b"job.asked"), (b"subject", job.encode()), (b"data", text))
        found[job] = flat(*known, *more)

    for name in _ODD_NAMES:
        ask(name)
    for place, attribute in enumerate(_ODD_ATTRIBUTES):
        ask(f"odd-attribute-{place}", attribute)
    ask("odd-fields", *((b"field-%d" % number, b"%d" % number) for number in range(1_000)))
    ask("odd-keys", data=b'{"job": "first", "job": "odd-keys", "steps": ["note"], "steps": ["note"]}')
    ask("odd-more", data=b'{"job": "odd-more", "steps": ["note"], "more": [1, 2.5, null, {"a": "\\u0000"}]}')
    ask("odd-space", data=b' \n\t{"job": "odd-space" ,\r\n"steps": ["note"]}  ')
    ask("odd-id", (b"id", b"%d:{ww:0}\x00\n" + b"i" * 480))
    return found
