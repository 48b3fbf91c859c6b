"""Events of many callers in few calls: each gets its own answer, and nobody another's error."""

from __future__ import annotations

import asyncio

import pytest

from workflow_worker.client.grouping import Group
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import Refused, StoreUnavailable
from workflow_worker.store.transitions import Publish, Published


class Server:
    """Answers calls one after the other, each when it is let."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = asyncio.Event()
        self.refuse: set[str] = set()
        self.away = False

    async def send(self, items: list[Publish]) -> list[Published]:
        self.calls.append([item.event.id for item in items])
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable("away")
        if any(item.event.id in self.refuse for item in items):
            raise Refused("not this one")
        return [Published(item.event.id) for item in items]


def event(number: int) -> Publish:
    return Publish(Event(str(number), "t"))


@pytest.fixture
def server() -> Server:
    return Server()


async def test_the_first_is_sent_at_once_and_the_others_together(server: Server) -> None:
    group = Group(server.send, 200)
    tasks = [asyncio.ensure_future(group.publish(event(number))) for number in range(450)]
    await asyncio.sleep(0)
    assert server.calls == [["0"]]
    server.gate.set()
    assert [answer.id for answer in await asyncio.gather(*tasks)] == [str(number) for number in range(450)]
    assert [len(call) for call in server.calls] == [1, 200, 200, 49]
    assert (await group.publish(event(999))).id == "999"
    assert server.calls[-1] == ["999"]


async def test_an_outage_is_told_to_everybody_who_was_in_the_call(server: Server) -> None:
    group = Group(server.send, 200)
    server.away = True
    tasks = [asyncio.ensure_future(group.publish(event(number))) for number in range(3)]
    await asyncio.sleep(0)
    server.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [StoreUnavailable] * 3
    assert len({id(error) for error in errors}) == 3
    server.away = False
    assert (await group.publish(event(4))).id == "4"


async def test_a_refusal_reaches_only_the_one_it_is_about(server: Server) -> None:
    group = Group(server.send, 200)
    server.refuse = {"2"}
    tasks = [asyncio.ensure_future(group.publish(event(number))) for number in range(4)]
    await asyncio.sleep(0)
    server.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, Published) for answer in answers] == [True, True, False, True]
    assert isinstance(answers[2], Refused)


async def test_a_caller_that_gives_up_disturbs_nobody(server: Server) -> None:
    group = Group(server.send, 200)
    tasks = [asyncio.ensure_future(group.publish(event(number))) for number in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0)
    server.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, Published) for answer in answers] == [False, True, False, True]
    assert server.calls == [["0"], ["1", "2", "3"]]
    assert (await group.publish(event(9))).id == "9"


async def test_a_loop_that_ends_leaves_nobody_waiting(server: Server) -> None:
    group = Group(server.send, 200)
    tasks = [asyncio.ensure_future(group.publish(event(number))) for number in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (sending,) = [task for task in asyncio.all_tasks() if "_send_waiting" in repr(task)]
    sending.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [type(answer) for answer in answers[1:]] == [StoreUnavailable] * 2
