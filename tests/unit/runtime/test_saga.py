"""Sagas: what was done is undone, last first, each when it is known how its action ended; no cancel stops that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.driver import Boom, Driver, names, started
from workflow_worker import App, wf
from workflow_worker.app.actions import CallOptions
from workflow_worker.model.command import CancelAction, Cancelled, Complete, Fail, Suspend
from workflow_worker.model.exceptions import ActionCancelled, ActionTimeout, UsageError
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.model.record import ActionParked, ActionRaised, RunResumed

app = App("shop")


@app.action
async def reserve(order: str) -> str:
    return f"hold-{order}"


@reserve.compensation
async def release(order: str, *, result: str | None) -> None: ...


@app.action
async def charge(order: str, total: int = 1) -> str:
    return f"payment-{order}"


@charge.compensation
async def refund(order: str, total: int = 1, *, result: str | None) -> None: ...


@app.action
async def notify(order: str) -> None: ...


def drive(main: Callable[[], Coroutine[Any, Any, Any]]) -> Driver:
    return Driver(main, packed=True)


def arguments(driver: Driver, name: str) -> dict[str, Any]:
    """What the open action of that name was called with."""
    found: dict[str, Any] = msgspec.msgpack.decode(driver.action(name).arguments)
    return found


def end(driver: Driver, name: str, error: BaseException, kind: ErrorKind) -> list[Any]:
    """The record of an action's final error, judged as `kind`."""
    start = driver.action(name)
    driver.open.pop(start.number)
    return driver.feed(ActionRaised(driver.now + 1000, start.number, name, start.checksum, describe(error, kind)))


async def two_steps() -> str:
    async with wf.saga():
        await reserve("o-1")
        await charge("o-1", total=5)
        await notify("o-1")
    return "done"


def test_a_block_that_goes_well_undoes_nothing() -> None:
    driver = drive(two_steps)
    for name, result in (("reserve", "hold"), ("charge", "paid"), ("notify", None)):
        driver.complete(name, result)
    assert driver.result() == "done"
    assert names(driver.given) == ["reserve", "charge", "notify", "Complete"]
    driver.check_every_crash()


def test_an_error_undoes_last_first_one_after_the_other_with_arguments_and_results() -> None:
    driver = drive(two_steps)
    driver.complete("reserve", "hold")
    driver.complete("charge", "paid")
    driver.fail("notify", Boom("no"))
    assert arguments(driver, "refund") == {"order": "o-1", "total": 5, "result": "paid"}
    assert names(driver.given) == ["reserve", "charge", "notify", "refund"]
    driver.complete("refund")
    assert arguments(driver, "release") == {"order": "o-1", "result": "hold"}
    driver.complete("release")
    assert isinstance(driver.given[-1], Suspend)
    assert "Boom: no" in driver.suspension()
    driver.check_every_crash()


def test_a_permanent_error_means_not_done_any_other_unknown() -> None:
    for error, kind, undone in (
        (Boom("declined"), ErrorKind.PERMANENT, False),
        (ConnectionError("gone"), ErrorKind.RECOVERABLE, True),
        (ActionTimeout("late"), ErrorKind.RECOVERABLE, True),
        (ActionTimeout("late"), ErrorKind.PERMANENT, True),
        (TimeoutError("late"), ErrorKind.PERMANENT, True),
    ):
        driver = drive(two_steps)
        driver.complete("reserve", "hold")
        end(driver, "charge", error, kind)
        assert ("refund" in names(driver.given)) is undone, error
        if undone:
            assert arguments(driver, "refund")["result"] is None
            driver.complete("refund")
        driver.complete("release")
        assert isinstance(driver.given[-1], Suspend)


def test_calls_of_gathered_tasks_and_groups_belong_to_the_block() -> None:
    async def step(order: str) -> None:
        await reserve(order)

    async def main() -> None:
        async with wf.saga():
            await asyncio.gather(step("a"), charge("b"))
            async with asyncio.TaskGroup() as group:
                group.create_task(step("c"))
            raise wf.Failed("no")

    driver = drive(main)
    driver.complete("charge", "p")  # made first: a coroutine begins a turn later
    driver.complete("reserve", "h")
    driver.complete("reserve", "i")
    undone: list[str] = []
    for _ in range(3):
        start = started(driver.given)[-1]
        undone.append(f"{start.name} {arguments(driver, start.name)['order']}")
        driver.complete(start.name)
    assert undone == ["release c", "release a", "refund b"]
    assert isinstance(driver.given[-1], Fail)
    driver.check_every_crash()


