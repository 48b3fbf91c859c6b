"""Random programs with sagas, patient calls, children, locks and emits: the same behind a crash after every record, and
nothing is left behind: what was asked is undone, taken back, given back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.driver import Boom, Driver, Packed, Paid, act
from tests.unit.runtime.programs import CONSTRUCTS, Node, run
from workflow_worker import App, wf
from workflow_worker.model import internal
from workflow_worker.model.command import Cancelled, Complete, EmitEvent, Fail, StartAction, Suspend
from workflow_worker.model.exceptions import ActionCancelled, ActionTimeout, WorkflowWorkerError
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.model.internal import ChildEnded, LockGrant, LockRequest, origin_of
from workflow_worker.model.record import ActionCompleted, ActionRaised, AttemptFailed, EventReceived, Record
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.execution import current_execution
from workflow_worker.runtime.guarded import GuardedCall
from workflow_worker.runtime.saga import current_saga

PROGRAMS = 1_000
RECORDS_MAX = 120

app = App("random")
app.event("packed")(Packed)
app.event("paid.*")(Paid)


@app.workflow()
async def child(number: int) -> int:
    return number


async def tracked(me: int, _: list[Node]) -> None:
    """An action with a compensation."""
    execution, saga = current_execution(), current_saga.get()
    assert execution is not None
    if saga is None or not saga.takes(f"t{me}"):
        await act(f"t{me}")
        return
    call = execution.call(f"t{me}", msgspec.json.encode([me]), msgspec.json.decode, None, "note")
    assert isinstance(call, GuardedCall)
    saga.note(call, lambda raw: act(f"undo-t{me}", raw is not None))
    await call


async def patient(me: int, _: list[Node]) -> None:
    execution = current_execution()
    assert execution is not None
    await execution.call(f"p{me}", msgspec.json.encode([me]), msgspec.json.decode, None, "wait")


async def saga(me: int, children: list[Node]) -> None:
    async with wf.saga() as block:
        if me % 4 == 0:
            block.add(act, f"added{me}")
        for each in children:
            await run(each)
        if me % 3 == 0:
            raise Boom("saga")


async def start(me: int, _: list[Node]) -> None:
    handle = wf.start(child, me, detach=me % 5 == 0)
    if me % 3 == 0:
        handle.cancel()
    if me % 2:
        await handle


async def called(me: int, _: list[Node]) -> None:
    await child(me)


async def hold(me: int, children: list[Node]) -> None:
    async with wf.lock(f"lock{me % 3}"):
        await run(children[0])


async def emit(me: int, _: list[Node]) -> None:
    wf.emit(Packed(str(me)), subject=f"s{me}")


MORE: dict[str, Callable[[int, list[Node]], Coroutine[Any, Any, None]]] = {
    "tracked": tracked, "patient": patient, "saga": saga, "start": start, "called": called, "hold": hold, "emit": emit,
}  # fmt: skip
LEAVES = ["act", "tracked", "tracked", "patient", "start", "called", "emit", "sleep"]
INNER = ["saga", "saga", "hold", "gather", "group", "timeout", "finally", "cancel", "shield", "swallow", "seq", "wait"]
MANY = {"saga", "gather", "group", "seq", "wait"}


CONSTRUCTS.update(MORE)


def program(random: Random, depth: int, count: list[int]) -> Node:
    count[0] += 1
    number = count[0]
    kind = random.choice(INNER if depth > 0 and random.random() < 0.75 else LEAVES)
    many = 0 if kind in LEAVES else random.randint(2, 3) if kind in MANY else 1
    return kind, number, [program(random, depth - 1, count) for _ in range(many)]


def main_of(tree: Node) -> Callable[[], Coroutine[Any, Any, str]]:
    async def main() -> str:
        try:
            await run(tree)
        except (Boom, ActionTimeout, ActionCancelled, ExceptionGroup, WorkflowWorkerError) as error:
            return type(error).__name__
        return f"ok {wf.info().records}"

    return main


@dataclass
class World:
    """Everybody whom the run has asked for something, answering by chance."""

    driver: Driver
    random: Random
    children: dict[str, EmitEvent] = field(default_factory=dict[str, EmitEvent])
    asked: dict[int, LockRequest] = field(default_factory=dict[int, LockRequest])
    seen: int = 0

    def notice(self) -> None:
        """What was sent since the last time."""
        for command in self.driver.emitted[self.seen :]:
            self.seen += 1
            name = f"{command.workflow}:{command.run}"
            match command.event.type:
                case internal.START:
                    self.children[name] = command
                case internal.LOCK:
                    request = msgspec.json.decode(command.event.data, type=LockRequest)
                    assert request.release == (request.number in self.asked), "asked once, given back once"
                    if not request.release:
                        self.asked[request.number] = request
                    else:
                        del self.asked[request.number]
                case internal.CANCEL:
                    assert name in self.children
                case _:
                    pass

    def answers(self) -> list[Callable[[], Record]]:
        """What could happen next."""
        found: list[Callable[[], Record]] = []
        driver = self.driver
        for number, command in sorted(driver.open.items()):
            if isinstance(command, StartAction):
                found += [lambda start=command: self.end_of(start)] * 3
            elif command.due == min(c.due for c in driver.open.values() if not isinstance(c, StartAction)):
                found.append(lambda number=number: self.fired(number))
        found += [lambda name=name: self.child_ends(name) for name in sorted(self.children)]
        found += [lambda request=request: self.granted(request) for request in self.asked.values()]
        return found

    def end_of(self, start: StartAction) -> Record:
        driver, at = self.driver, self.driver.now + 1_000
        chance = self.random.random()
        if chance < 0.1 and start.number in driver.open and not start.attempts:
            return AttemptFailed(at, start.number, start.name, start.checksum, describe(Boom("x")), 1, at + 1_000)
        del driver.open[start.number]
        if chance < 0.7 or start.name.startswith(("undo", "added")):
            return ActionCompleted(at, start.number, start.name, start.checksum, b"null")
        error, kind = self.random.choice(
            [(Boom("no"), ErrorKind.PERMANENT), (ActionTimeout("late"), ErrorKind.RECOVERABLE),
             (ActionCancelled("stopped"), ErrorKind.RECOVERABLE)]
        )  # fmt: skip
        return ActionRaised(at, start.number, start.name, start.checksum, describe(error, kind))

    def fired(self, number: int) -> Record:
        record = self.driver.fired()
        del self.driver.open[record.number]
        assert number
        return record

    def child_ends(self, name: str) -> Record:
        origin = origin_of(self.children.pop(name).event.origin)
        status = self.random.choice([RunStatus.COMPLETED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
        told = ChildEnded(origin.tag, origin.number, origin.checksum, name, status, msgspec.Raw(b"1"))
        return self.driver.mail(internal.ENDED, told)

    def granted(self, request: LockRequest) -> EventReceived:
        return self.driver.mail(internal.GRANT, LockGrant(request.tag, request.number))


def lived(seed: int) -> tuple[Driver, World]:
    """One program, live to its end."""
    random = Random(seed)
    driver = Driver(main_of(program(random, 4, [0])), events=app.events)
    world = World(driver, random)
    world.notice()
    while not driver.run.finished and len(driver.history) < RECORDS_MAX:
        if random.random() < 0.07:
            driver.cancel()
        else:
            answers = world.answers()
            assert answers, driver.run.stack()
            driver.feed(random.choice(answers)())
        world.notice()
    return driver, world


@pytest.mark.parametrize("part", range(5))
def test_random_lives_go_on_alike_behind_every_crash_and_leave_nothing(part: int) -> None:
    ends: dict[str, int] = {}
    for seed in range(part * PROGRAMS // 5, (part + 1) * PROGRAMS // 5):
        driver, world = lived(seed)
        driver.check_every_crash()
        undone_behind_the_end(driver)
        finished = driver.run.finished
        driver.close()
        if not finished:
            continue
        last = driver.given[-1]
        assert isinstance(last, Complete | Fail | Cancelled | Suspend), last
        ends[type(last).__name__] = ends.get(type(last).__name__, 0) + 1
        if isinstance(last, Suspend):
            assert "is being undone" in last.failure.message or "CancelledError" in last.failure.type, last
            continue
        nothing_is_left(driver, world)
    assert ends["Complete"] > 5
    assert ends["Cancelled"] >= 1


def undone_behind_the_end(driver: Driver) -> None:
    """A compensation starts once, and only when the end of its action is recorded."""
    ended: set[str] = set()
    undone: list[str] = []
    for records, commands in driver.steps:
        ended |= {record.name for record in records if isinstance(record, ActionCompleted | ActionRaised)}
        for command in commands:
            if isinstance(command, StartAction) and command.name.startswith("undo-"):
                undone.append(command.name)
                assert command.name.removeprefix("undo-") in ended, command
    assert len(undone) == len(set(undone))


def nothing_is_left(driver: Driver, world: World) -> None:
    """All locks are given back, and children that nobody waits for were taken back, but for detached ones."""
    assert not world.asked
    cancelled = {command.run for command in driver.emitted if command.event.type == internal.CANCEL}
    for command in world.children.values():
        number = msgspec.json.decode(command.event.data)["number"]
        detached = number % 5 == 0
        assert detached or command.run in cancelled, command
