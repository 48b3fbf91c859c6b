"""Random programs over asyncio's surface; run as a script, they live in one process and are replayed in another.

``python -m tests.unit.runtime.programs live <file> <first> <count>`` then the same with ``replay``. With ``record`` the
histories are written in the form that ``histories/`` keeps of other Python versions, see `test_versions`.
"""

from __future__ import annotations

import asyncio
import asyncio.taskgroups
import asyncio.tasks
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from tests.unit.runtime.driver import START, Boom, Driver, Main, Packed, act, cast_any
from workflow_worker.model.command import (
    AddWait,
    CancelAction,
    Cancelled,
    CancelTimer,
    Command,
    Complete,
    EmitEvent,
    Fail,
    MarkPatch,
    RemoveWait,
    Restart,
    SetState,
    StartAction,
    StartTimer,
    Suspend,
)
from workflow_worker.model.exceptions import WorkflowWorkerError
from workflow_worker.model.failure import describe
from workflow_worker.model.record import (
    ActionCompleted,
    ActionRaised,
    CancelRequested,
    Record,
    TimerFired,
    decode_record,
    encode_record,
)
from workflow_worker.runtime import ordering, wf
from workflow_worker.runtime.futures import NumberedFuture, NumberedTask

Node = tuple[str, int, list[Any]]
_LEAVES = ["act", "act", "sleep", "event", "agen"]
_INNER = [
    "act", "sleep", "event", "agen", "seq", "gather", "group", "timeout", "wait", "completed", "shield", "finally",
    "cancel", "wait_for", "user_set", "lock", "queue", "state", "swallow", "semaphore", "condition", "again", "late",
]  # fmt: skip
_MANY = {
    "gather", "group", "wait", "completed", "seq", "user_set", "lock", "queue", "semaphore", "condition", "again",
}  # fmt: skip
_RECORDS_MAX = 300


def program(random: Random, depth: int, count: list[int]) -> Node:
    """A random tree of constructs."""
    count[0] += 1
    number = count[0]
    kind = random.choice(_LEAVES if depth <= 0 else _INNER)
    children = 0 if kind in _LEAVES or kind == "state" else random.randint(2, 4) if kind in _MANY else 1
    return kind, number, [program(random, depth - 1, count) for _ in range(children)]


def main_of(seed: int) -> Callable[[], Coroutine[Any, Any, str]]:
    """The workflow function of one seed."""
    return main_with(program(Random(seed), 4, [0]))


def main_with(tree: Node) -> Callable[[], Coroutine[Any, Any, str]]:
    """The workflow function that executes a tree."""

    async def main() -> str:
        try:
            await run(tree)
        except (Boom, ExceptionGroup, WorkflowWorkerError) as error:
            return type(error).__name__
        return f"ok {wf.random().random()} {wf.uuid4()} {wf.time()}"

    return main


async def run(node: Node) -> None:
    """Execute one node."""
    await CONSTRUCTS[node[0]](node[1], node[2])


async def _act(me: int, _: list[Node]) -> None:
    await act(f"a{me}", me)


async def _sleep(me: int, _: list[Node]) -> None:
    await asyncio.sleep(1 + me % 7)


async def _event(me: int, _: list[Node]) -> None:
    await wf.wait_for(Packed, subject="order-1" if me % 2 else f"other-{me % 3}", timeout=5, default=None)


async def _agen(me: int, _: list[Node]) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield await act(f"g{me}")
        finally:
            await act(f"gend{me}")

    async for _number in numbers():
        break


async def _seq(_: int, children: list[Node]) -> None:
    for child in children:
        await run(child)


async def _gather(me: int, children: list[Node]) -> None:
    await asyncio.gather(*[run(child) for child in children], return_exceptions=bool(me % 2))


async def _group(me: int, children: list[Node]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(run(child))
    except* Boom:
        if me % 3:
            await act(f"group{me}")


async def _timeout(me: int, children: list[Node]) -> None:
    try:
        async with asyncio.timeout(1 + me % 5):
            await run(children[0])
    except TimeoutError:
        await act(f"late{me}")


async def _wait_for(me: int, children: list[Node]) -> None:
    try:
        await asyncio.wait_for(run(children[0]), me % 5)
    except TimeoutError:
        await act(f"late{me}")


async def _wait(me: int, children: list[Node]) -> None:
    tasks = [asyncio.create_task(run(child)) for child in children]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=3 if me % 3 == 0 else None)
    for task in done:
        if task.cancelled() or task.exception():
            await act(f"error{me}")
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)


async def _completed(me: int, children: list[Node]) -> None:
    for next_done in asyncio.as_completed([run(child) for child in children]):
        try:
            await next_done
        except Boom:
            await act(f"completed{me}")


