"""Follow-up events, signals, children, locks: what a run sends, numbered like steps, and what comes back as mail."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.driver import START, Boom, Driver, Packed, Paid, act, names
from workflow_worker import App, wf
from workflow_worker.model import internal
from workflow_worker.model.command import Cancelled, Complete, EmitEvent, Fail, Suspend
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.failure import Failure, describe
from workflow_worker.model.internal import ChildCancel, ChildEnded, LockGrant, LockRequest, Origin, origin_of
from workflow_worker.model.record import ActionCompleted, Record, RunResumed, RunStarted, RunSuspended
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.children import child_ended_event

app = App("family")
app.event("packed")(Packed)
app.event("paid.*")(Paid)


@app.event("chunk", subject="name")
@dataclass(frozen=True)
class Chunk:
    name: str


@app.workflow(on=Chunk)
async def work(chunk: Chunk) -> int:
    return len(chunk.name)


@app.workflow()
async def add(first: int, second: int = 1) -> int:
    return first + second


def child_of(command: EmitEvent) -> str:
    """The child's full name."""
    return f"{command.workflow}:{command.run}"


def ended(
    driver: Driver, command: EmitEvent, result: object = None, failure: Failure | None = None, status: str = "completed"
) -> list[Any]:
    """Feed the mail that says how a child ended."""
    origin = origin_of(command.event.origin)
    raw = msgspec.Raw(msgspec.json.encode(result))
    told = ChildEnded(origin.tag, origin.number, origin.checksum, child_of(command), RunStatus(status), raw, failure)
    return driver.feed(driver.mail(internal.ENDED, told))


def drive(main: Callable[[], Coroutine[Any, Any, Any]], history: Sequence[Record] = (), **options: Any) -> Driver:
    """A driver whose runs belong to this app."""
    return Driver(main, history, events=app.events, **options)


# ---- follow-up events


def test_emits_are_numbered_with_the_steps_and_sent_once() -> None:
    async def main() -> None:
        wf.emit(Packed("1Z"), subject="o-1")
        await act("a")
        wf.emit(Packed("2Z"), delay=1.5)
        wf.signal("other:r-1", Packed("3Z"))
        await act("b")

    driver = drive(main)
    first, second, third = driver.emitted, driver.complete("a"), driver.emitted
    assert [(c.number, c.event.subject, c.event.data) for c in first] == [(1, "o-1", b'{"tracking":"1Z"}')]
    assert [c.number for c in second if isinstance(c, EmitEvent)] == [3, 4]
    assert [c.delay_ms for c in third] == [0, 1_500, 0]
    assert (third[2].workflow, third[2].run) == ("other", "r-1")
    assert driver.action("b").number == 5
    driver.complete("b")
    driver.check_every_crash()


def test_a_replay_sends_again_only_what_a_resume_may_have_changed() -> None:
    async def main() -> None:
        await act("a")
        wf.emit(Packed("1Z"))
        await act("b")

    driver = drive(main)
    driver.complete("a")
    begun = RunStarted(START, "3.11", "1")

    def sent_again(*more: Any) -> list[int]:
        other = driver.fresh()
        return [c.number for c in other.feed([begun, *driver.history, *more]) if isinstance(c, EmitEvent)]

    failure = describe(Boom("bug"))
    assert sent_again() == []
    assert sent_again(RunSuspended(driver.now, failure), RunResumed(driver.now, "ann")) == [2]
    done = driver.done("b")
    assert sent_again(RunSuspended(driver.now, failure), RunResumed(driver.now, "ann"), done) == []


def test_an_emit_more_or_less_is_a_difference() -> None:
    async def main() -> None:
        wf.emit(Packed("1Z"))
        await act("a")

    driver = drive(main, [RunStarted(START, "3.11", "1"), ActionCompleted(START, 1, "a", act_checksum(), b"null")])
    assert "history has action 'a' (#1), code has no step #1" in driver.suspension()
    assert driver.emitted == []


def act_checksum() -> int:
    async def main() -> None:
        await act("a")

    return drive(main).action("a").checksum


