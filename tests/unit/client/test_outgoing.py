"""What a producer has in hand becomes the event that goes out, or an error that says what to write instead."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from workflow_worker.app.events import EventCatalogue
from workflow_worker.client.outgoing import Item, addressed, outgoing, workflow_name
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, UsageError


@dataclass(frozen=True)
class OrderPlaced:
    order_id: str
    total: int


@dataclass(frozen=True)
class Issue:
    key: str


@dataclass(frozen=True)
class Stranger:
    name: str


catalogue = EventCatalogue()
catalogue.declare(OrderPlaced, ["order.placed"], "order_id")
catalogue.declare(Issue, ["issue.opened", "github.issues.*"], "key")


def made(event: object, **options: object) -> Event:
    return outgoing(Item(event, **options), lambda: "new", 1_000).event  # pyright: ignore[reportArgumentType] - options of many types


def test_a_typed_event_brings_its_type_subject_and_data() -> None:
    assert made(OrderPlaced("o-1", 7)) == Event("new", "order.placed", "o-1", b'{"order_id":"o-1","total":7}')


def test_a_given_id_and_subject_win() -> None:
    event = made(OrderPlaced("o-1", 7), id="e-1", subject="other")
    assert (event.id, event.subject) == ("e-1", "other")


def test_a_class_of_several_types_needs_the_type() -> None:
    with pytest.raises(UsageError, match="say which type"):
        made(Issue("k"))
    assert made(Issue("k"), type="github.issues.closed").type == "github.issues.closed"
    with pytest.raises(UsageError, match=r"not declared for 'order\.placed'"):
        made(Issue("k"), type="order.placed")


def test_an_undeclared_class_is_refused_with_advice() -> None:
    with pytest.raises(UsageError, match=r"@app\.event"):
        made(Stranger("x"))


def test_bytes_are_json_text_and_other_data_is_encoded() -> None:
    assert made("a.b", data=b'{"x": 1}').data == b'{"x": 1}'
    assert made("a.b", data={"x": 1}).data == b'{"x":1}'
    assert made("a.b").data == b"null"


@pytest.mark.parametrize("raw", [b"{", b"", b"\xff", b'"\xff"', b"1 2", b"[" * 200 + b"]" * 200])
def test_what_is_no_json_is_rejected(raw: bytes) -> None:
    with pytest.raises(EventRejected, match="is not JSON"):
        made("a.b", data=raw)


def test_the_size_limit_names_the_variable_and_both_numbers() -> None:
    assert made("a.b", data=b'"' + b"x" * 998 + b'"').id == "new"
    with pytest.raises(EventRejected, match=r"1001 bytes, more than MAX_EVENT_BYTES \(1000\)"):
        made("a.b", data=b'"' + b"x" * 999 + b'"')


@pytest.mark.parametrize("event_type", ["", "wf.cancel", "a b", "a\n", "x" * 201])
def test_types_that_cannot_be_published(event_type: str) -> None:
    with pytest.raises(UsageError):
        made(event_type)


def test_half_a_surrogate_pair_is_rejected_before_it_reaches_the_wire() -> None:
    with pytest.raises(EventRejected, match="subject"):
        made("a.b", subject="\ud800")


def test_attributes_are_those_of_cloudevents() -> None:
    assert made("a.b", attributes={"source": "/shop"}).source == "/shop"
    with pytest.raises(UsageError, match="'colour'"):
        made("a.b", attributes={"colour": "red"})


def test_an_address_needs_a_workflow_and_a_run_id() -> None:
    sent = outgoing(Item("a.b"), lambda: "new", 1_000)
    assert (addressed(sent, "fulfil", "o:1").workflow, addressed(sent, "fulfil", "o:1").run) == ("fulfil", "o:1")
    for workflow, run_id in (("ful:fil", "x"), ("fulfil", ""), ("fulfil", "x" * 501)):
        with pytest.raises(UsageError):
            addressed(sent, workflow, run_id)
    with pytest.raises(UsageError, match="not a workflow"):
        workflow_name(7)