def test_a_cancelled_action_is_compensated_only_when_its_end_is_recorded() -> None:
    driver = drive(two_steps)
    driver.complete("reserve", "hold")
    commands = driver.cancel()
    charged = driver.action("charge")
    assert commands == [CancelAction(charged.number, True, "charge", charged.checksum)]
    driver.complete("charge", "paid after all")
    assert arguments(driver, "refund")["result"] == "paid after all"
    driver.complete("refund")
    driver.complete("release")
    assert driver.given[-1] == Cancelled()
    driver.check_every_crash()


@pytest.mark.parametrize(("kind", "undone"), [(ErrorKind.RECOVERABLE, True), (ErrorKind.PERMANENT, False)])
def test_a_cancelled_action_of_which_nobody_knows_is_compensated_with_none(kind: ErrorKind, undone: bool) -> None:
    driver = drive(two_steps)
    driver.complete("reserve", "hold")
    driver.cancel()
    end(driver, "charge", ActionCancelled("given up"), kind)
    if undone:
        assert arguments(driver, "refund")["result"] is None
        driver.complete("refund")
    driver.complete("release")
    assert driver.given[-1] == Cancelled()
    assert names(driver.given).count("refund") == undone
    driver.check_every_crash()


def test_a_replay_in_the_middle_asks_for_the_end_again_and_not_for_the_action() -> None:
    driver = drive(two_steps)
    driver.complete("reserve", "hold")
    driver.cancel()
    charged = driver.action("charge")
    assert driver.replay() == [CancelAction(charged.number, True, "charge", charged.checksum)]


def test_what_is_cancelled_before_anybody_was_asked_did_not_happen() -> None:
    async def main() -> None:
        async with wf.saga():
            call = asyncio.ensure_future(charge("o-1"))
            call.cancel()
            raise wf.Failed("at once")

    driver = drive(main)
    assert names(driver.given) == ["Fail"]


def test_a_timeout_around_an_action_gives_it_up_and_the_rest_is_as_for_a_cancel() -> None:
    async def main() -> str:
        async with wf.saga():
            async with asyncio.timeout(5):
                await charge("o-1")
        return "never"

    driver = drive(main)
    driver.fire()
    assert names(driver.given) == ["StartTimer", "charge", "CancelAction"]
    end(driver, "charge", ActionCancelled("x"), ErrorKind.RECOVERABLE)
    assert arguments(driver, "refund") == {"order": "o-1", "result": None}
    driver.complete("refund")
    assert "TimeoutError" in driver.suspension()
    driver.check_every_crash()


def test_what_another_task_still_waits_for_is_stopped_and_undone() -> None:
    async def main() -> str:
        try:
            async with wf.saga():
                await asyncio.gather(reserve("o-1"), notify("o-1"))
        except Boom:
            return "undone"
        return "never"

    driver = drive(main)
    driver.fail("notify", Boom("no"))
    assert names(driver.given) == ["reserve", "notify", "CancelAction"]
    driver.complete("reserve", "hold")
    driver.complete("release")
    assert driver.result() == "undone"
    driver.check_every_crash()


def test_a_cancel_does_not_stop_compensations_and_is_obeyed_afterwards() -> None:
    async def main() -> str:
        try:
            await two_steps()
        except Boom:
            return "went on"
        return "never"

    driver = drive(main)
    driver.complete("reserve", "hold")
    driver.complete("charge", "paid")
    driver.fail("notify", Boom("no"))
    assert driver.cancel() == []
    assert driver.cancel() == []
    driver.complete("refund")
    driver.complete("release")
    assert driver.given[-1] == Cancelled()
    driver.check_every_crash()


def test_compensations_are_marked_so_that_their_last_error_parks_the_run() -> None:
    driver = drive(two_steps)
    driver.complete("reserve", "hold")
    driver.complete("charge", "paid")
    driver.fail("notify", Boom("no"))
    refunding = driver.action("refund")
    assert refunding.options == CallOptions(compensates="charge")
    parked = ActionParked(driver.now, refunding.number, "refund", refunding.checksum, describe(Boom("bank")), 4)
    assert driver.feed(parked) == []
    driver.feed(RunResumed(driver.now, "ann"))
    driver.complete("refund")
    driver.complete("release")
    assert "Boom: no" in driver.suspension()


def test_a_run_parked_in_an_action_that_is_cancelled_needs_no_end_of_it() -> None:
    for kind, undone in ((ErrorKind.PERMANENT, False), (ErrorKind.RECOVERABLE, True)):
        driver = drive(two_steps)
        driver.complete("reserve", "hold")
        charging = driver.action("charge")
        driver.feed(
            ActionParked(driver.now, charging.number, "charge", charging.checksum, describe(Boom("x"), kind), 4)
        )
        driver.cancel()
        if undone:
            driver.complete("refund")
        driver.complete("release")
        assert driver.given[-1] == Cancelled()


