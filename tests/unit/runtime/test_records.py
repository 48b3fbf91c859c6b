"""Records meet calls: by number, kind, name and arguments; late ones are ignored, foreign ones suspend the run."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.driver import START, Boom, Driver, act, names, started
from workflow_worker.model.command import CancelAction, CancelTimer, Complete, StartAction, StartTimer, Suspend
from workflow_worker.model.exceptions import Evicted, NonDeterminism, UsageError
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.model.record import (
    ActionCompleted,
    ActionParked,
    AttemptFailed,
    Record,
    RunCompleted,
    RunResumed,
    RunStarted,
    RunSuspended,
    TimerFired,
)
from workflow_worker.runtime import wf
from workflow_worker.runtime.execution import current_execution


async def with_timeout() -> str:
    try:
        async with asyncio.timeout(20):
            return await act("charge")
    except TimeoutError:
        return "late"


async def with_wait_for() -> str:
    try:
        return await asyncio.wait_for(act("charge"), 20)
    except TimeoutError:
        return "late"


@pytest.mark.parametrize("main", [with_timeout, with_wait_for])
def test_completion_before_the_timer_wins_and_the_timer_is_ignored(main: Any) -> None:
    driver = Driver(main)
    timer = driver.fired()
    assert driver.feed(driver.done("charge", "ch_1"), timer) == [CancelTimer(timer.number), Complete(b'"ch_1"')]
    assert driver.replay() == [Complete(b'"ch_1"')]


@pytest.mark.parametrize("main", [with_timeout, with_wait_for])
def test_timer_before_the_completion_wins_and_the_result_is_ignored(main: Any) -> None:
    driver = Driver(main)
    number = driver.action("charge").number
    assert driver.feed(driver.fired(), driver.done("charge", "ch_1")) == [CancelAction(number), Complete(b'"late"')]
    assert driver.replay() == [Complete(b'"late"')]


async def survives_cancel() -> str:
    try:
        return await act("charge")
    except asyncio.CancelledError:
        return await act("tidy")


def test_completion_before_a_cancel_is_not_lost() -> None:
    async def main() -> str:
        result = await act("charge")
        await act("pack", result)
        return result

    driver = Driver(main)
    driver.complete("charge", "ch_1")
    driver.cancel()
    assert type(driver.given[-1]).__name__ == "Cancelled"


def test_cancel_before_a_completion_ignores_the_late_record() -> None:
    driver = Driver(survives_cancel)
    late = driver.done("charge", "ch_1")
    assert names(driver.cancel()) == ["CancelAction", "tidy"]
    assert driver.feed(late) == []
    driver.complete("tidy", "tidied")
    assert driver.result() == "tidied"
    assert driver.replay() == [Complete(b'"tidied"')]


def test_cancel_before_a_timer_cancels_and_after_it_times_out() -> None:
    driver = Driver(with_timeout)
    driver.feed(driver.fired())
    assert driver.result() == "late"
    other = Driver(with_timeout)
    timer = other.fired()
    other.cancel()
    assert type(other.given[-1]).__name__ == "Cancelled"
    assert other.feed(timer) == []


async def two() -> str:
    first = await act("charge", "alice")
    await act("ship", first)
    return "shipped"


def test_another_name_suspends_with_both_names_numbers_and_the_line() -> None:
    async def edited() -> None:
        await act("reserve", "alice")

    history = Driver(two)
    driver = Driver(edited, [history.done("charge")])
    line = edited.__code__.co_firstlineno + 1
    assert "at record 1: history has action 'charge' (#1), code now calls 'reserve' (#1)" in driver.suspension()
    assert f"at test_records.py:{line}" in driver.suspension()
    failure = driver.last(Suspend).failure
    assert failure.type.endswith(".NonDeterminism")
    assert failure.kind is ErrorKind.PERMANENT
    assert driver.run.finished


def test_swapped_calls_of_one_name_are_detected() -> None:
    async def first() -> None:
        await asyncio.gather(act("charge", "alice"), act("charge", "bob"))

    async def swapped() -> None:
        await asyncio.gather(act("charge", "bob"), act("charge", "alice"))

    driver = Driver(swapped, [Driver(first).done("charge", "ch_1")])
    assert "code now calls it with other arguments at test_records.py" in driver.suspension()


def test_an_unknown_number_suspends() -> None:
    driver = Driver(two)
    driver.feed(ActionCompleted(START, 9, "charge", 0, b"1"))
    assert "history has action 'charge' (#9), code has no step #9" in driver.suspension()
    assert "two" in driver.suspension()


@pytest.mark.parametrize("timer_is", ["in history", "in code"])
def test_another_kind_suspends(timer_is: str) -> None:
    async def sleeps() -> None:
        await asyncio.sleep(5)

    if timer_is == "in history":
        driver = Driver(two, [TimerFired(START, 1, START)])
        assert "history has a timer (#1), code now calls 'charge' (#1) at test_records.py" in driver.suspension()
    else:
        driver = Driver(sleeps, [ActionCompleted(START, 1, "charge", 0, b"1")])
        assert (
            "history has action 'charge' (#1), code now starts a timer (#1) at test_records.py" in driver.suspension()
        )


def test_a_changed_duration_is_no_mismatch() -> None:
    async def sleeps() -> str:
        await asyncio.sleep(5)
        return "done"

    assert Driver(sleeps, [TimerFired(START + 9, 1, START + 9)]).result() == "done"


def test_a_workflow_that_returns_before_its_history_ends_is_suspended() -> None:
    async def short() -> str:
        return await act("charge", "alice")

    driver = Driver(two)
    driver.complete("charge", "x")
    driver.complete("ship")
    other = Driver(short, driver.history)
    assert names(other.given) == ["Suspend"]
    assert "history has action 'ship' (#2)" in other.suspension()
    assert "the workflow function has ended" in other.suspension()


def test_a_mismatch_names_the_python_that_wrote_the_history() -> None:
    driver = Driver(two, [RunStarted(START, "3.9.1", "0.1"), TimerFired(START, 1, START)])
    assert "written by Python 3.9" in driver.suspension()


def test_a_second_record_of_one_number_suspends() -> None:
    driver = Driver(two)
    record = driver.done("charge", "x")
    driver.feed(record)
    driver.feed(record)
    assert "code has no step #1" in driver.suspension()


def test_a_call_cancelled_before_the_run_came_to_rest_was_never_made() -> None:
    async def main() -> None:
        act("charge").cancel()
        await act("ship")

    driver = Driver(main)
    assert names(driver.given) == ["ship"]
    driver.feed(ActionCompleted(START, 1, "charge", driver.action("ship").checksum, b"1"))
    assert "code has no step #1" in driver.suspension()


def test_attempts_and_due_come_back_in_a_replay_and_say_nothing_live() -> None:
    driver = Driver(two)
    charge = driver.action("charge")
    failure = describe(Boom("no"))
    attempt = AttemptFailed(START + 1, 1, "charge", charge.checksum, failure, 2, START + 60_000)
    assert driver.feed(attempt) == []
    assert [(c.attempts, c.due) for c in started(driver.replay())] == [(2, START + 60_000)]
    assert driver.run.outstanding() == driver.replay()
    driver.feed(ActionParked(START + 2, 1, "charge", charge.checksum, failure, 4), RunSuspended(START + 2, failure))
    assert list(driver.run.pending_numbers) == [1]
    assert driver.feed(RunResumed(START + 3, "somebody")) == []
    assert driver.replay() == [charge]
    driver.complete("charge", "x")
    assert names(driver.given)[-1] == "ship"


def test_a_foreign_attempt_suspends() -> None:
    driver = Driver(two)
    driver.feed(AttemptFailed(START, 1, "refund", 0, describe(Boom()), 1, 0))
    assert "history has action 'refund' (#1), code now calls 'charge' (#1)" in driver.suspension()


def test_a_replay_returns_what_is_outstanding_only() -> None:
    async def main() -> str:
        wf.state(step=1)
        await act("a")
        wf.state(step=2, more=True)
        late = asyncio.create_task(asyncio.sleep(30))
        await asyncio.gather(act("b"), act("c"))
        await late
        return "end"

    driver = Driver(main)
    driver.complete("a")
    driver.complete("c")
    replayed = driver.replay()
    assert names(replayed) == ["b", "StartTimer", "SetState"]
    assert msgspec.json.decode(replayed[-1].state) == {"step": 2, "more": True}  # type: ignore[union-attr]
    driver.complete("b")
    driver.fire()
    assert names(driver.replay()) == ["SetState", "Complete"]


def test_end_records_are_ignored() -> None:
    driver = Driver(two)
    driver.complete("charge", "x")
    driver.complete("ship")
    ended: list[Record] = [*driver.history, RunCompleted(driver.now, b'"shipped"')]
    assert names(Driver(two, ended).given) == ["Complete"]


def test_results_are_what_the_codec_gives_back() -> None:
    async def main() -> list[str]:
        return [type(await act("a", (1, 2))).__name__, type(await act("b")).__name__]

    driver = Driver(main)
    driver.complete("a", (1, 2))
    driver.complete("b", {"x"})
    assert driver.result() == ["list", "list"]


def test_a_result_that_does_not_decode_is_raised_at_the_await() -> None:
    async def main() -> str:
        execution = current_execution()
        assert execution is not None
        try:
            await execution.call("a", b"[]", lambda raw: msgspec.json.decode(raw, type=int), None)
        except UsageError as error:
            return str(error)
        return "no error"

    driver = Driver(main)
    driver.complete("a", "text")
    assert "result of action 'a' (#1) does not fit" in driver.result()


def test_a_raised_error_takes_the_same_branch_live_and_replayed() -> None:
    async def main() -> str:
        try:
            await act("charge")
        except Boom as error:
            return f"boom {error}"
        return "none"

    driver = Driver(main)
    driver.fail("charge", Boom("declined"))
    assert driver.result() == "boom declined"
    assert driver.replay() == [Complete(b'"boom declined"')]


def test_two_timers_due_together_are_one_record_each() -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def one(name: str) -> None:
            await asyncio.sleep(3)
            order.append(name)

        await asyncio.gather(one("first"), one("second"))
        return order

    driver = Driver(main)
    assert driver.given == [StartTimer(1, START + 3000), StartTimer(2, START + 3000)]
    driver.fire()
    driver.fire()
    assert driver.result() == ["first", "second"]


def test_zero_and_negative_delays_make_no_timer() -> None:
    async def main() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(-5)
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(10)
        except TimeoutError:
            return "at once"
        return "never"

    assert names(Driver(main).given) == ["Complete"]


def test_due_times_are_exact_milliseconds_at_this_age_of_the_world() -> None:
    async def main() -> None:
        await asyncio.gather(*[asyncio.sleep(tenth / 10) for tenth in range(1, 200)], asyncio.sleep(0.001))

    assert [c.due for c in Driver(main).given if isinstance(c, StartTimer)] == [
        *[START + 100 * tenth for tenth in range(1, 200)],
        START + 1,
    ]


@pytest.mark.parametrize("delay", [float("inf"), float("nan"), 1e300])
def test_a_timer_that_never_fires_is_refused(delay: float) -> None:
    async def main() -> None:
        await asyncio.sleep(delay)

    assert type(Driver(main).given[-1]) is Suspend


def test_a_timer_started_and_cancelled_before_rest_gives_no_command() -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await asyncio.sleep(0)
        await act("a")

    assert names(Driver(main).given) == ["a"]


def test_the_clock_never_goes_back() -> None:
    async def main() -> list[float]:
        times = [wf.time()]
        for name in "abc":
            await act(name)
            times.append(wf.time())
        return times

    driver = Driver(main)
    for name, at in (("a", START + 5000), ("b", START + 2000), ("c", START + 6000)):
        driver.feed(ActionCompleted(at, *_key(driver, name), b"1"))
    assert driver.result() == [START / 1000 + seconds for seconds in (0, 5, 5, 6)]


def _key(driver: Driver, name: str) -> tuple[int, str, int]:
    command: StartAction = driver.action(name)
    return command.number, command.name, command.checksum


class Interrupt(BaseException):
    """What a watchdog's signal handler raises in the middle of the code."""


def test_an_error_raised_inside_a_callback_leaves_the_drain() -> None:
    for error in (NonDeterminism("x"), KeyError("k"), SystemExit(3), Evicted("e"), Interrupt("of a watchdog")):

        async def main(error: BaseException = error) -> None:
            def fail() -> None:
                raise error

            asyncio.get_running_loop().call_soon(fail)
            await act("a")

        driver = Driver(main)
        assert type(error).__name__ in driver.suspension()
        assert driver.run.complaints == ()
