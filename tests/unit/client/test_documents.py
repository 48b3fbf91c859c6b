"""What commands show of bytes that strangers wrote."""

from __future__ import annotations

import json

import pytest

from workflow_worker.cli.output import to_json
from workflow_worker.client.documents import decoded, letter_document
from workflow_worker.model.deadletter import DeadLetter

HOSTILE = (b"[" * 100_000, b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 10_000, b"\xff\xfe", b"\x00", b"NaN", b"", b"{")


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:8]))
def test_a_letter_is_shown_whatever_its_data_are(data: bytes) -> None:
    letter = DeadLetter(id="1-0", reason="rejected", at=0, raw=(b"type", b"a", b"data", data, b"\xff", b"\xfe"))
    shown = json.loads(to_json(letter_document(letter)))
    assert shown["raw"][1] == ["data", data.decode("utf-8", "backslashreplace")]


def test_json_is_shown_as_json_and_all_else_as_text() -> None:
    assert decoded(b'{"a": [1, null]}') == {"a": [1, None]}
    assert decoded(b"[" * 101 + b"]" * 101) == "[" * 101 + "]" * 101
    assert decoded(b"") is None
    assert decoded(None) is None