def test_what_an_error_of_the_code_follows_waits_until_the_code_is_mended() -> None:
    mended = False

    async def main() -> None:
        await act("a")
        async with wf.lock("sku-1"):
            await act("b")
            wf.emit(Packed("1Z"))
            if not mended:
                raise Boom("bug")
            await act("c")

    driver = drive(main)
    driver.complete("a")
    granted(driver, driver.emitted[0])
    driver.complete("b")
    assert isinstance(driver.given[-1], Suspend)
    assert [c.event.type for c in driver.emitted] == [internal.LOCK]
    assert [asked(c).release for c in driver.run.leave_behind()] == [True]
    mended = True
    failure = describe(Boom("bug"))
    turns = (RunSuspended(driver.now, failure), RunResumed(driver.now, "ann"))
    again = driver.fresh().feed([RunStarted(START, "3.11", "1"), *driver.history, *turns])
    assert names(again) == ["c", "EmitEvent"]


def test_the_last_events_come_before_the_end() -> None:
    async def main() -> None:
        wf.emit(Packed("1Z"))

    assert names(drive(main).given) == ["EmitEvent", "Complete"]


@pytest.mark.parametrize(
    "use",
    [
        lambda: wf.emit(Packed()),
        lambda: wf.signal("a:b", Packed()),
        lambda: wf.start(add, 1),
        lambda: wf.lock("x"),
        lambda: wf.saga(),
        lambda: wf.patched("x"),
        lambda: wf.continue_as_new(1),
        lambda: wf.on_update(Packed, nobody),
    ],
)
def test_outside_a_run_each_raises_with_advice(use: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"wf\.\w+ works only inside a workflow; "):
        use()


async def nobody(request: Packed) -> None: ...


# ---- children


def test_a_child_is_started_by_an_event_that_says_whose_it_is() -> None:
    async def main() -> list[int]:
        return [await work(Chunk("abc")), await add(2, second=3)]

    driver = drive(main)
    (start,) = driver.emitted
    origin = origin_of(start.event.origin)
    assert (start.event.type, start.workflow, start.event.subject, start.event.data) == (
        internal.START,
        "work",
        "abc",
        b'{"name":"abc"}',
    )
    assert (origin.parent, origin.number, origin.run) == ("test:1", 1, child_of(start))
    assert start.run is not None
    assert start.run.startswith("1.1-")
    assert names(ended(driver, start, 3)) == ["EmitEvent"]
    assert driver.emitted[1].event.data == b'{"first":2,"second":3}'
    ended(driver, driver.emitted[1], 5)
    assert driver.result() == [3, 5]
    driver.check_every_crash()


