"""How a run ends: by return, wf.Failed, cancellation, errors; and what becomes of what it left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.runtime.driver import Boom, Driver, act, names
from workflow_worker.model.command import CancelAction, Cancelled, Complete, Fail, Suspend
from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.record import CancelRequested, RunResumed, RunSuspended
from workflow_worker.runtime import wf


def test_failed_ends_the_run_as_failed() -> None:
    async def main() -> None:
        await act("a")
        raise wf.Failed("not packed in 2 days")

    driver = Driver(main)
    driver.complete("a")
    failure = driver.last(Fail).failure
    assert (failure.message, failure.kind) == ("not packed in 2 days", ErrorKind.PERMANENT)
    assert driver.replay() == [driver.given[-1]]


def test_failed_out_of_a_task_group_ends_the_run_as_failed_unless_something_else_went_wrong() -> None:
    async def child(error: Exception) -> None:
        raise error

    async def main(*errors: Exception) -> None:
        async with asyncio.TaskGroup() as group:
            for error in errors:
                group.create_task(child(error))

    assert type(Driver(lambda: main(wf.Failed("a"), wf.Failed("b"))).given[-1]) is Fail
    assert type(Driver(lambda: main(wf.Failed("a"), Boom("b"))).given[-1]) is Suspend


@pytest.mark.parametrize("error", [Boom("b"), SystemExit(2), asyncio.CancelledError(), GeneratorExit()])
def test_any_other_error_suspends_with_its_traceback(error: BaseException) -> None:
    async def main() -> None:
        await act("a")
        raise error

    driver = Driver(main)
    driver.complete("a")
    failure = driver.last(Suspend).failure
    assert type(error).__name__ in failure.type
    assert failure.kind is ErrorKind.PERMANENT
    assert "in main" in failure.traceback
    assert driver.run.finished


def test_an_error_when_the_function_is_called_suspends() -> None:
    def main() -> Any:
        raise TypeError("missing 1 required argument")

    assert "missing 1 required argument" in Driver(main).suspension()


def test_a_result_that_does_not_encode_suspends() -> None:
    async def main() -> object:
        return object()

    assert type(Driver(main).given[-1]) is Suspend


def test_a_suspended_run_runs_no_clean_up_and_answers_nothing_more() -> None:
    async def other() -> None:
        try:
            await act("other")
        finally:
            await act("tidy")

    async def main() -> None:
        task = asyncio.create_task(other())
        await act("a")
        task.get_name()
        raise Boom("bug")

    driver = Driver(main)
    driver.complete("a")
    assert names(driver.given) == ["a", "other", "Suspend"]
    suspended = RunSuspended(driver.now, driver.last(Suspend).failure)
    assert driver.feed(suspended, RunResumed(driver.now, "x")) == []
    assert names(driver.replay()) == ["Suspend"]


def test_cancel_ends_the_run_as_cancelled() -> None:
    async def main() -> None:
        await act("a")

    driver = Driver(main)
    assert driver.cancel() == [CancelAction(1), Cancelled()]
    assert driver.replay() == [Cancelled()]


def test_cancel_runs_clean_up_first() -> None:
    async def main() -> None:
        try:
            await act("a")
        finally:
            await act("tidy")

    driver = Driver(main)
    assert names(driver.cancel()) == ["CancelAction", "tidy"]
    driver.complete("tidy")
    assert driver.given[-1] == Cancelled()


def test_a_swallowed_cancel_lets_the_run_go_on_and_each_cancel_interrupts() -> None:
    async def main() -> int:
        for name in ("a", "b"):
            try:
                await act(name)
            except asyncio.CancelledError:
                pass
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    driver = Driver(main)
    assert names(driver.cancel()) == ["CancelAction", "b"]
    assert names(driver.cancel()) == ["CancelAction", "Complete"]
    assert driver.result() == 2


def test_two_cancels_during_clean_up_each_interrupt_it() -> None:
    async def main() -> None:
        try:
            await act("a")
        finally:
            try:
                await act("tidy")
            finally:
                await act("more")

    driver = Driver(main)
    assert names(driver.cancel()) == ["CancelAction", "tidy"]
    assert names(driver.cancel()) == ["CancelAction", "more"]
    driver.complete("more")
    assert driver.given[-1] == Cancelled()
    assert driver.replay() == [Cancelled()]


def test_two_cancels_in_one_feed_are_two() -> None:
    seen: list[str] = []

    async def main() -> None:
        for name in "abc":
            try:
                await act(name)
            except asyncio.CancelledError:
                seen.append(name)

    driver = Driver(main)
    driver.feed(*[CancelRequested(driver.now, f"c{number}", "x", "") for number in range(2)])
    assert seen == ["a", "b"]
    assert names(driver.given) == ["a", "CancelAction", "c"]


def test_cancel_before_the_first_step_waits_for_the_first_rest() -> None:
    async def main() -> str:
        try:
            await act("a")
        except asyncio.CancelledError:
            return "told"
        return "not told"

    live = Driver(main)
    live.cancel()
    assert live.result() == "told"
    assert live.replay() == [Complete(b'"told"')]


def test_shielded_work_goes_on_after_a_cancel() -> None:
    async def main() -> str:
        inner = act("a")
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            return await inner
        return "not cancelled"

    driver = Driver(main)
    assert driver.cancel() == []
    driver.complete("a", "still")
    assert driver.result() == "still"


def test_group_error_and_outer_cancel_as_neighbouring_records_cancel() -> None:
    async def child(name: str) -> None:
        await act(name)

    async def main() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child("a"))
                group.create_task(child("b"))
        except* Boom:
            pass
        await act("after")

    driver = Driver(main)
    driver.fail("a", Boom("no"))
    driver.cancel()
    assert driver.given[-1] == Cancelled()


def test_background_tasks_are_cancelled_in_order_of_creation_once() -> None:
    seen: list[str] = []

    async def background(name: str) -> None:
        try:
            await act(name)
        except asyncio.CancelledError:
            seen.append(name)
            await act(f"tidy-{name}")

    async def main() -> str:
        kept = [asyncio.create_task(background(name)) for name in "xyz"]
        await asyncio.sleep(0)
        await act("a")
        return f"{len(kept)}"

    driver = Driver(main)
    commands = driver.complete("a")
    assert seen == ["x", "y", "z"]
    assert names(commands) == ["CancelAction", "CancelAction", "CancelAction", "Complete"]
    seen.clear()
    assert names(driver.replay()) == ["Complete"]
    assert seen == ["x", "y", "z"]
    driver.close()


def test_unawaited_and_shielded_calls_are_told_when_the_run_ends() -> None:
    async def main() -> str:
        act("forgotten")
        await act("a")
        return "end"

    driver = Driver(main)
    assert driver.complete("a") == [CancelAction(1), Complete(b'"end"')]


def test_a_run_that_nothing_can_wake_is_suspended_with_the_line() -> None:
    async def main() -> None:
        await act("a")
        await asyncio.Event().wait()

    driver = Driver(main)
    driver.complete("a")
    assert names(driver.given) == ["a", "Suspend"]
    assert f"test_endings.py:{main.__code__.co_firstlineno + 2} in test_a_run_that" in driver.suspension()
    assert driver.last(Suspend).failure.type.endswith(".Deadlock")
    assert driver.feed(RunSuspended(driver.now, driver.last(Suspend).failure)) == []
    assert not driver.run.finished
    assert driver.cancel() == [Cancelled()]


def test_a_resume_of_a_deadlock_suspends_again() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    driver = Driver(main)
    driver.feed(RunSuspended(driver.now, driver.last(Suspend).failure))
    assert names(driver.feed(RunResumed(driver.now, "x"))) == ["Suspend"]
    assert names(driver.replay()) == ["Suspend"]


def test_an_error_that_nobody_awaits_is_kept_for_the_log() -> None:
    async def main() -> str:
        act("forgotten")
        await act("a")
        return "end"

    driver = Driver(main)
    driver.fail("forgotten", Boom("unseen"))
    driver.complete("a")
    assert any("forgotten#1" in text and "test_endings.py" in text for text in driver.run.complaints)


def test_unmatched_mail_is_named_at_the_end() -> None:
    async def main() -> str:
        await act("a")
        return "end"

    driver = Driver(main)
    record = driver.event("packed", {})
    driver.feed(record)
    driver.complete("a")
    assert driver.last(Complete).unmatched == (record.entry,)
    assert driver.run.unmatched == (record.entry,)
