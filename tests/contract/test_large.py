"""More than Lua hands to one command, about 8,000 values."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.actor import LIMITS, Actor
from tests.contract.conftest import redis_actor
from tests.contract.test_bounds import ingest
from tests.support.servers import RunningServer
from workflow_worker.model.event import Event
from workflow_worker.store.transitions import Emit, Fates, Mode, Publish

NOTE = Event("", "ww.note", data=b'"hello"')


async def test_more_answers_than_one_command_takes(actor: Actor) -> None:
    one, two = await actor.started("1"), await actor.started("2")
    for first in range(1, 8_401, 600):
        emits = tuple(Emit(number, NOTE, "fulfil", "order-2") for number in range(first, first + 600))
        assert (await actor.commit(one, emits=emits)).word == "ok"
        while (await actor.store.depth()).events:
            await actor.ingest(200)
    kept = await actor.commit(two)
    assert (kept.word, len(kept.mail)) == ("ok", 8_400)
    refused = await actor.commit(two, Mode.END)
    assert (refused.word, len(refused.mail)) == ("mail", 8_400)
    ended = await actor.commit(two, Mode.END, taken=kept.mail)
    assert ended.word == "ok"


async def test_more_runs_wait_for_an_event_than_one_command_takes(server: RunningServer) -> None:
    """More than the cap: as a namespace may have them from before there was one."""
    count, wait = 8_200, ("order.paid", "z")
    async with redis_actor(server, replace(LIMITS, waits_cap=count)) as actor:
        for first in range(0, count, 200):
            await actor.store.publish([Publish(Event(f"e{n}", "bare")) for n in range(first, first + 200)])
            runs = await actor.ingest(200)
            steps = [actor.step(run, Mode.RELEASE, waits_added=(wait,)) for run in runs]
            assert {outcome.word for outcome in await actor.store.commit(steps)} == {"ok"}
        await actor.publish("order.paid", "z")
        told = await ingest(actor)
        assert (told.fates, len(told.runs)) == (Fates(routed=1), 200)
        audit = await actor.store.audit()
        assert (audit.balanced, audit.deliveries) == (True, count), audit.problems
        assert (await actor.store.depth()).ready == count - 200