def test_a_childs_end_is_raised_as_child_failed_with_its_failure() -> None:
    async def main() -> list[str]:
        try:
            await add(1)
        except wf.ChildFailed as error:
            return [error.run, error.status, str(error.failure)]
        return []

    driver = drive(main)
    ended(driver, driver.emitted[0], failure=describe(wf.Failed("too much")), status="failed")
    assert driver.result() == [child_of(driver.emitted[0]), "failed", "Failed: too much"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_not_caught_it_fails_the_parent(status: str) -> None:
    async def main() -> None:
        await add(1)

    driver = drive(main)
    ended(driver, driver.emitted[0], status=status)
    assert f"{status}" in driver.last(Fail).failure.message


def test_who_stops_waiting_takes_the_child_back_once() -> None:
    async def main() -> str:
        try:
            async with asyncio.timeout(5):
                await add(1)
        except TimeoutError:
            return await act("after")
        return "never"

    driver = drive(main)
    commands = driver.fire()
    assert names(commands) == ["after", "EmitEvent"]
    cancel = driver.emitted[1]
    assert (cancel.event.type, cancel.run) == (internal.CANCEL, driver.emitted[0].run)
    told = msgspec.json.decode(cancel.event.data, type=ChildCancel)
    assert (told.parent, told.number) == ("test:1", 2)  # the timer was the first step
    ended(driver, driver.emitted[0], status="cancelled")  # nobody waits any more
    driver.complete("after", "x")
    assert driver.result() == "x"
    driver.check_every_crash()


def test_a_child_that_nobody_was_asked_for_is_not_asked_for() -> None:
    async def main() -> str:
        task = asyncio.ensure_future(add(1))
        task.cancel()
        return "done"

    assert names(drive(main).given) == ["Complete"]


def test_the_end_of_the_parent_takes_back_all_but_detached_children() -> None:
    async def main() -> str:
        wf.start(add, 1)
        wf.start(add, 2, detach=True, id="mine")
        await act("a")
        return "done"

    driver = drive(main)
    assert driver.emitted[1].run == "mine"
    driver.complete("a")
    assert [(c.event.type, c.run) for c in driver.emitted[2:]] == [(internal.CANCEL, driver.emitted[0].run)]
    assert isinstance(driver.given[-1], Complete)
    driver.check_every_crash()


def test_a_handle_is_awaited_when_one_likes_and_can_ask_the_child_to_end() -> None:
    async def main() -> list[Any]:
        child = wf.start(add, 1, detach=True)
        await act("a")
        try:
            async with asyncio.timeout(1):
                await child
        except TimeoutError:
            child.cancel()
            child.cancel()
        try:
            await child
        except wf.ChildFailed as error:
            return [error.status, child.id == child.ref.partition(":")[2], child.done()]
        return []

    driver = drive(main)
    driver.complete("a")
    assert names(driver.fire()) == ["EmitEvent"]
    ended(driver, driver.emitted[0], status="cancelled")
    assert driver.result() == ["cancelled", True, True]
    driver.check_every_crash()


def test_a_thousand_children_through_a_semaphore() -> None:
    async def main() -> int:
        room = asyncio.Semaphore(20)

        async def one(number: int) -> int:
            async with room:
                return await add(number)

        return sum(await asyncio.gather(*[one(number) for number in range(1_000)]))

    driver = drive(main)
    done = 0
    while not driver.run.finished:
        assert len(driver.emitted) - done <= 20
        data = msgspec.json.decode(driver.emitted[done].event.data)
        ended(driver, driver.emitted[done], data["first"])
        done += 1
    assert driver.result() == sum(range(1_000))


def test_the_end_of_another_child_is_a_difference_of_a_strangers_it_is_nothing() -> None:
    async def main() -> None:
        await add(1)

    driver = drive(main)
    (start,) = driver.emitted
    origin = origin_of(start.event.origin)

    def told(**changes: Any) -> ChildEnded:
        known = ChildEnded(origin.tag, origin.number, origin.checksum, child_of(start), RunStatus.COMPLETED)
        return msgspec.structs.replace(known, **changes)

    for stranger in (told(tag=1), told(number=0)):
        assert driver.feed(driver.mail(internal.ENDED, stranger)) == []
    assert driver.feed(driver.mail(internal.ENDED, {"junk": 1})) == []
    for wrong in (told(checksum=1), told(run="work:x"), told(number=99)):
        other = driver.fresh()
        other.feed(())
        (suspended,) = other.feed((driver.mail(internal.ENDED, wrong),))
        assert isinstance(suspended, Suspend)
        assert "history has child workflow" in suspended.failure.message


def test_an_id_that_is_taken_fails_the_child_and_a_copy_is_nothing() -> None:
    async def main() -> None:
        await act("a")

    driver = drive(main)
    origin = Origin(run="test:1", parent="boss:1", tag=7, number=3, checksum=9)
    for each in (origin, msgspec.structs.replace(origin, run="test:2")):
        event = Event("e", internal.START, data=b"{}", origin=msgspec.json.encode(each).decode())
        driver.feed(msgspec.structs.replace(driver.mail(internal.START, None), event=event))
    (refusal,) = driver.emitted
    assert (refusal.event.type, refusal.workflow, refusal.run) == (internal.ENDED, "boss", "1")
    told = msgspec.json.decode(refusal.event.data, type=ChildEnded)
    assert (told.tag, told.number, told.checksum, told.status) == (7, 3, 9, RunStatus.FAILED)
    assert told.failure is not None
    assert "under way already" in told.failure.message


def test_a_result_too_big_for_an_event_fails_the_child_in_its_parents_eyes() -> None:
    event = child_ended_event(
        drive(nothing).run.ref, Origin(), RunStatus.COMPLETED, None, b'"' + b"x" * internal.MAX_MESSAGE_BYTES + b'"'
    )
    told = msgspec.json.decode(event.data, type=ChildEnded)
    assert told.failure is not None
    assert (told.status, "return a reference" in told.failure.message) == (RunStatus.FAILED, True)


async def nothing() -> None: ...


def test_a_child_takes_what_its_workflow_takes() -> None:
    async def main(call: Callable[[], object]) -> None:
        call()
        await act("a")

    child: Any = add
    strange: Any = "x"
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: child(), "missing a required argument"),
        (lambda: work(strange), "is not a Chunk"),
        (lambda: child(1, object()), "no stored form"),
        (lambda: wf.start(add, 1, id=""), "1 to 500 bytes"),
        (lambda: work(Chunk("x" * internal.MAX_MESSAGE_BYTES)), "pass a reference"),
    ]
    for wrong, reason in cases:
        assert reason in drive(lambda call=wrong: main(call)).suspension()