def test_an_inner_block_is_undone_with_the_outer_one() -> None:
    async def main() -> None:
        async with wf.saga():
            await reserve("outer")
            async with wf.saga():
                await charge("inner")
            raise wf.Failed("late")

    driver = drive(main)
    driver.complete("reserve", "h")
    driver.complete("charge", "p")
    driver.complete("refund")
    driver.complete("release")
    assert isinstance(driver.given[-1], Fail)
    assert names(driver.given)[:4] == ["reserve", "charge", "refund", "release"]


def test_an_inner_block_that_failed_undoes_its_own_alone() -> None:
    async def main() -> str:
        async with wf.saga():
            await reserve("outer")
            try:
                async with wf.saga():
                    await charge("inner")
                    raise Boom("inner")
            except Boom:
                return "caught"
        return "never"

    driver = drive(main)
    driver.complete("reserve", "h")
    driver.complete("charge", "p")
    driver.complete("refund")
    assert driver.result() == "caught"
    driver.check_every_crash()


def test_undo_can_be_added_by_hand() -> None:
    seen: list[str] = []

    async def tidy(what: str) -> None:
        await notify(what)
        seen.append(what)

    async def main() -> None:
        async with wf.saga() as saga:
            saga.add(tidy, "first")
            saga.add(notify, order="second")
            raise wf.Failed("no")

    driver = drive(main)
    assert arguments(driver, "notify") == {"order": "second"}
    driver.complete("notify")
    assert arguments(driver, "notify") == {"order": "first"}
    driver.complete("notify")
    assert seen == ["first"]
    assert isinstance(driver.given[-1], Fail)


def test_what_begins_while_a_block_is_being_undone_is_refused() -> None:
    async def straggler() -> None:
        await notify("o-1")
        await charge("late")

    async def main() -> str:
        task: asyncio.Task[None] | None = None
        try:
            async with wf.saga():
                task = asyncio.create_task(straggler())
                await reserve("o-1")
                raise Boom("no")
        except Boom:
            pass
        assert task is not None
        try:
            await task
        except UsageError as error:
            return str(error)
        return "never"

    driver = drive(main)
    driver.complete("reserve", "h")
    driver.complete("notify")
    driver.complete("release")
    assert "its saga has failed and is being undone" in driver.result()


def test_a_block_that_is_over_takes_no_more() -> None:
    async def main() -> str:
        async with wf.saga() as saga:
            pass
        try:
            saga.add(notify, "x")
        except UsageError as error:
            return str(error)
        return "never"

    assert "block is over" in drive(main).result()


def test_a_run_ends_only_when_the_block_of_a_task_left_behind_is_undone() -> None:
    async def background() -> None:
        async with wf.saga():
            await charge("o-1")
            await asyncio.Event().wait()

    async def main() -> str:
        task = asyncio.create_task(background())
        await notify("o-1")
        return task.get_name()

    driver = drive(main)
    driver.complete("charge", "paid")
    driver.complete("notify")
    assert names(driver.given) == ["notify", "charge", "refund"]
    driver.complete("refund")
    assert isinstance(driver.given[-1], Complete)
    driver.check_every_crash()


def test_an_error_of_a_compensations_own_code_suspends() -> None:
    async def broken() -> None:
        raise ValueError("a bug")

    async def main() -> None:
        async with wf.saga() as saga:
            saga.add(broken)
            raise wf.Failed("no")

    assert "ValueError: a bug" in drive(main).suspension()


def test_an_evicted_run_undoes_nothing() -> None:
    driver = drive(two_steps)
    driver.complete("reserve", "hold")
    driver.close()
    assert names(driver.given) == ["reserve", "charge"]


def test_cancel_wait_raises_only_when_the_attempt_has_ended() -> None:
    async def main() -> str:
        try:
            async with asyncio.timeout(5):
                await notify.using(cancel="wait")("o-1")
        except TimeoutError:
            return "timed out"
        return "never"

    driver = drive(main)
    assert names(driver.fire()) == ["CancelAction"]
    assert driver.cancel() == []  # one request is enough
    driver.complete("notify")
    assert driver.given[-1] == Cancelled()
    driver.check_every_crash()

    driver = drive(main)
    driver.fire()
    end(driver, "notify", ActionCancelled("x"), ErrorKind.RECOVERABLE)
    assert driver.result() == "timed out"
    driver.check_every_crash()


def test_a_patient_call_that_is_not_cancelled_is_a_call_like_any() -> None:
    async def main() -> str:
        try:
            await notify.using(cancel="wait")("o-1")
        except Boom:
            return "caught"
        return "never"

    driver = drive(main)
    driver.fail("notify", Boom("x"))
    assert driver.result() == "caught"
