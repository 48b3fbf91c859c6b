"""Values survive the way to bytes and back, and hostile bytes are refused with a reason and no deep recursion."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from workflow_worker.model.codec import (
    MAX_DEPTH,
    JsonType,
    PackedType,
    Unreadable,
    check_json,
    encode_json,
    encode_packed,
)
from workflow_worker.model.exceptions import UsageError


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Line:
    sku: str
    count: int


class Box(msgspec.Struct, frozen=True):
    lines: tuple[Line, ...]


class Model(BaseModel):
    name: str
    at: datetime


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

TYPED: list[tuple[Any, Any]] = [
    (Line, Line("a", 1)),
    (Box, Box((Line("a", 1), Line("b", 2)))),
    (datetime, NOON),
    (timedelta, timedelta(days=1, milliseconds=5)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=7)),
    (Colour, Colour.RED),
    (set[int], {1, 2, 3}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (bytes, b"\x00\xff"),
    (dict[int, list[Line]], {1: [Line("a", 1)]}),
    (int | None, None),
    (float, 1.0),
    (Model, Model(name="n", at=NOON)),
    (list[Model], [Model(name="n", at=NOON)]),
]


@pytest.mark.parametrize(("of", "value"), TYPED, ids=[str(of) for of, _ in TYPED])
def test_declared_types_come_back_as_they_were(of: Any, value: Any) -> None:
    packed: PackedType[Any] = PackedType(of)
    text: JsonType[Any] = JsonType(of)
    assert packed.decode(encode_packed(value)) == value
    assert text.decode(encode_json(value)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    packed: PackedType[Any] = PackedType(Any)
    text: JsonType[Any] = JsonType(Any)
    assert packed.decode(encode_packed(value)) == value
    assert text.decode(encode_json(value)) == value


@given(JSON)
def test_the_depth_check_lets_everything_shallow_pass(value: Any) -> None:
    check_json(msgspec.json.encode([value] * 30))


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_nesting_is_refused_at_its_limit_and_not_before(bracket: str) -> None:
    close = "]" if bracket == "[" else "}"
    text: JsonType[Any] = JsonType(Any)
    text.decode((bracket * MAX_DEPTH + "1" + close * MAX_DEPTH).encode())
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(Unreadable, match="nested deeper than 100"):
            text.decode((bracket * depth + "1" + close * depth).encode())


def test_brackets_in_texts_are_no_nesting() -> None:
    value = {"text": '[[[["\\' * 1000, "more": ["{" * 500]}
    text: JsonType[Any] = JsonType(Any)
    assert text.decode(encode_json(value)) == value


@pytest.mark.parametrize(
    "raw", [b'"\\"' * 60_000, b"[" * 101 + b'"' + b'\\"' * 60_000, b'["' * 60_000, b"\\" * 100_000]
)
def test_hostile_text_is_looked_at_in_linear_time(raw: bytes) -> None:
    before = time.monotonic()
    text: JsonType[Any] = JsonType(Any)
    with pytest.raises(Unreadable):
        text.decode(raw)
    assert time.monotonic() - before < 2


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    text: JsonType[Line] = JsonType(Line)
    packed: PackedType[Line] = PackedType(Line)
    for decoder in (text, packed):
        with suppress(Unreadable):
            assert isinstance(decoder.decode(raw), Line)


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(Unreadable, match=r"^lines\[1\].count: expected `int`, got `str`$"):
        JsonType[Box](Box).decode(b'{"lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": "x"}]}')
    with pytest.raises(Unreadable, match="missing required field `count`"):
        JsonType[Line](Line).decode(b'{"sku": "a"}')


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "cannot be stored: there is no stored form of object"),
        ({"f": lambda: None}, "there is no stored form of function"),
        (2**70, "does not fit 64 bits"),
        ("\ud800", "cannot be stored"),
        (b"x" * 16_777_217, "more than 16777216"),
    ],
)
def test_what_cannot_be_stored_is_said_clearly(value: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        encode_packed(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(UsageError, match="contains itself"):
        encode_json(value)


def test_a_type_that_is_no_data_is_refused_when_the_decoder_is_made() -> None:
    with pytest.raises(UsageError, match="cannot be stored"):
        JsonType(Line | Box)
