"""When memory runs short: above the mark nothing new is begun, and at the limit what runs comes to its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from tests.contract.actor import LIMITS, Actor
from tests.contract.conftest import Raw, actor_and_raw
from tests.support.servers import RunningServer
from workflow_worker.model.event import Event
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import Emit, LeasedRun, Mode, Publish, Published, Renewed, RunQuery

STARTS = Publish(Event("start", "order.placed", "77"))
ADDRESSED = Publish(Event("there", "order.placed", "77"), workflow="fulfil", run="x")
GOES_ON = Publish(Event("goes", "order.paid", "77"))
TO_RUN = Publish(Event("to-run", "order.paid", "77"), workflow="fulfil", run="order-1")
LATER = Publish(Event("later", "order.placed", "78"), delay_ms=5)
BALLAST = 32 << 20
"""Bytes."""


async def used_memory(raw: Raw) -> int:
    text: bytes = await raw("INFO", "memory")
    return next(int(line.partition(b":")[2]) for line in text.splitlines() if line.startswith(b"used_memory:"))


@asynccontextmanager
async def limited(raw: Raw, percent: int) -> AsyncGenerator[None]:
    """A server that uses this much of its memory, in percent.

    The ballast keeps it so: an empty server uses one megabyte, of which the buffers of clients that went are 10 %.
    """
    await raw("SETRANGE", "ballast", BALLAST, "x")
    await raw("CONFIG", "SET", "maxmemory", await used_memory(raw) * 100 // percent)
    try:
        yield
    finally:
        await raw("CONFIG", "SET", "maxmemory", 0)
        await raw("DEL", "ballast")


async def test_above_the_mark_nothing_is_begun(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        assert (await actor.store.tick()).memory is None
        async with limited(raw, 90):
            ticked = await actor.store.tick()
            assert ticked.memory in range(85, 96)
            items = [STARTS, ADDRESSED, GOES_ON, TO_RUN, LATER, Publish(Event("u", "undeclared", "1"))]
            answers = await actor.store.publish(items)
            assert [answer.full for answer in answers] == [True, True, False, False, True, False]
            assert not any(answer.duplicate for answer in answers)
            assert (await actor.store.depth()).events == 3
        async with limited(raw, 50):
            assert (await actor.store.tick()).memory in range(40, 60)
            assert await actor.store.publish([STARTS]) == [Published("start")]


async def test_the_mark_runs_out_and_may_be_off(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw), limited(raw, 90):
        await actor.store.tick()
        assert (await actor.store.publish([STARTS]))[0].full
        actor.clock.now += 10_000
        assert await actor.store.publish([STARTS]) == [Published("start")]
        assert (await actor.store.publish([STARTS]))[0].duplicate
    async with actor_and_raw(server, replace(LIMITS, memory_high_water=0)) as (actor, raw), limited(raw, 95):
        assert (await actor.store.tick()).memory is not None
        assert not (await actor.store.publish([STARTS]))[0].full


async def test_at_the_limit_what_runs_comes_to_its_end_and_nothing_is_torn(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        runs = [await actor.started(subject) for subject in "12345"]
        await actor.publish("order.paid", "1", event_id="paid")
        await actor.publish("order.placed", "6", event_id="last")
        await actor.commit(runs[2], Mode.RELEASE, wake=actor.clock.now + 10)
        for run in runs[3:]:
            await actor.commit(run, Mode.RELEASE, status=RunStatus.SUSPENDED, error=b"e" * 2_000)
        async with limited(raw, 120):
            refused = [Published("goes", full=True), Published("start", full=True)]
            assert await actor.store.publish([GOES_ON, STARTS]) == refused
            await _come_to_an_end(actor, runs)
            audit = await actor.store.audit()
            assert audit.balanced, audit.problems
            assert await actor.store.publish([GOES_ON, STARTS]) == refused
        page = await actor.store.runs(RunQuery())
        assert {view.status for view in page.items} == {RunStatus.COMPLETED}
        assert page.total == 6
        assert await actor.store.publish([GOES_ON]) == [Published("goes")]


async def _come_to_an_end(actor: Actor, runs: list[LeasedRun]) -> None:
    """Every verb that finishes work, with records that are larger than what is free."""
    records = (b"r" * 100_000,)
    assert isinstance(await actor.store.renew(actor.session, [(runs[0].ref, runs[0].token)]), Renewed)
    assert [run.ref for run in await actor.ingest()] == ["fulfil:order-6"]
    [loaded] = await actor.store.load(actor.session, [(runs[0].ref, runs[0].token)])
    assert loaded is not None
    assert [mail.event.id for mail in loaded.mail] == ["paid"]
    emits = (Emit(1, Event("", "order.paid", "1")), Emit(2, Event("", "order.paid", "2"), delay_ms=5))
    step = actor.step(runs[0], records=records, state=b"s" * 100_000, taken=loaded.mail, emits=emits)
    step = msgspec.structs.replace(step, waits_added=(("order.paid", "9"),))
    assert [outcome.word for outcome in await actor.store.commit([step])] == ["ok"]
    assert await actor.store.hand_back(actor.session, runs[1].ref, runs[1].token)
    actor.clock.now += 10
    assert (await actor.store.tick()).moved == 2
    assert await actor.store.cancel(runs[3].ref, "ann", "memory") == "ok"
    assert await actor.store.resume(runs[4].ref, b"resumed", "ann") == "ok"
    assert await actor.store.close(actor.session)
    other = await actor.other("s2")
    leased = {run.ref: run for _ in range(3) for run in await other.ingest()}
    assert len(leased) == 6
    for run in leased.values():
        [present] = await other.store.load(other.session, [(run.ref, run.token)])
        assert present is not None
        assert (await other.commit(run, Mode.END, base=present.cid, records=records, taken=present.mail)).word == "ok"
    assert await other.store.close(other.session)