# ---- locks


def asked(command: EmitEvent) -> LockRequest:
    """The request that an emitted event is."""
    assert (command.event.type, command.workflow) == (internal.LOCK, internal.LOCK_WORKFLOW)
    return msgspec.json.decode(command.event.data, type=LockRequest)


async def guarded() -> str:
    async with wf.lock("sku-1"):
        await act("inside")
    return await act("after")


def granted(driver: Driver, command: EmitEvent) -> list[Any]:
    request = asked(command)
    return driver.feed(driver.mail(internal.GRANT, LockGrant(request.tag, request.number)))


def test_a_lock_is_asked_for_granted_and_given_back() -> None:
    driver = drive(guarded)
    assert names(driver.given) == ["EmitEvent"]
    assert names(granted(driver, driver.emitted[0])) == ["inside"]
    assert names(driver.complete("inside")) == ["after", "EmitEvent"]
    ask, back = (asked(command) for command in driver.emitted)
    assert (ask.holder, ask.release, back.release, ask.number == back.number) == ("test:1", False, True, True)
    assert [command.run for command in driver.emitted] == ["sku-1", "sku-1"]
    driver.complete("after", "x")
    assert driver.result() == "x"
    driver.check_every_crash()


def test_who_is_cancelled_in_line_or_inside_gives_it_back() -> None:
    driver = drive(guarded)
    driver.cancel()
    assert [asked(command).release for command in driver.emitted] == [False, True]
    assert driver.given[-1] == Cancelled()
    driver.check_every_crash()

    driver = drive(guarded)
    granted(driver, driver.emitted[0])
    driver.cancel()
    assert [asked(command).release for command in driver.emitted] == [False, True]
    driver.check_every_crash()


def test_a_grant_for_an_earlier_incarnation_or_a_line_that_was_left_is_void() -> None:
    driver = drive(guarded)
    request = asked(driver.emitted[0])
    for void in (LockGrant(request.tag + 1, request.number), LockGrant(request.tag, 99)):
        assert driver.feed(driver.mail(internal.GRANT, void)) == []


def test_a_run_ended_without_its_code_takes_its_children_back() -> None:
    async def main() -> None:
        wf.start(add, 1)
        wf.start(add, 2, detach=True)
        await act("a")
        raise Boom("bug")

    driver = drive(main)
    driver.complete("a")
    assert isinstance(driver.given[-1], Suspend)
    left = driver.run.leave_behind()
    assert [(c.event.type, c.run) for c in left] == [(internal.CANCEL, driver.emitted[0].run)]


def test_a_lock_needs_a_name_and_a_limit() -> None:
    async def main(key: str, limit: int) -> None:
        async with wf.lock(key, limit=limit):
            pass

    for key, limit in (("", 1), ("x" * 501, 1), ("x", 0)):
        assert "wf.lock" in drive(lambda key=key, limit=limit: main(key, limit)).suspension()


def keeper(first: LockRequest) -> Driver:
    """The run that keeps a lock, started by a request."""
    definition = app.find_workflow(internal.LOCK_WORKFLOW, 1)
    assert definition is not None
    start = Event("e", internal.LOCK, data=msgspec.json.encode(first))
    return drive(definition.main(start, app.events), subject=None, ref=f"{internal.LOCK_WORKFLOW}:sku-1")


def grants(driver: Driver) -> list[str]:
    """Whom the keeper granted the lock, in order."""
    return [f"{c.workflow}:{c.run}" for c in driver.emitted if c.event.type == internal.GRANT]


def request(holder: str, *, release: bool = False, limit: int = 1) -> LockRequest:
    return LockRequest(f"run:{holder}", 1, 5, limit, release)


