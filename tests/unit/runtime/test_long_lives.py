"""Runs that live long: code that changes under them, histories that begin anew, requests that they answer, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.unit.runtime.driver import START, Boom, Driver, Paid, act, names
from workflow_worker import App, wf
from workflow_worker.model import internal
from workflow_worker.model.command import Fail, MarkPatch, Restart, SetState, StartTimer, Suspend
from workflow_worker.model.event import Event
from workflow_worker.model.record import EventReceived, Record, RunResumed, RunStarted, RunSuspended, TimerFired
from workflow_worker.model.updates import REPLIES_KEPT, Reply, split_state

app = App("long")


@app.event("counter.begun", subject="name")
@dataclass(frozen=True)
class Begun:
    name: str
    count: int = 0


@app.event("counter.raised")
@dataclass(frozen=True)
class Raise:
    by: int = 1


BEGUN = RunStarted(START, "3.11", "1")


def mark(patch: str) -> EventReceived:
    """The note of a patch, as a worker writes it."""
    return EventReceived(
        START, f"patch/{patch}", Event(f"patch/{patch}", internal.PATCH, data=msgspec.json.encode(patch))
    )


# ---- patches


async def changed() -> list[bool]:
    found: list[bool] = []
    for _ in range(2):
        await act("old")
        found.append(wf.patched("review"))
        await act("new" if found[-1] else "plain")
    return found


def test_new_code_takes_the_new_way_and_notes_it_once() -> None:
    driver = Driver(changed)
    commands = driver.complete("old")
    assert commands[1:] == [MarkPatch("review")]
    driver.complete("new")
    driver.complete("old")
    assert names(driver.complete("new")) == ["Complete"]
    assert driver.result() == [True, True]
    with_mark = [BEGUN, driver.history[0], mark("review"), *driver.history[1:]]
    assert names(driver.fresh().feed(with_mark)) == ["Complete"]


def test_a_history_without_the_note_goes_the_old_way_to_its_end() -> None:
    driver = Driver(changed)
    old = driver.done("old")
    other = Driver(changed, [BEGUN, old])
    assert names(other.given) == ["plain"]
    other.complete("plain")
    other.complete("old")
    assert names(other.complete("plain")) == ["Complete"]
    assert other.result() == [False, False]


def test_a_history_that_did_not_get_there_takes_the_new_way_when_it_does() -> None:
    driver = Driver(changed, [BEGUN])
    assert names(driver.complete("old")) == ["new", "MarkPatch"]


def test_a_run_that_was_resumed_before_its_first_commit_is_new() -> None:
    async def main() -> bool:
        return wf.patched("x")

    assert Driver(main, [RunResumed(START, "ann")]).result() is True
    assert Driver(main, [BEGUN]).result() is False


# ---- beginning anew


@app.workflow(on=Begun)
async def count(begun: Begun) -> int:
    total = begun.count
    try:
        while wf.info().records < 3:
            total += (await wf.wait_for(Raise)).by
    finally:
        wf.state(total=total)
    wf.start(count, Begun("child"))
    wf.continue_as_new(Begun(begun.name, total))


def counter_driver(begun: Begun | None = None, history: Sequence[Record] = ()) -> Driver:
    begun = begun or Begun("c-1")
    event = Event("e", "counter.begun", begun.name, msgspec.json.encode(begun))
    return Driver(count.definition.main(event, app.events), history, events=app.events)


def test_a_run_continues_as_new_with_what_nobody_took() -> None:
    driver = counter_driver()
    for by in (1, 2):
        driver.feed(driver.event("counter.raised", {"by": by}))
    driver.feed(driver.event("packed", {"tracking": "x"}), driver.event("counter.raised", {"by": 4}))
    restart = driver.last(Restart)
    assert msgspec.json.decode(restart.data) == {"name": "c-1", "count": 7}
    assert [event.type for _, event in driver.run.unmatched_mail] == ["packed"]
    sent = names(driver.given[-5:])
    assert sent[-1] == "Restart"
    assert "SetState" in sent
    assert driver.emitted == []  # the child was taken back before it was sent for
    assert driver.run.finished


def test_a_new_history_begins_with_the_mail_that_was_kept() -> None:
    driver = counter_driver(Begun("c-1", 7), [EventReceived(START, "1-0", Event("1-0", "counter.raised", data=b"{}"))])
    driver.feed(driver.event("counter.raised", {"by": 1}))
    driver.feed(driver.event("counter.raised", {"by": 1}))
    assert msgspec.json.decode(driver.last(Restart).data)["count"] == 10


def test_info_counts_the_same_live_and_replayed() -> None:
    async def main() -> list[int]:
        seen = [wf.info().records]
        for name in "ab":
            await act(name)
            seen.append(wf.info().records)
        return seen

    driver = Driver(main)
    driver.complete("a")
    failure = driver.raised("b", Boom("x")).failure
    turns = (RunSuspended(driver.now, failure), RunResumed(driver.now, "ann"))
    replayed = Driver(main, [BEGUN, driver.history[0], mark("x"), *turns])
    driver.complete("b")
    replayed.complete("b")
    assert driver.result() == replayed.result() == [0, 1, 2]


def test_a_function_that_is_no_declared_workflow_cannot_begin_anew() -> None:
    async def main() -> None:
        wf.continue_as_new(1)

    assert "declared with @app.workflow" in Driver(main).suspension()


def test_a_saga_left_by_beginning_anew_is_not_undone() -> None:
    @app.workflow(name="with_saga")
    async def with_saga() -> None:
        async with wf.saga() as saga:
            saga.add(act, "undo")
            wf.continue_as_new()

    driver = Driver(with_saga.definition.main(Event("e", internal.START, data=b"{}"), app.events))
    assert names(driver.given) == ["Restart"]


# ---- requests


def replies(driver: Driver) -> dict[str, Reply]:
    """The replies that the run has published so far."""
    states = [command.state for command in driver.given if isinstance(command, SetState)]
    return split_state(states[-1])[1] if states else {}


def reply(driver: Driver, event_id: str) -> Any:
    """What one request was answered with."""
    found = replies(driver)[event_id]
    return found.error or msgspec.json.decode(found.result)


def refuse_small(paid: Paid) -> None:
    if paid.amount < 10:
        raise ValueError("too little")


async def account() -> int:
    total = 0
    closed = asyncio.Event()

    async def pay(paid: Paid) -> int:
        nonlocal total
        await act("book")
        total += paid.amount
        if total >= 100:
            closed.set()
        return total

    wf.state(open=True)
    wf.on_update(Paid, pay, validate=refuse_small)
    await closed.wait()
    return total


def test_a_request_is_answered_by_its_handler_under_its_events_id() -> None:
    driver = Driver(account)
    request = driver.event("paid.card", {"amount": 40})
    assert names(driver.feed(request)) == ["book"]
    driver.complete("book")
    assert reply(driver, request.event.id) == 40
    assert split_state(driver.given[-1].state if isinstance(driver.given[-1], SetState) else b"")[0] == {"open": True}
    more = driver.event("paid.card", {"amount": 60})
    driver.feed(more)
    driver.complete("book")
    assert driver.result() == 100
    assert reply(driver, more.event.id) == 100
    driver.check_every_crash()


def test_a_request_that_is_not_accepted_is_answered_with_the_reason_and_does_nothing() -> None:
    driver = Driver(account)
    small = driver.event("paid.card", {"amount": 4})
    driver.feed(small)
    junk = driver.event("paid.card", {"amount": "x"})
    driver.feed(junk)
    found = replies(driver)
    assert (found[small.event.id].error, found[small.event.id].kind) == ("ValueError: too little", "rejected")
    assert found[junk.event.id].kind == "rejected"
    assert not driver.open


def test_an_error_of_a_handler_is_the_reply_and_the_run_goes_on() -> None:
    driver = Driver(account)
    request = driver.event("paid.card", {"amount": 40})
    driver.feed(request)
    driver.fail("book", Boom("no"))
    found = replies(driver)[request.event.id]
    assert (found.error, found.kind) == ("Boom: no", "failed")
    assert not driver.run.finished


def test_requests_that_came_before_the_handler_are_answered_in_order_and_once() -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def note(paid: Paid) -> None:
            seen.append(paid.amount)

        await act("a")
        wf.on_update(Paid, note)
        await act("b")
        return seen

    driver = Driver(main)
    for amount in (1, 2):
        driver.feed(driver.event("paid.card", {"amount": amount}))
    driver.complete("a")
    driver.complete("b")
    assert driver.result() == [1, 2]
    assert driver.run.unmatched == ()
    driver.check_every_crash()


def test_only_the_latest_replies_are_kept() -> None:
    async def note(paid: Paid) -> int:
        return paid.amount

    async def main() -> None:
        wf.on_update(Paid, note)
        await act("a")

    driver = Driver(main)
    for amount in range(REPLIES_KEPT + 5):
        driver.feed(driver.event("paid.card", {"amount": amount}))
    kept = replies(driver)
    assert len(kept) == REPLIES_KEPT
    assert [msgspec.json.decode(each.result) for each in kept.values()] == list(range(5, REPLIES_KEPT + 5))


def test_handlers_declared_with_a_workflow_answer_from_its_start() -> None:
    @app.workflow(name="till")
    async def till() -> None:
        await act("a")

    seen: list[Raise] = []

    @till.update(validate=seen.append)
    async def raise_it(request: Raise) -> int:
        return request.by + 1

    definition = till.definition
    driver = Driver(definition.main(Event("e", internal.START, data=b"{}"), app.events), events=app.events)
    request = driver.event("counter.raised", {"by": 4})
    driver.feed(request)
    assert (reply(driver, request.event.id), seen) == (5, [Raise(4)])
    assert raise_it.__name__ == "raise_it"


# ---- limits of time


def limited(main: Any, timeout: float = 60) -> Driver:
    workflow = App("x").workflow(name="limited", timeout=timeout)(main)
    return Driver(workflow.definition.main(Event("e", internal.START, data=b"{}"), app.events))


def test_a_run_over_its_limit_is_cancelled_inside_and_fails() -> None:
    async def main() -> None:
        try:
            await act("a")
        finally:
            await act("tidy")

    driver = limited(main)
    assert driver.given == [StartTimer(0, START + 60_000), driver.given[1]]
    assert driver.action("a").number == 1
    driver.feed(TimerFired(START + 60_000, 0, START + 60_000))
    driver.complete("tidy")
    assert "longer than its workflow's time limit" in driver.last(Fail).failure.message
    driver.check_every_crash()


def test_a_limit_that_is_not_reached_changes_nothing_and_may_come_later() -> None:
    async def main() -> str:
        return await act("a")

    before = Driver(main)
    before.complete("a", "x")
    driver = limited(main)
    driver.feed(*before.history)
    assert driver.result() == "x"
    assert limited(main).run.outstanding()[0] == StartTimer(0, START + 60_000)


def test_code_may_still_end_well_after_its_limit() -> None:
    async def main() -> str:
        try:
            await act("a")
        except asyncio.CancelledError:
            return "in time after all"
        return "never"

    driver = limited(main)
    driver.feed(TimerFired(START + 60_000, 0, START + 60_000))
    assert driver.result() == "in time after all"
    assert driver.feed(TimerFired(START + 60_000, 0, START + 60_000)) == []


def test_a_cancel_before_the_limit_ends_cancelled() -> None:
    async def main() -> None:
        try:
            await act("a")
        finally:
            await act("tidy")

    driver = limited(main)
    driver.cancel()
    driver.feed(TimerFired(START + 60_000, 0, START + 60_000))
    assert names(driver.given)[-1] == "Cancelled"


# ---- reports


def test_a_difference_names_the_task_that_waits() -> None:
    async def step() -> None:
        await act("b")

    async def main() -> None:
        await asyncio.gather(act("a"), step())

    driver = Driver(main)
    done = driver.done("b")
    other = Driver(main, [BEGUN, msgspec.structs.replace(done, name="old")])
    text = other.last(Suspend).failure.message
    assert "history has action 'old' (#2), code now calls 'b' (#2) at test_long_lives.py:" in text
    assert ", in main/task-" in text
