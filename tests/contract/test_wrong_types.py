"""A key of another type than ours, or a value that nobody can read, harms what it belongs to and nothing else: each
step of a commit is whole or not at all, an event that cannot be routed goes to ``dead`` alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.actor import Actor
from tests.contract.conftest import Raw, actor_and_raw
from tests.support.servers import RunningServer
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import REJECT_START, Emit, Fates, Ingest, Ingested, LeasedRun, Mode


async def spoil(raw: Raw, key: str) -> None:
    """Make a key another type."""
    await raw("DEL", key)
    await raw("SET", key, "another type")


async def everything(raw: Raw, *, but: str = "") -> dict[bytes, Any]:
    """All keys with their values, for a comparison; counters may move."""
    keys = sorted(key for key in await raw("KEYS", "*") if not key.endswith((b"}:stat", but.encode() or b"}:stat")))
    return {key: await raw("DUMP", key) for key in keys}


# -------------------------------------------------------------------------------------------------------------- commits

PAID = Event("", "order.paid", "9")
STEPS: list[tuple[str, Mode, dict[str, Any]]] = [
    (":history:{}", Mode.KEEP, {}),
    (":history:{}", Mode.KEEP, {"restart": Mail("n-1", Event("n-1", "order.placed", "1"))}),
    (":mailbox:{}", Mode.KEEP, {}),
    (":mailbox:{}", Mode.KEEP, {"taken": ()}),
    (":mailbox:{}", Mode.KEEP, {"waits_added": (("order.paid", "early"),), "taken": ()}),
    (":held:s1", Mode.RELEASE, {}),
    (":held:s1", Mode.END, {}),
    (":index:ended", Mode.END, {}),
    (":subjects", Mode.END, {}),
    (":index:suspended", Mode.RELEASE, {"status": RunStatus.SUSPENDED, "error": b"e"}),
    (":dead", Mode.KEEP, {"rejects": "mail"}),
    (":dead", Mode.END, {"rejects": ((REJECT_START, "no"),)}),
    (":events", Mode.KEEP, {"emits": (Emit(1, PAID),)}),
    (":delayed", Mode.KEEP, {"emits": (Emit(1, PAID, delay_ms=5),)}),
    (":delayed:entries", Mode.KEEP, {"emits": (Emit(1, PAID), Emit(2, PAID, delay_ms=5))}),
    (":early:early", Mode.KEEP, {"waits_added": (("order.paid", "early"),)}),
    (":waits:10:order.paid:early", Mode.KEEP, {"waits_added": (("order.paid", "early"),)}),
    (":waits:10:order.paid:old", Mode.KEEP, {"waits_removed": (("order.paid", "old"),)}),
    (":waits:10:order.paid:old", Mode.END, {}),
    (":waiting", Mode.KEEP, {"waits_added": (("order.paid", "early"),)}),
]


@pytest.mark.parametrize(("key", "mode", "more"), STEPS, ids=[f"{step[0]}-{step[1]}-{[*step[2]]}" for step in STEPS])
async def test_a_commit_is_whole_or_not_at_all(
    server: RunningServer, key: str, mode: Mode, more: dict[str, Any]
) -> None:
    async with actor_and_raw(server) as (actor, raw):
        run = await _run_with_all(actor)
        name = key.format(run.ref)
        await spoil(raw, name)
        before = await everything(raw)
        if more.get("rejects") == "mail":
            more = more | {"rejects": ((run.mail[0].entry, "no"),)}
        step = actor.step(run, mode, **({"taken": run.mail} | more))
        [outcome] = await actor.store.commit([step])
        assert (outcome.word, outcome.held) == ("conflict", False)
        assert await everything(raw) == before


async def _run_with_all(actor: Actor) -> LeasedRun:
    """A run with a commit, a wait for ``old``, and one mail; an early event of the subject ``early``."""
    run = await actor.started("1")
    await actor.commit(run, waits_added=(("order.paid", "old"),))
    await actor.publish("order.paid", "early")
    await actor.publish("order.paid", "1")
    await actor.ingest()
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    assert len(loaded.mail) == 1
    return LeasedRun(run.ref, run.token, loaded.cid, run.version, run.created_at, 0, None, loaded.mail)


@pytest.mark.parametrize("key", [":mailbox:{}", ":history:{}", ":run:{}"])
async def test_the_other_commits_of_the_call_are_written(server: RunningServer, key: str) -> None:
    async with actor_and_raw(server) as (actor, raw):
        for subject in "123":
            await actor.publish("order.paid", subject)
            await actor.publish("order.placed", subject)
        runs = await actor.ingest(10)
        await spoil(raw, key.format(runs[1].ref))
        outcomes = await actor.store.commit([actor.step(run) for run in runs])
        assert [outcome.word for outcome in outcomes] == ["ok", "conflict", "ok"]
        records = [len(await actor.store.history(run.ref)) for run in (runs[0], runs[2])]
        assert records == [1, 1]


async def test_an_unreadable_list_of_a_subject_does_not_stop_the_end_of_its_run(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        runs = [await actor.started(subject) for subject in "12"]
        await raw("HSET", ":subjects", "1", b"\xc1")
        outcomes = await actor.store.commit([actor.step(run, Mode.END) for run in runs])
        assert [outcome.word for outcome in outcomes] == ["ok", "ok"]
        assert [(await actor.view(run.ref)).status for run in runs] == [RunStatus.COMPLETED] * 2
        assert set(await raw("HKEYS", ":subjects")) == {b"", b"1"}


# --------------------------------------------------------------------------------------------------------------- ingest

UNREADABLE = [
    (":run:fulfil:order-bad", "key"),
    (":early:bad", "key"),
    (":mailbox:fulfil:order-live", "key"),
    (":waits:10:order.paid:bad", "key"),
    (":subjects", "field"),
    (":routes", "field"),
]


@pytest.mark.parametrize(("key", "kind"), UNREADABLE, ids=[key for key, _ in UNREADABLE])
async def test_an_entry_on_which_the_script_raises_goes_to_dead_alone(
    server: RunningServer, key: str, kind: str
) -> None:
    async with actor_and_raw(server) as (actor, raw):
        live = await actor.started("live")
        waiting = await actor.started("waiting")
        await actor.commit(waiting, waits_added=(("order.paid", "elsewhere"),))
        subject = "live" if "live" in key else "bad"
        event_type = "order.placed" if "run:" in key else "news.x" if key == ":routes" else "order.paid"
        for name in ("good-1", None, "good-2", None, "good-3"):
            if name is None:
                await actor.publish(event_type, subject, event_id="")
            else:
                await actor.publish("order.placed", name)
        if kind == "key":
            await spoil(raw, key)
        else:
            await raw("HSET", key, "bad" if key == ":subjects" else "news.*", b"\xc1")
        outcome = await actor.store.ingest(Ingest(actor.session, actor.number + 1, 10, "m1"))
        assert isinstance(outcome, Ingested)
        assert [run.ref for run in outcome.runs] == [f"fulfil:order-good-{number}" for number in (1, 2, 3)]
        assert (outcome.read, outcome.fates) == (5, Fates(routed=3, dead=2))
        assert [letter.type for letter in outcome.letters] == [event_type] * 2
        assert all(letter.reason.startswith("unreadable: ") for letter in outcome.letters), outcome.letters
        assert (await actor.store.depth()).events == 0
        for run in outcome.runs:
            assert (await actor.commit(run, Mode.END)).word == "ok"
        assert live.ref == "fulfil:order-live"
        await raw("DEL", key) if kind == "key" else await raw("HDEL", key, "bad", "news.*")


async def test_more_unreadable_entries_than_one_call_looks_for(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        await spoil(raw, ":early:bad")
        for number in range(30):
            await actor.publish("order.paid", "bad" if number % 2 else "good")
        read = 0
        for _ in range(6):
            actor.number += 1
            outcome = await actor.store.ingest(Ingest(actor.session, actor.number, 30, "m1"))
            assert isinstance(outcome, Ingested)
            read += outcome.read
        assert read == 30
        assert len([reason for reason in await actor.reasons() if reason.startswith("unreadable: ")]) == 15
        await raw("DEL", ":early:bad")


async def test_a_ready_run_that_cannot_be_read_holds_up_nobody(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        for subject in "12":
            await actor.publish("order.placed", subject)
        runs = await actor.ingest()
        for run in runs:
            await actor.store.hand_back(actor.session, run.ref, run.token)
        await spoil(raw, f":run:{runs[0].ref}")
        assert [run.ref for run in await actor.ingest()] == [runs[1].ref]
        await raw("DEL", f":run:{runs[0].ref}")
        await raw("ZREM", ":index", runs[0].ref)
        await raw("HDEL", ":subjects", "1")


@pytest.mark.parametrize("key", [":index", ":stat", ":held:s1", ":events", ":seen:new", ":subjects", ":wakes"])
async def test_what_is_wrong_for_all_changes_nothing(server: RunningServer, key: str) -> None:
    async with actor_and_raw(server) as (actor, raw):
        run = await actor.started("1")
        await actor.add_raw([b"id", b"bare", b"type", b"order.placed", b"subject", b"2"])
        await spoil(raw, key)
        before = await everything(raw)
        with pytest.raises(Refused):
            await actor.store.ingest(Ingest(actor.session, 2, 5, "m1"))
        if key in (":stat", ":wakes"):
            with pytest.raises(Refused):
                await actor.store.commit([actor.step(run, Mode.RELEASE, wake=actor.clock.now)])
        assert await everything(raw) == before


# ---------------------------------------------------------------------------------------------------------------- time


async def test_dead_sessions_are_reaped_beside_a_run_that_cannot_be_read(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        for subject in "123":
            await actor.publish("order.placed", subject)
        runs = await actor.ingest()
        await spoil(raw, f":run:{runs[1].ref}")
        await actor.let_die()
        other = await actor.other("s2")
        assert [run.ref for run in await other.ingest()] == [runs[0].ref, runs[2].ref]
        await raw("DEL", f":run:{runs[1].ref}")
        await raw("ZREM", ":index", runs[1].ref)
        await raw("HDEL", ":subjects", "2")


async def test_time_goes_on_beside_what_cannot_be_read(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        for subject in "12":
            await actor.publish("order.paid", subject)
        run = await actor.started("3")
        await actor.commit(run, Mode.RELEASE, wake=actor.clock.now + 10)
        await actor.ingest()
        await spoil(raw, ":early:1")
        await raw("ZADD", ":wakes", actor.clock.now, "nobody:1")
        await spoil(raw, ":run:nobody:1")
        actor.clock.now += 60_000
        ticked = await actor.store.tick()
        assert (ticked.moved, ticked.next_due) == (4, None)
        assert await actor.reasons() == ["unclaimed"]
        assert [found.ref for found in await (await actor.other("s2")).ingest()] == [run.ref]


async def test_strange_entries_among_the_dead_letters_are_not_shown(server: RunningServer) -> None:
    async with actor_and_raw(server) as (actor, raw):
        strange = (await raw("XADD", ":dead", "*", "reason", "undeclared", "x", "y")).decode()
        await actor.publish("what", "1")
        await actor.ingest()
        assert await actor.reasons() == ["undeclared"]
        assert await actor.store.dead_letter(strange) is None
        assert await actor.store.redrive(strange, "ann") == "already"
        assert await actor.store.drop_letters("", None, None, 10, "ann") == 1
        assert await actor.store.drop(strange, "ann") == "ok"
