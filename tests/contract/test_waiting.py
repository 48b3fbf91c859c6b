"""An ingest behind a sleep: executed as the sleep ends, once for its number, wherever its answer goes."""

from __future__ import annotations

import asyncio

from tests.contract.actor import ROUTES, Actor
from workflow_worker.model.ids import SessionId
from workflow_worker.store.transitions import Ingest, Ingested, IngestOutcome, SessionLost

LONG_MS, SHORT_MS = 4_000, 20


def asked(actor: Actor, room: int = 10, number: int | None = None) -> asyncio.Future[Ingest]:
    """The actor's next request, as it lies behind a sleep."""
    if number is None:
        actor.number += 1
    request = Ingest(actor.session, number or actor.number, room, ROUTES.mark, actor.cursor)
    behind: asyncio.Future[Ingest] = asyncio.get_running_loop().create_future()
    behind.set_result(request)
    return behind


async def awake(actor: Actor) -> Actor:
    """A first ingest and a first sleep are done: the server has what they need, and nothing waits."""
    await actor.ingest()
    while await actor.store.wait_for_work(1) is True:
        pass
    return actor


def refs(outcome: bool | IngestOutcome) -> list[str]:
    assert isinstance(outcome, Ingested), outcome
    return [run.ref for run in outcome.runs]


async def test_what_wakes_a_sleeper_is_ingested_at_once(actor: Actor) -> None:
    await awake(actor)
    sleeper = asyncio.ensure_future(actor.store.wait_for_work(LONG_MS, asked(actor)))
    await asyncio.sleep(0)
    await actor.publish("order.placed")
    assert refs(await sleeper) == ["fulfil:order-42"]
    assert (await actor.store.depth()).events == 0


async def test_a_request_may_come_while_the_sleep_lasts(actor: Actor) -> None:
    await awake(actor)
    behind: asyncio.Future[Ingest] = asyncio.get_running_loop().create_future()
    sleeper = asyncio.ensure_future(actor.store.wait_for_work(LONG_MS, behind))
    await asyncio.sleep(0.02)
    assert not sleeper.done()
    behind.set_result(asked(actor).result())
    await asyncio.sleep(0)
    await actor.publish("order.placed")
    assert refs(await sleeper) == ["fulfil:order-42"]


async def test_without_a_request_a_sleep_is_only_a_sleep(actor: Actor) -> None:
    await awake(actor)
    behind: asyncio.Future[Ingest] = asyncio.get_running_loop().create_future()
    assert await actor.store.wait_for_work(SHORT_MS, behind) is False
    await actor.publish("order.placed")
    assert await actor.store.wait_for_work(LONG_MS, behind) is True
    assert [run.ref for run in await actor.ingest()] == ["fulfil:order-42"]


async def test_the_poll_ingests_what_woke_somebody_else(actor: Actor) -> None:
    await awake(actor)
    await actor.publish("order.placed")
    assert await actor.store.wait_for_work(LONG_MS) is True  # and whoever that was has died
    assert refs(await actor.store.wait_for_work(SHORT_MS, asked(actor))) == ["fulfil:order-42"]


async def test_an_answer_that_was_lost_is_had_by_repeating_the_number(actor: Actor) -> None:
    await awake(actor)
    await actor.publish("order.placed")
    first = await actor.store.wait_for_work(LONG_MS, asked(actor))
    repeated = asked(actor, number=actor.number).result()
    again = await actor.store.ingest(repeated)
    assert isinstance(again, Ingested)
    assert again.again
    assert refs(again) == refs(first)
    assert refs(await actor.store.wait_for_work(SHORT_MS, asked(actor))) == []


async def test_a_sleeper_of_a_closed_session_learns_it(actor: Actor) -> None:
    await awake(actor)
    other = await actor.other("s2")
    sleeper = asyncio.ensure_future(other.store.wait_for_work(LONG_MS, asked(other)))
    await asyncio.sleep(0.02)
    assert await actor.store.close(SessionId("s2"))
    await actor.publish("order.placed")
    assert isinstance(await sleeper, SessionLost)
    assert [run.ref for run in await actor.ingest()] == ["fulfil:order-42"]


async def test_a_request_that_was_given_up_is_over_when_it_was_repeated_without_room(actor: Actor) -> None:
    """As a drain does: whether the first was executed or will be, nothing is leased by that number from then on."""
    await awake(actor)
    given_up = asked(actor)
    sleeper = asyncio.ensure_future(actor.store.wait_for_work(LONG_MS, given_up))
    await asyncio.sleep(0.02)
    sleeper.cancel()
    await asyncio.wait([sleeper])
    assert refs(await actor.store.ingest(asked(actor, 0, actor.number).result())) == []
    await actor.publish("order.placed")
    late = await actor.store.ingest(given_up.result())  # it comes after all, from a connection that had not broken yet
    assert refs(late) == []
    other = await actor.other("s2")
    assert [run.ref for run in await other.ingest()] == ["fulfil:order-42"]


async def test_each_of_two_sleepers_takes_what_it_has_room_for(actor: Actor) -> None:
    await awake(actor)
    other = await actor.other("s2")
    sleepers = [
        asyncio.ensure_future(each.store.wait_for_work(LONG_MS, asked(each, room=1))) for each in (actor, other)
    ]
    await asyncio.sleep(0.02)
    await actor.publish("order.placed", "1")
    await actor.publish("order.placed", "2")
    found = [refs(outcome) for outcome in await asyncio.gather(*sleepers)]
    assert sorted(found) == [["fulfil:order-1"], ["fulfil:order-2"]]