async def _user_set(me: int, children: list[Node]) -> None:
    tasks: set[asyncio.Task[Any]] = set()
    for child in children:
        task = asyncio.create_task(run(child))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in list(tasks):
        await asyncio.wait([task])
        await act(f"after{me}", task.get_name())


async def _shield(_: int, children: list[Node]) -> None:
    await asyncio.shield(run(children[0]))


async def _finally(me: int, children: list[Node]) -> None:
    try:
        await run(children[0])
    finally:
        await act(f"undo{me}")


async def _cancel(me: int, children: list[Node]) -> None:
    task = asyncio.create_task(run(children[0]))
    await act(f"c{me}")
    task.cancel()
    await asyncio.wait([task])


async def _swallow(me: int, children: list[Node]) -> None:
    try:
        await run(children[0])
    except asyncio.CancelledError:
        await act(f"swallowed{me}")


async def _lock(me: int, children: list[Node]) -> None:
    lock = asyncio.Lock()

    async def one(child: Node) -> None:
        async with lock:
            await run(child)

    await asyncio.gather(*[one(child) for child in children], return_exceptions=bool(me % 2))


async def _queue(me: int, children: list[Node]) -> None:
    queue: asyncio.Queue[Node] = asyncio.Queue(maxsize=1)

    async def consume() -> None:
        for _ in children:
            await run(await queue.get())

    consumer = asyncio.create_task(consume())
    for child in children:
        put = asyncio.create_task(queue.put(child))
        await asyncio.wait([put, consumer], return_when=asyncio.FIRST_COMPLETED)
        if not put.done():
            put.cancel()
    await consumer


async def _semaphore(me: int, children: list[Node]) -> None:
    semaphore = asyncio.Semaphore(1 + me % 2)

    async def one(child: Node) -> None:
        async with semaphore:
            await run(child)

    tasks = [asyncio.create_task(one(child)) for child in children]
    await act(f"holds{me}")
    tasks[me % len(tasks)].cancel()
    semaphore.release()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _condition(me: int, children: list[Node]) -> None:
    condition = asyncio.Condition()

    async def one(child: Node) -> None:
        async with condition:
            await condition.wait()
            await act(f"noticed{child[1]}")
        await run(child)

    tasks = [asyncio.create_task(one(child)) for child in children]
    for number in range(len(tasks) + 1):
        await act(f"notify{me}")
        async with condition:
            condition.notify(1)
        if number == me % 4:
            tasks[0].cancel()
    async with condition:
        condition.notify_all()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _again(me: int, children: list[Node]) -> None:
    tasks = [asyncio.create_task(run(child)) for child in children]
    beside = asyncio.create_task(_act(me, []))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks.append(asyncio.create_task(_gather_once_more(me, tasks)))
    await asyncio.gather(*tasks, return_exceptions=bool(me % 2))
    await beside


async def _gather_once_more(me: int, tasks: list[asyncio.Task[None]]) -> None:
    done = [task for task in tasks if task.done()]
    await asyncio.gather(*done, return_exceptions=True)
    await act(f"again{me}")


async def _late(me: int, children: list[Node]) -> None:
    call = act(f"late{me}")
    await asyncio.wait([call])
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(cast_any(call))
            group.create_task(run(children[0]))
            await act(f"body{me}")
    except* Boom:
        pass


async def _state(me: int, _: list[Node]) -> None:
    wf.state(step=me, at=wf.time())


CONSTRUCTS: dict[str, Callable[[int, list[Node]], Coroutine[Any, Any, None]]] = {
    "act": _act,
    "sleep": _sleep,
    "event": _event,
    "agen": _agen,
    "seq": _seq,
    "gather": _gather,
    "group": _group,
    "timeout": _timeout,
    "wait_for": _wait_for,
    "wait": _wait,
    "completed": _completed,
    "user_set": _user_set,
    "shield": _shield,
    "finally": _finally,
    "cancel": _cancel,
    "swallow": _swallow,
    "lock": _lock,
    "queue": _queue,
    "state": _state,
    "semaphore": _semaphore,
    "condition": _condition,
    "again": _again,
    "late": _late,
}


def next_record(random: Random, driver: Driver) -> Record | None:
    """What happens next to a run: an open step is settled, an event comes, seldom a cancel request."""
    chance = random.random()
    at = driver.now + random.choice((0, 1000))
    if chance < 0.02:
        return CancelRequested(at, f"c{len(driver.history)}", "somebody", "")
    if chance < 0.15:
        return driver.event("packed", {"tracking": "1Z"}, subject=random.choice(("order-1", "other-1", "other-2")))
    if not driver.open:
        return driver.event("packed", {"tracking": "1Z"}) if _waits(driver) else None
    command = driver.open.pop(random.choice(sorted(driver.open)))
    if isinstance(command, StartTimer):
        return TimerFired(at, command.number, command.due)
    if random.random() < 0.2:
        return ActionRaised(at, command.number, command.name, command.checksum, describe(Boom("no")))
    return ActionCompleted(at, command.number, command.name, command.checksum, b"1")


