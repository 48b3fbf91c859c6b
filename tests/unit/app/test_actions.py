"""Actions: plain outside a run, durable inside; typed end to end; arguments and results as the types say."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID

import pytest
from pydantic import BaseModel

from tests.unit.app import shop
from workflow_worker import App, RetryPolicy
from workflow_worker.app.actions import Action, ActionDefinition, CallOptions
from workflow_worker.app.attempt import AttemptContext, action, attempt_context
from workflow_worker.model.command import Complete, StartAction
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import ActionCompleted
from workflow_worker.runtime import ordering
from workflow_worker.runtime.execution import Execution

AT = datetime(2026, 11, 24, tzinfo=UTC)


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, event: str, **fields: object) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields))


def attempt_of(log: Lines, **more: Any) -> AttemptContext:
    return AttemptContext("fulfil:o-1", "charge", 1, 2, "fulfil:o-1/e-1/1", 77, log, **more)


def found(name: str, app: App = shop.app) -> ActionDefinition:
    definition = app.find_action(name)
    assert definition is not None
    return definition


async def test_outside_a_run_an_action_is_the_plain_call_and_keeps_its_types() -> None:
    with attempt_context(attempt_of(Lines())):
        paid = shop.charge("c", 7)
        _ = assert_type(paid, Coroutine[Any, Any, str])
        assert await paid == "c-7-2"
    written = shop.invoice("o", 1, a="b")
    _ = assert_type(written, Coroutine[Any, Any, bytes])
    assert await written == b"o(1,){'a': 'b'}"
    assert shop.invoice.fn("o") == b"o(){}"
    assert inspect.signature(shop.charge) == inspect.signature(shop.charge.fn)
    assert (shop.charge.__name__, shop.charge.__doc__) == ("charge", "Take the money.")


def test_inside_a_run_the_call_is_durable_and_replays() -> None:
    ordering.install()
    definition = shop.app.find_workflow("fulfil", 2)
    assert definition is not None
    event = Event("e-1", "order.placed", "o-1", b'{"order_id": "o-1", "total": 5}')

    def run() -> Execution:
        return Execution(
            ref=RunRef("fulfil:order-o-1"),
            subject="o-1",
            started_at=1,
            seed="s",
            main=definition.main(event, shop.app.events),
            events=shop.app.events,
            encode=definition.encode_result,
        )

    execution = run()
    first, second = (each for each in execution.feed(()) if isinstance(each, StartAction))
    assert (first.name, second.name) == ("charge[first]", "invoice")
    assert first.options == CallOptions(key="first")
    assert found(first.name) is shop.charge.definition
    assert found(first.name).decode_arguments(first.arguments) == ((), {"customer": "c", "total": 5})
    assert found(second.name).decode_arguments(second.arguments) == (("o-1", 1, 2), {"a": "b"})
    records = [
        ActionCompleted(2, 2, second.name, second.checksum, found("invoice").encode_result(b"\x00")),
        ActionCompleted(3, 1, first.name, first.checksum, found("charge").encode_result("paid")),
    ]
    replayed = run()
    for each in (execution, replayed):
        done = each.feed(records)[-1]
        assert isinstance(done, Complete)
        assert definition.decode_result(done.result) == ("paid", b"\x00")
        each.close()


def test_arguments_and_results_have_their_declared_types_also_where_these_are_defined_later() -> None:
    definition = found("price")
    parcel = shop.Parcel(UUID(int=3), {"a", "b"})
    args, kwargs = definition.decode_arguments(definition.encode_arguments((parcel, AT), {"rate": Decimal("1.5")}))
    assert (args, kwargs) == ((), {"parcel": parcel, "at": AT, "rate": Decimal("1.5")})
    quote = shop.Quote(UUID(int=3), Decimal("3.0"), AT)
    assert definition.decode_result(definition.encode_result(quote)) == quote


def test_how_arguments_are_passed_makes_no_difference_and_defaults_are_not_recorded() -> None:
    definition = found("charge")
    ways = [
        definition.encode_arguments(("c", 1), {}),
        definition.encode_arguments(("c",), {"total": 1}),
        definition.encode_arguments((), {"total": 1, "customer": "c"}),
    ]
    assert len(set(ways)) == 1

    async def grown(customer: str, total: int, currency: str = "EUR") -> str:
        return currency

    newer = App("x").action(name="charge")(grown).definition
    assert newer.encode_arguments(("c", 1), {}) == ways[0]
    assert newer.decode_arguments(ways[0]) == ((), {"customer": "c", "total": 1})


def test_wrong_calls_fail_like_any_python_call_and_wrong_values_say_where() -> None:
    definition = found("charge")
    with pytest.raises(TypeError, match="missing a required argument: 'total'"):
        definition.encode_arguments(("c",), {})
    with pytest.raises(UsageError, match="action 'charge': total: cannot be stored: there is no stored form of object"):
        definition.encode_arguments(("c", object()), {})
    with pytest.raises(UsageError, match="total: expected `int`, got `str`"):
        definition.decode_arguments(definition.encode_arguments(("c", "7"), {}))
    with pytest.raises(UsageError, match=r"result of action 'charge'.*expected `str`, got `int`"):
        definition.encode_result(7)


def test_a_changed_signature_is_said_in_words() -> None:
    raw = found("charge").encode_arguments(("c", 1), {})

    async def renamed(client: str, total: int) -> str:
        return client

    async def shrunk(total: int) -> str:
        return ""

    async def demanding(customer: str, total: int, currency: str) -> str:
        return currency

    reasons = ["customer: given by the call", "customer: given by the call", "missing a required argument: 'currency'"]
    for fn, reason in zip((renamed, shrunk, demanding), reasons, strict=True):
        with pytest.raises(UsageError, match=reason):
            App("x").action(fn).definition.decode_arguments(raw)


async def test_pydantic_models_and_unannotated_values_pass() -> None:
    app = App("x")

    class Address(BaseModel):
        street: str

    @app.action
    async def send(address: Address, note: Any = None) -> Any:
        return address.street, note

    definition = app.actions[0]
    args, kwargs = definition.decode_arguments(definition.encode_arguments((Address(street="s"), {"a": [1]}), {}))
    assert kwargs == {"address": Address(street="s"), "note": {"a": [1]}}
    assert definition.decode_result(definition.encode_result(await send(*args, **kwargs))) == ["s", {"a": [1]}]


def test_using_changes_one_call_only() -> None:
    policy = RetryPolicy(attempts=2)
    variant = shop.charge.using(timeout=timedelta(milliseconds=50), retry=policy).using(key="k")
    assert variant.options == CallOptions(timeout_ms=50, retry=policy, key="k")
    assert shop.charge.options is None
    assert variant.undo is shop.refund
    assert_type(variant("c", 1), Coroutine[Any, Any, str]).close()
    for key in ("", "a b", "a]", "x" * 101):
        with pytest.raises(UsageError, match="key"):
            shop.charge.using(key=key)
    with pytest.raises(UsageError, match="more than 0 seconds"):
        shop.charge.using(timeout=0)


def test_a_compensation_is_an_action_that_takes_the_result() -> None:
    assert shop.charge.undo is shop.refund
    assert found("refund") is shop.refund.definition
    app = App("x")

    @app.action(timeout=None)
    async def book(name: str) -> str:
        return name

    with pytest.raises(UsageError, match="result"):

        @book.compensation
        async def wrong(name: str) -> None: ...

    with pytest.raises(UsageError, match=r"does not take 'name': it is called with the arguments of 'book'"):

        @book.compensation
        async def forgets(*, result: str | None) -> None: ...

    with pytest.raises(UsageError, match="needs 'reason', which the action does not have"):

        @book.compensation
        async def asks(name: str, reason: str, *, result: str | None) -> None: ...

    @book.compensation(timeout=5, name="unbook")
    def right(name: str, *, result: str | None) -> None: ...

    assert [(each.name, each.timeout_ms, each.is_async) for each in app.actions] == [
        ("book", None, True),
        ("unbook", 5_000, False),
    ]
    with pytest.raises(UsageError, match=r"two compensations.*test_actions.py:\d+.*test_actions.py:\d+"):
        book.compensation(right.fn)


def test_two_actions_of_one_name_are_refused_naming_both_places() -> None:
    app = App("x")

    @app.action
    async def twice() -> None: ...

    with pytest.raises(UsageError, match=r"'twice' is declared twice: at .*test_actions.py:\d+ and at .*:\d+"):
        app.action(twice.fn)


def test_what_cannot_be_an_action_is_refused() -> None:
    app = App("x")

    def numbers() -> Any:
        yield 1

    for wrong, reason in ((numbers, "is a generator"), (int, "goes above a function"), (lambda: 1, "action name")):
        with pytest.raises(UsageError, match=reason):
            app.action(wrong)  # pyright: ignore[reportArgumentType, reportCallIssue] - what is tested
    with pytest.raises(UsageError, match="goes above a function"):
        app.action(shop.charge)


def test_an_annotation_that_cannot_be_resolved_is_said_clearly() -> None:
    app = App("x")

    @app.action
    async def lost(value: Nowhere) -> None: ...  # noqa: F821 # pyright: ignore - what is tested

    with pytest.raises(UsageError, match=r"annotations of action 'lost'.*Nowhere.*top level of its module"):
        app.actions[0].check()


async def test_an_action_sees_its_attempt_and_nobody_else_does() -> None:
    log, beats = Lines(), list[int]()
    with attempt_context(attempt_of(log, beat=lambda: beats.append(1))):
        assert (action.run, action.name, action.step, action.attempt) == ("fulfil:o-1", "charge", 1, 2)
        assert (action.idempotency_key, action.fencing_token) == ("fulfil:o-1/e-1/1", 77)
        action.log.info("sent", to="ann")
        action.heartbeat()
    assert log.lines == [("info", "sent", {"to": "ann"})]
    assert beats == [1]
    for name in ("run", "attempt", "idempotency_key", "fencing_token", "log"):
        with pytest.raises(UsageError, match=f"action.{name} is known only while"):
            getattr(action, name)
    with attempt_context(attempt_of(log)):
        action.heartbeat()


def test_an_action_shows_what_it_is() -> None:
    assert repr(shop.charge.using(key="k")).startswith("<action charge[k] at ")
    assert isinstance(shop.charge, Action)


def test_object_in_an_annotation_stands_for_anything() -> None:
    app = App("anything")

    @app.action
    async def fetch(of: object) -> object:
        return of

    @app.action
    async def fetch_all() -> list[object]:
        return []

    for given in ({"a": [1]}, "x", None):
        assert fetch.definition.decode_result(fetch.definition.encode_result(given)) == given
        args, kwargs = fetch.definition.decode_arguments(fetch.definition.encode_arguments((given,), {}))
        assert [*args, *kwargs.values()] == [given]
    assert fetch_all.definition.decode_result(fetch_all.definition.encode_result([1, "x"])) == [1, "x"]