def test_the_keeper_grants_in_order_and_ends_when_nobody_is_left() -> None:
    driver = keeper(request("a"))
    for each in ("b", "c", "d"):
        driver.feed(driver.mail(internal.LOCK, request(each)))
    assert grants(driver) == ["run:a"]
    driver.feed(driver.mail(internal.LOCK, request("c", release=True)))  # leaves the line
    driver.feed(driver.mail(internal.LOCK, request("a", release=True)))
    assert grants(driver) == ["run:a", "run:b"]
    driver.feed(driver.mail(internal.LOCK, request("b", release=True)))
    driver.feed(driver.mail(internal.LOCK, request("d", release=True)))
    assert grants(driver) == ["run:a", "run:b", "run:d"]
    assert isinstance(driver.given[-1], Complete)
    driver.check_every_crash()


def test_the_keeper_lets_as_many_in_as_the_limit_says() -> None:
    driver = keeper(request("a", limit=2))
    for each in ("b", "c"):
        driver.feed(driver.mail(internal.LOCK, request(each, limit=2)))
    assert grants(driver) == ["run:a", "run:b"]
    driver.feed(driver.mail(internal.LOCK, request("b", release=True, limit=2)))
    assert grants(driver) == ["run:a", "run:b", "run:c"]


def test_what_comes_when_the_keeper_has_ended_is_sent_on_to_the_next() -> None:
    driver = keeper(request("a"))
    driver.feed(driver.mail(internal.LOCK, request("a", release=True)))
    assert isinstance(driver.given[-1], Complete)
    late = driver.feed(driver.mail(internal.LOCK, request("b")))
    assert [asked(c).holder for c in late if isinstance(c, EmitEvent)] == ["run:b"]
    assert [c.run for c in late if isinstance(c, EmitEvent)] == ["sku-1"]


def test_a_keeper_that_is_cancelled_sends_its_line_to_the_next() -> None:
    driver = keeper(request("a"))
    driver.feed(driver.mail(internal.LOCK, request("b")))
    commands = driver.cancel()
    assert [asked(c).holder for c in commands if isinstance(c, EmitEvent)] == ["run:b"]
    assert driver.given[-1] == Cancelled()


def test_events_for_a_keeper_mean_nothing_to_other_runs() -> None:
    async def main() -> None:
        await wf.wait_for(Paid)

    driver = drive(main)
    assert driver.feed(driver.mail(internal.LOCK, request("a"))) == []
    assert driver.feed(driver.mail("ww.new", {})) == []
    assert driver.run.unmatched == ()


# ---- what cannot be


def test_a_workflow_of_another_app_cannot_be_a_child() -> None:
    @App("other").workflow()
    async def stranger() -> None: ...

    async def main() -> None:
        await stranger()

    assert "'stranger' is declared in another app" in drive(main).suspension()


def test_a_run_with_a_long_name_may_send_and_have_children() -> None:
    async def starts() -> None:
        await add(1)

    async def emits() -> None:
        wf.emit(Packed())

    assert names(drive(starts, seed="x" * 1_100).given) == ["EmitEvent"]
    assert names(drive(emits, seed="x" * 1_100).given) == ["EmitEvent", "Complete"]


def test_a_childs_error_that_nobody_awaited_is_complained_about_with_its_line() -> None:
    async def main() -> None:
        await asyncio.wait([asyncio.ensure_future(add(1))])
        await act("a")

    driver = drive(main)
    ended(driver, driver.emitted[0], status="failed")
    gc.collect()
    assert driver.action("a")
    (complaint,) = driver.run.complaints
    assert f"{child_of(driver.emitted[0])} at test_letters.py:" in complaint
    assert "never retrieved" in complaint


def test_children_of_a_family_have_short_ids_that_differ() -> None:
    async def main() -> None:
        await add(1)

    ids: list[str] = []
    ref = "test:order-1"
    for _ in range(4):
        driver = drive(main, ref=ref, seed=f"{ref}/start")
        ids.append(str(driver.emitted[0].run))
        ref = f"add:{ids[-1]}"
    assert len(set(ids)) == 4
    assert all(each.startswith("order-1.1-") and len(each) == len(ids[0]) for each in ids)