def _waits(driver: Driver) -> bool:
    return any("AddWait" in type(c).__name__ for c in driver.run.outstanding()) or "wait_for" in str(driver.run.stack())


def live(seed: int) -> tuple[list[Record], list[list[Command]]]:
    """Run a program to its end; its history, and the commands after the start and after every record."""
    random = Random(seed + 1_000_000)
    driver = Driver(main_of(seed))
    steps = [list(driver.given)]
    while not driver.run.finished and len(driver.history) < _RECORDS_MAX:
        record = next_record(random, driver)
        if record is None:
            break
        steps.append(driver.feed(record))
    driver.close()
    assert driver.graveyard.count == 0
    return driver.history, steps


def again(seed: int, history: list[Record]) -> list[list[Command]]:
    """The commands of the same program, fed with the same records one by one."""
    return replayed(main_of(seed), history)


def replayed(main: Main, history: list[Record]) -> list[list[Command]]:
    """The commands of a program after its start and after every record."""
    driver = Driver(main)
    steps = [list(driver.given)]
    steps += [driver.feed(record) for record in history]
    driver.close()
    return steps


def _print(steps: list[list[Command]]) -> str:
    """Commands as text. Tracebacks differ between processes in nothing but may be long; they are left in."""
    return repr(steps)


class Kept(msgspec.Struct):
    """A program with its history and what it asked for at every step, in few words."""

    program: Node
    history: list[bytes]
    commands: list[str]


def brief(steps: list[list[Command]]) -> list[str]:
    """Commands in few words, without what may differ between versions (tracebacks)."""
    return [" ".join(map(_word, commands)) for commands in steps]


def _word(command: Command) -> str:
    match command:
        case StartAction():
            return f"{command.name}#{command.number}"
        case StartTimer():
            return f"timer#{command.number}@{command.due - START}"
        case Suspend() | Fail():
            return f"{type(command).__name__}({command.failure.type}: {command.failure.message})"
        case Complete():
            return f"Complete({command.result.decode()}, {len(command.unmatched)})"
        case AddWait() | RemoveWait():
            return f"{type(command).__name__}({command.event_type}, {command.subject})"
        case SetState():
            return f"SetState({command.state.decode()})"
        case EmitEvent():
            return f"emit#{command.number}({command.event.type})"
        case MarkPatch():
            return f"patch({command.id})"
        case Restart():
            return f"Restart({command.data.decode()})"
        case CancelAction() | CancelTimer():
            return f"{type(command).__name__}#{command.number}"
        case Cancelled():
            return f"Cancelled({len(command.unmatched)})"


def _record(path: Path, seeds: range) -> None:
    lines: list[bytes] = []
    for seed in seeds:
        history, steps = live(seed)
        if 3 <= len(history) <= 25:
            raw = [encode_record(record) for record in history]
            lines.append(msgspec.json.encode(Kept(program(Random(seed), 4, [0]), raw, brief(steps))))
    path.write_bytes(b"\n".join(lines) + b"\n")


def _undo(measure: str) -> None:
    """Take one of the two measures of `ordering` back, to see that it is needed."""
    if measure == "sets":
        for module in (asyncio.tasks, asyncio.taskgroups):
            module.__dict__["set"] = set
        ordering.is_installed = lambda: True
    elif measure == "hashes":
        NumberedTask.__hash__ = NumberedFuture.__hash__ = object.__hash__
    else:
        raise ValueError(measure)


def _script(mode: str, path: str, first: int, count: int) -> int:
    junk = [bytearray(Random().randrange(10, 900)) for _ in range(Random().randrange(2_000))]
    del junk[::2]  # another heap in every process
    ordering.install()
    for measure in os.environ.get("WITHOUT", "").split():
        _undo(measure)
    file = Path(path)
    if mode == "record":
        _record(file, range(first, first + count))
        return 0
    kept: dict[str, tuple[list[bytes], str]] = {} if mode == "live" else msgspec.msgpack.decode(file.read_bytes())
    differing: list[int] = []
    for seed in range(first, first + count):
        if mode == "live":
            history, steps = live(seed)
            kept[str(seed)] = ([encode_record(record) for record in history], _print(steps))
        else:
            raw, expected = kept[str(seed)]
            if _print(again(seed, [decode_record(record) for record in raw])) != expected:
                differing.append(seed)
    if mode == "live":
        file.write_bytes(msgspec.msgpack.encode(kept))
        print(sum(len(raw) for raw, _ in kept.values()), "records")
    print("differing:", differing)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.stdout.flush()
    code = _script(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.flush()
    os._exit(code)

__all__ = ["START", "AddWait", "Kept", "StartAction", "again", "brief", "live", "main_of", "main_with", "replayed"]
