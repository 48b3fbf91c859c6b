"""A recorded failure takes the same `except` branch live and replayed, whatever its class, and grows no traceback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.unit.runtime.driver import Boom, Driver, act
from workflow_worker.model.command import Complete
from workflow_worker.model.exceptions import ActionCancelled, ActionFailed, ActionTimeout
from workflow_worker.model.failure import describe, rebuild


class Declined(Exception):
    """With a constructor that nothing but keywords satisfies."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"declined with {code}")
        self.code = code


def keyword_only() -> BaseException:
    return Declined(code=7)


def vanished() -> BaseException:
    module = ModuleType("vanished_module")
    sys.modules["vanished_module"] = module
    exec("class Gone(Exception): pass", module.__dict__)
    return module.__dict__["Gone"]("lost")


def with_causes() -> BaseException:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise Boom("middle") from inner
    except Boom as middle:
        outer = ValueError("outer")
        outer.__cause__ = middle
        return outer


def grouped() -> BaseException:
    return ExceptionGroup("several", [Boom("one"), ExceptionGroup("inner", [Declined(code=9), TimeoutError("late")])])


def flat(error: BaseException) -> list[BaseException]:
    members: list[BaseException] = getattr(error, "exceptions", [])
    return [leaf for member in members for leaf in flat(member)] if members else [error]


async def main() -> str:
    """Say by which branch, with what, the error of ``charge`` came."""
    try:
        async with asyncio.timeout(60):
            await act("charge")
    except Declined as error:
        return f"declined {error.code} {error}"
    except Boom as error:
        return f"boom {error}"
    except ActionCancelled as error:
        return f"cancelled {error}"
    except ActionTimeout as error:
        return f"action timeout {error}"
    except TimeoutError as error:
        return f"timeout {error}"
    except ActionFailed as error:
        return f"failed {error} {error.matches(StopIteration)}"
    except ValueError as error:
        cause = error.__cause__
        return f"value {error!r} from {cause!r} from {cause.__cause__ if cause else None!r}"
    except ExceptionGroup as group:
        return f"group {group.message} {[repr(error) for error in flat(group)]}"
    except asyncio.CancelledError:
        return "the task was cancelled"
    return "none"


CASES: list[tuple[Callable[[], BaseException], str]] = [
    (keyword_only, "declined 7 declined with 7"),
    (vanished, "failed Gone: lost False"),
    (with_causes, "value ValueError('outer') from Boom('middle') from KeyError('inner')"),
    (grouped, "group several [\"Boom('one')\", \"Declined('declined with 9')\", \"TimeoutError('late')\"]"),
    (lambda: StopIteration(5), "failed StopIteration: 5 True"),
    (lambda: StopAsyncIteration(), "failed builtins.StopAsyncIteration False"),
    (lambda: asyncio.CancelledError("by itself"), "cancelled by itself"),
    (lambda: KeyboardInterrupt(), "failed builtins.KeyboardInterrupt False"),
    (lambda: SystemExit(3), "failed SystemExit: 3 False"),
    (lambda: GeneratorExit(), "failed builtins.GeneratorExit False"),
    (lambda: TimeoutError("its own"), "timeout its own"),
    (lambda: ActionTimeout("too long"), "action timeout too long"),
]


@pytest.mark.parametrize(("make", "expected"), CASES)
def test_the_same_branch_live_and_replayed(make: Callable[[], BaseException], expected: str) -> None:
    driver = Driver(main)
    record = driver.raised("charge", make())
    sys.modules.pop("vanished_module", None)  # a later release does not have the class any more
    driver.open.pop(record.number)
    driver.feed(record)
    assert driver.result() == expected
    replayed = driver.replay()[-1]
    assert isinstance(replayed, Complete)
    assert replayed == driver.given[-1]


def test_members_of_a_recorded_group_are_split_by_class() -> None:
    async def splits() -> list[str]:
        seen: list[str] = []
        try:
            await act("charge")
        except* Boom as booms:
            seen += [repr(error) for error in flat(booms)]
        except* (Declined, TimeoutError) as others:
            seen += [repr(error) for error in flat(others)]
        return seen

    driver = Driver(splits)
    driver.fail("charge", grouped())
    assert driver.result() == ["Boom('one')", "Declined('declined with 9')", "TimeoutError('late')"]
    assert driver.replay()[-1] == driver.given[-1]


def test_a_hundred_replays_of_a_failure_grow_no_traceback() -> None:
    seen: list[int] = []

    async def measures() -> None:
        try:
            await act("charge")
        except Boom as error:
            length, link = 0, error.__traceback__
            while link is not None:
                length, link = length + 1, link.tb_next
            seen.append(length)

    driver = Driver(measures)
    driver.fail("charge", Boom("no"))
    for _ in range(100):
        driver.replay()
    assert len(seen) == 101
    assert len(set(seen)) == 1


def test_a_failure_rebuilt_twice_is_two_objects() -> None:
    failure = describe(Boom("no"))
    first, second = rebuild(failure), rebuild(failure)
    assert first is not second
    assert (type(first), first.args, first.__traceback__) == (Boom, ("no",), None)
