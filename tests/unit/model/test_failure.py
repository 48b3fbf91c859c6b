"""What a history keeps of an error, whatever the exception's own methods do."""

from __future__ import annotations

import pytest

from workflow_worker.model.exceptions import ActionCancelled, ActionFailed
from workflow_worker.model.failure import Failure, describe, rebuild
from workflow_worker.model.record import RunSuspended, decode_record, encode_record


class Declined(Exception):
    """An error with attributes, as authors write them."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"declined with {code}")
        self.code = code


class Unprintable(Exception):
    """An error that nobody can look at."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_the_same_class_comes_back_without_its_constructor() -> None:
    error = rebuild(describe(Declined(code=7)))
    assert isinstance(error, Declined)
    assert (error.code, str(error)) == (7, "declined with 7")


def test_a_text_that_no_encoder_takes_is_recorded_all_the_same() -> None:
    failure = describe(RuntimeError("bad \udcff name"))
    assert failure.message == "bad \\udcff name"
    record = decode_record(encode_record(RunSuspended(1, failure)))
    assert isinstance(record, RunSuspended)
    assert record.failure == failure


def test_an_error_that_cannot_be_printed_is_described() -> None:
    assert describe(Unprintable()).message == "<Unprintable whose __str__ raised RuntimeError>"


def test_notes_that_are_no_notes_are_left_out() -> None:
    error = ValueError("x")
    error.__notes__ = 7  # pyright: ignore[reportAttributeAccessIssue] - what a stranger may do
    assert describe(error).notes == ()


def test_large_arguments_are_left_out_and_the_message_stands_in() -> None:
    failure = describe(ValueError("y" * 100_000))
    assert failure.arguments == b""
    assert len(failure.message) == 4_000
    assert rebuild(failure).args == (failure.message,)


def test_a_group_keeps_its_first_members() -> None:
    group = ExceptionGroup("many", [ValueError(str(number)) for number in range(500)])
    failure = describe(group)
    assert len(failure.members) == 20
    assert isinstance(rebuild(failure), ExceptionGroup)


@pytest.mark.parametrize(
    ("module", "qualname"),
    [("os", "path"), ("builtins", "SystemExit"), ("workflow_worker", "Client"), ("nowhere", "Error"), ("", "")],
)
def test_only_exception_classes_under_their_own_name_are_rebuilt(module: str, qualname: str) -> None:
    failure = Failure(f"{module}.{qualname}", "forged", module=module, qualname=qualname)
    assert isinstance(rebuild(failure), ActionFailed)


def test_a_cancellation_arrives_as_another_class_than_our_own() -> None:
    failure = Failure("asyncio.exceptions.CancelledError", "gone")
    assert isinstance(rebuild(failure), ActionCancelled)
