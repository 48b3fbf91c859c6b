"""Declared events: which class a type means, subjects, and reasons that name the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from workflow_worker import App, Event
from workflow_worker.app.events import MARK
from workflow_worker.model.exceptions import EventRejected, UsageError

app = App("events")


@dataclass(frozen=True)
class Customer:
    """Part of an order."""

    id: int | None


@app.event("order.placed", subject="customer.id")
@dataclass(frozen=True, slots=True)
class Placed:
    """A dataclass."""

    customer: Customer
    tags: list[str] = field(default_factory=list[str])


@app.event("order.*", "shop.closed")
class Other(msgspec.Struct, frozen=True):
    """A struct that needs nothing."""

    note: str = ""


@app.event("order.eu.*", subject="key")
class European(BaseModel):
    """A pydantic model."""

    key: UUID
    lines: list[dict[str, int]] = []


def event(event_type: str, data: bytes) -> Event:
    return Event("e-1", event_type, None, data)


KEY = "00000000-0000-0000-0000-000000000007"

DECODED: list[tuple[str, bytes, Any]] = [
    ("order.placed", b'{"customer": {"id": 7}, "tags": ["a"], "unknown": 1}', Placed(Customer(7), ["a"])),
    ("order.sent", b'{"note": "n"}', Other("n")),
    ("order.sent", b"null", Other()),
    ("shop.closed", b"", Other()),
    ("order.eu.fr.placed", f'{{"key": "{KEY}"}}'.encode(), European(key=UUID(int=7))),
]


@pytest.mark.parametrize(("event_type", "data", "expected"), DECODED)
def test_the_exact_type_wins_then_the_longest_prefix(event_type: str, data: bytes, expected: Any) -> None:
    assert app.events.decode(event(event_type, data)) == expected


REJECTED = [
    (
        "order.placed",
        b'{"customer": {"id": "x"}}',
        r"does not fit Placed: customer.id: expected `int \| null`, got `str`",
    ),
    ("order.placed", b'{"tags": []}', "missing required field `customer`"),
    ("order.placed", b"[1]", "expected `object`, got `array`"),
    ("order.placed", b"{", "cannot be read"),
    ("order.placed", b"\xff", "cannot be read|expected"),
    ("order.placed", b"[" * 100_000, "nested deeper than 100 levels"),
    ("order.eu.x", b"[" * 100_000, "nested deeper than 100 levels"),
    ("order.eu.x", b'{"key": 1, "lines": []}', "does not fit European: key: UUID"),
    ("order.eu.x", f'{{"key": "{KEY}", "lines": [{{"a": "b"}}]}}'.encode(), "lines.0.a: "),
    ("other", b"{}", "no class is declared for events of type 'other'"),
    ("order", b"{}", "no class is declared"),
]


@pytest.mark.parametrize(("event_type", "data", "reason"), REJECTED)
def test_what_does_not_fit_is_rejected_with_a_readable_reason(event_type: str, data: bytes, reason: str) -> None:
    with pytest.raises(EventRejected, match=reason):
        app.events.decode(event(event_type, data))


@given(st.sampled_from(["order.placed", "order.sent", "order.eu.x"]), st.binary(max_size=300))
def test_any_bytes_are_decoded_or_rejected(event_type: str, data: bytes) -> None:
    try:
        found = app.events.decode(event(event_type, data))
    except EventRejected:
        return
    assert isinstance(found, Placed | Other | European)


def test_whatever_the_authors_own_validation_raises_is_a_rejection() -> None:
    mine = App("mine")

    @mine.event("picky")
    @dataclass
    class Picky:
        number: int

        def __post_init__(self) -> None:
            if self.number == 1:
                raise ValueError("one is taken")
            raise ZeroDivisionError

    for data, reason in ((b'{"number": 1}', "one is taken"), (b'{"number": 2}', "ZeroDivisionError")):
        with pytest.raises(EventRejected, match=reason):
            mine.events.decode(event("picky", data))


def test_a_class_can_be_named_instead_of_taken_from_the_type() -> None:
    assert app.events.decode(event("order.placed", b'{"note": "n"}'), Other) == Other("n")
    assert app.events.types_of(Other) == ("order.*", "shop.closed")
    with pytest.raises(UsageError, match=r"Customer is not a declared event of this app"):
        app.events.types_of(Customer)


def test_encoding_is_the_inverse_and_the_class_carries_its_definition() -> None:
    for value in (Placed(Customer(7)), Other("n"), European(key=UUID(int=7))):
        definition = getattr(type(value), MARK)
        assert definition is app.events.of(type(value))
        assert definition.decode(definition.encode(value)) == value
    with pytest.raises(UsageError, match="is not a Placed"):
        app.events.of(Placed).encode(Other())


def test_the_subject_is_found_by_its_path() -> None:
    subject_of = app.events.of(Placed).subject_of
    assert [subject_of(Placed(Customer(number))) for number in (7, 0, None)] == ["7", "0", None]
    assert app.events.of(European).subject_of(European(key=UUID(int=7))) == KEY
    assert app.events.of(Other).subject_of(Other()) is None

    mine = App("mine")

    @mine.event("hook", subject="payload.repository.id")
    @dataclass
    class Hook:
        payload: dict[str, Any]

    of = mine.events.of(Hook).subject_of
    assert of(Hook({"repository": {"id": "r-1"}})) == "r-1"
    assert of(Hook({})) is None
    with pytest.raises(UsageError, match="a subject is text"):
        of(Hook({"repository": {"id": 1.5}}))


def test_the_type_to_publish_as() -> None:
    assert app.events.of(Placed).type == "order.placed"
    with pytest.raises(UsageError, match="say which type"):
        _ = app.events.of(Other).type


def test_unusable_declarations_are_refused() -> None:
    mine = App("mine")

    @dataclass
    class Plain:
        a: int

    class NoData: ...

    for wrong, reason in ((NoData, "goes above a dataclass"), (7, "cannot be an event")):
        with pytest.raises(UsageError, match=reason):
            mine.event("a")(wrong)  # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(UsageError, match="has no field 'b' to take the subject from; it has a"):
        mine.event("a", subject="b")(Plain)
    with pytest.raises(UsageError, match="say which type"):
        mine.event()(Plain)
    with pytest.raises(UsageError, match="say which type"):
        mine.event(Plain)  # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(UsageError, match="not usable"):
        mine.event("a.*.b")(Plain)
    with pytest.raises(UsageError, match="reserved"):
        mine.event("wf.cancel")(Plain)
    mine.event("a", "a")(Plain)
    with pytest.raises(UsageError, match=r"'a' is declared twice: by .*Plain and by .*Other"):
        mine.event("a")(Other)
    with pytest.raises(UsageError, match="give all its types to one"):
        mine.event("b")(Plain)


def test_a_class_that_exits_the_process_rejects_the_event_instead() -> None:
    app = App("x")

    @app.event("leaving")
    @dataclass(frozen=True)
    class Leaving:
        code: int

        def __post_init__(self) -> None:
            raise SystemExit(self.code)

    with pytest.raises(EventRejected, match="does not fit"):
        app.events.decode(Event("1", "leaving", None, b'{"code": 3}'), Leaving)
