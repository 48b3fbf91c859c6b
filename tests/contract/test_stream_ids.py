"""A stranger may use up the ids of a stream with one XADD: our scripts and the tick mend it, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.actor import Actor
from tests.contract.conftest import Raw, actor_and_raw
from tests.support.servers import RunningServer
from workflow_worker.model.event import Event
from workflow_worker.store.redis.errors import ErrorReply
from workflow_worker.store.transitions import Emit, Mode

LAST = "18446744073709551615-18446744073709551615"
PLACED = (b"type", b"order.placed", b"subject")


async def exhaust(raw: Raw, stream: str, *fields: bytes) -> None:
    """Use the last id; now nobody can add."""
    await raw("XADD", stream, LAST, *(fields or (b"x", b"y")))
    with pytest.raises(ErrorReply):
        await raw("XADD", stream, "*", "x", "y")


async def balanced(actor: Actor) -> None:
    audit = await actor.store.audit()
    assert audit.balanced, audit.problems


async def test_a_publish_mends_the_stream_and_keeps_what_is_in_it(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        await raw("XGROUP", "CREATE", ":events", "workers", "0", "MKSTREAM")
        await raw("XGROUP", "CREATE", ":events", "theirs", "0")
        for subject in "12":
            await actor.publish("order.placed", subject, event_id=f"e{subject}")
        kept = [entry for entry, _ in await raw("XRANGE", ":events", "-", "+")]
        await exhaust(raw, ":events", *PLACED, b"3", b"id", b"stranger")
        await actor.publish("order.placed", "4", event_id="e4")
        entries = await raw("XRANGE", ":events", "-", "+")
        assert [entry for entry, _ in entries[:2]] == kept
        assert [dict(zip(fields[::2], fields[1::2], strict=True))[b"subject"] for _, fields in entries] == [
            *(b"1", b"2", b"3", b"4")
        ]
        assert [group[1] for group in await raw("XINFO", "GROUPS", ":events")] == [b"theirs", b"workers"]
        await raw("XADD", ":events", "*", *PLACED, "5")
        await balanced(actor)
        assert [run.ref for run in await actor.ingest()] == [f"fulfil:order-{subject}" for subject in "12345"]
        await balanced(actor)
        assert await raw("EXISTS", ":mending") == 0


async def test_an_empty_stream_keeps_its_count_and_its_group(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        await actor.publish("order.placed", "1")
        await exhaust(raw, ":events")
        assert len(await actor.ingest()) == 1
        assert await actor.reasons() == ["no type"]
        await actor.publish("order.placed", "2")
        await balanced(actor)
        assert [group[1] for group in await raw("XINFO", "GROUPS", ":events")] == [b"workers"]
        assert len(await actor.ingest()) == 1


async def test_a_tick_mends_it_for_strangers(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        await exhaust(raw, ":events", *PLACED, b"1")
        await actor.store.tick()
        await raw("XADD", ":events", "*", *PLACED, "2")
        assert len(await actor.ingest()) == 2
        await balanced(actor)


async def test_a_sleeper_wakes_after_the_mending(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        assert not await actor.store.wait_for_work(1)
        await exhaust(raw, ":events", *PLACED, b"1")
        assert await actor.store.wait_for_work(1_000)
        await actor.ingest()
        sleeper = asyncio.create_task(actor.store.wait_for_work(3_000))
        async with asyncio.timeout(2):
            while b"flags=b" not in await raw("CLIENT", "LIST"):
                pass
        await actor.publish("order.placed", "2")
        async with asyncio.timeout(2):
            assert await sleeper


async def test_steps_that_emit_are_not_torn(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        runs = [await actor.started(subject) for subject in "12"]
        await exhaust(raw, ":events", *PLACED, b"3")
        emits = (Emit(1, Event("", "order.placed", "4")), Emit(2, Event("", "order.placed", "5")))
        outcomes = await actor.store.commit([actor.step(run, Mode.END, emits=emits) for run in runs])
        assert [outcome.word for outcome in outcomes] == ["ok", "ok"]
        await balanced(actor)
        # Of each pair the second start event finds the run of the first.
        assert len(await actor.ingest()) == 3
        await balanced(actor)


async def test_redrives_sweeps_and_delays_go_on(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        await actor.publish("what", "1")
        await actor.publish("order.placed", "9", delay_ms=10)
        await actor.ingest()
        await exhaust(raw, ":events", *PLACED, b"2")
        [letter] = await actor.store.dead_letters()
        assert await actor.store.redrive(letter.id, "ann") == "ok"
        actor.clock.now += 10
        await exhaust(raw, ":events", *PLACED, b"3")
        assert (await actor.store.tick()).moved == 1
        assert len(await actor.ingest()) == 3
        await balanced(actor)


async def test_ready_is_mended(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        runs = [await actor.started(subject) for subject in "12"]
        await actor.store.hand_back(actor.session, runs[0].ref, runs[0].token)
        await exhaust(raw, ":ready")
        await actor.store.hand_back(actor.session, runs[1].ref, runs[1].token)
        assert [run.ref for run in await actor.ingest()] == [run.ref for run in runs]
        await balanced(actor)


async def test_dead_letters_are_mended_with_their_marks(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        for kind in ("what", "whatever"):
            await actor.publish(kind, "1")
        await actor.ingest()
        first, second = await actor.store.dead_letters()
        assert await actor.store.redrive(first.id, "ann") == "ok"
        [(_, fields)] = await raw("XRANGE", ":dead", first.id, first.id)
        await raw("XADD", ":dead", "18446744073709551615-0", *fields)
        await raw("ZADD", ":redriven", 5, "18446744073709551615-0")
        await exhaust(raw, ":dead")
        await actor.ingest()  # the redriven event is still undeclared
        assert await actor.reasons() == ["undeclared", "undeclared"]
        assert (await actor.store.dead_letters())[0].id == second.id
        assert await raw("ZCARD", ":redriven") == 2
        marked = [entry.decode() for entry in await raw("ZRANGE", ":redriven", 0, -1)]
        assert [
            letter is not None and letter.redriven for letter in [await actor.store.dead_letter(id) for id in marked]
        ]
        await balanced(actor)


async def test_an_entry_too_wide_to_be_moved_becomes_a_dead_letter(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        wide = [part for number in range(4_000) for part in (b"n%d" % number, b"v")]
        await actor.add_raw([*PLACED, b"1", *wide])
        await exhaust(raw, ":events", *PLACED, b"2")
        await actor.publish("order.placed", "3")
        assert await actor.reasons() == ["unreadable: too many fields"]
        assert len(await actor.ingest()) == 2
        await balanced(actor)
