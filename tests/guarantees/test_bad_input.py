"""Whatever is written into the stream ends as a dead letter with a reason and every byte, and harms nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.guarantees.hostile import (
    SETTLED,
    Fields,
    Hostile,
    flat,
    hostile_entries,
    huge_entries,
    many_fields,
    odd_entries,
)
from tests.guarantees.jobs import JobAsked
from tests.guarantees.service import Service, eventually, started
from tests.guarantees.trial import Trial, service_of
from tests.support.servers import RunningServer, server_binary
from workflow_worker.client.client import Client
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import EventReceived
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import Publish, Registration, Route, StartRoute

GOOD_PER_S = 200
_PIPE_BYTES = 1_000_000


@dataclass
class Rig:
    """A service of two workers, and what is known of them before anything hostile comes."""

    trial: Trial
    service: Service
    pids: set[int]

    def unharmed(self) -> None:
        """Nobody died, nobody was replaced, everybody is well.

        Raises:
            AssertionError: Not so.
        """
        assert {worker["pid"] for worker in self.service.workers()} == self.pids, self.service.log
        assert self.service.health()["status"] == "healthy", self.service.workers()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    folder = tmp_path / "work"
    folder.mkdir()
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "server") as server:
        trial = Trial(server, tmp_path)
        service = service_of(trial, folder, CONCURRENCY_LIMIT="20", BATCH_SIZE="50", LEASE_TTL_MS="5000")
        with started(service):
            await service.ready()
            yield Rig(trial, service, {worker["pid"] for worker in service.workers()})


async def add_all(trial: Trial, entries: Iterable[Sequence[bytes]]) -> None:
    """XADD as any program would, some hundred kilobytes at a time."""
    async with trial.raw() as raw:
        pipe, size = raw.pipeline(transaction=False), 0
        for fields in entries:
            pipe.execute_command("XADD", trial.prefix + "events", "*", *fields)
            size += sum(map(len, fields))
            if size > _PIPE_BYTES:
                await pipe.execute()
                size = 0
        await pipe.execute()


def good_entry(job: str) -> Fields:
    """A job like any other."""
    data = msgspec.json.encode(JobAsked(job))
    return flat((b"id", b"id-" + job.encode()), (b"type", b"job.asked"), (b"subject", job.encode()), (b"data", data))


async def add_at_a_rate(trial: Trial, good: list[str], bad: Sequence[Fields]) -> float:
    """Good jobs at a steady rate, bad entries evenly between them; seconds until every good one has completed."""
    begin = time.monotonic()
    done = 0
    async with trial.raw() as raw:
        for number, job in enumerate(good):
            pipe = raw.pipeline(transaction=False)
            due = len(bad) * (number + 1) // len(good)
            for fields in (good_entry(job), *bad[done:due]):
                pipe.execute_command("XADD", trial.prefix + "events", "*", *fields)
            done = due
            await pipe.execute()
            await asyncio.sleep(max(0.0, begin + (number + 1) / GOOD_PER_S - time.monotonic()))
        await eventually(lambda: len(trial.lines(phase="end")) >= len(good), 60, "every good job has run")
    await trial.completed(good[-1])
    return time.monotonic() - begin


async def letters_of(client: Client, count: int) -> list[DeadLetter]:
    """All dead letters, read in pages as a person would."""
    found: list[DeadLetter] = []
    while page := await client.dead_letters(1_000, found[-1].id if found else ""):
        found += page
    assert len(found) == count
    return found


async def dead(trial: Trial, count: int, within_s: float = 30) -> None:
    """Wait until there are so many dead letters and nothing is queued."""
    async with trial.store() as store:

        async def all_dead() -> bool:
            depth = await store.depth()
            return depth.dead >= count and depth.events == 0

        await eventually(all_dead, within_s, f"{count} dead letters")


def each_with_reason_and_bytes(letters: Iterable[DeadLetter], entries: Iterable[Hostile]) -> None:
    """Each entry is exactly one letter, byte for byte, with its reason."""
    reasons = {letter.raw: letter.reason for letter in letters}
    wanted = {entry.fields: entry.reason for entry in entries}
    assert reasons.keys() == wanted.keys()
    wrong = Counter(
        (reason, reasons[raw][:80]) for raw, reason in wanted.items() if not reasons[raw].startswith(reason)
    )
    assert not wrong, wrong


async def hostile_traffic(
    rig: Rig, bad_count: int, good_count: int, slower_at_most: float, hiccup_s: float = 0
) -> list[Hostile]:
    """Good traffic alone, then the same with bad entries between; the bad ones. A measurement of a few seconds may be
    off by a `hiccup_s` of a machine that does other things."""
    trial = rig.trial
    await trial.ask(SETTLED)
    await trial.completed(SETTLED)
    alone = await add_at_a_rate(trial, [f"alone-{number}" for number in range(good_count)], [])
    trial.trace.unlink()
    entries = hostile_entries(bad_count, seed=17)
    mixed = await add_at_a_rate(
        trial, [f"mixed-{number}" for number in range(good_count)], [entry.fields for entry in entries]
    )
    print(f"\n{good_count} good jobs took {alone:.2f} s alone and {mixed:.2f} s between {bad_count} bad entries")
    assert mixed <= alone * (1 + slower_at_most) + hiccup_s, (alone, mixed)
    rig.unharmed()
    return entries


async def everything_can_be_read_and_sent_again(rig: Rig, entries: list[Hostile]) -> None:
    """The dead letters through the client, the command line, and back into the stream."""
    trial = rig.trial
    await dead(trial, len(entries))
    async with trial.client() as client:
        letters = await letters_of(client, len(entries))
        each_with_reason_and_bytes(letters, entries)
        shown = json.loads(rig.service.cli("dead", "list", "--limit", "10000", "--json"))
        assert shown["total"] == len(entries)
        assert [item["id"] for item in shown["items"]] == [letter.id for letter in letters][:10_000]
        assert rig.service.cli("dead", "list", "--limit", "10000").count("\n") > len(shown["items"])
        for letter in letters[:: max(1, len(letters) // 3)]:
            assert json.loads(rig.service.cli("dead", "show", letter.id, "--json"))["id"] == letter.id
        for start in range(0, len(letters), 100):
            await asyncio.gather(*(client.redrive(letter.id, by="test") for letter in letters[start : start + 100]))
        await dead(trial, len(entries))
        # Sent again, each is judged as before; only what starts a run has an ended run of its own by now.
        again = await letters_of(client, len(entries))
        each_with_reason_and_bytes(again, entries)
    rig.unharmed()
    audit = await trial.audit()
    assert audit.duplicate == 0


async def test_two_thousand_bad_entries_harm_nothing(rig: Rig) -> None:
    entries = await hostile_traffic(rig, bad_count=2_000, good_count=300, slower_at_most=0.25, hiccup_s=1)
    await everything_can_be_read_and_sent_again(rig, entries)


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_ten_thousand_bad_entries_harm_nothing(rig: Rig) -> None:
    entries = await hostile_traffic(rig, bad_count=10_000, good_count=4_000, slower_at_most=0.10)
    await everything_can_be_read_and_sent_again(rig, entries)


async def test_entries_of_many_megabytes_are_dead_letters_whole(rig: Rig) -> None:
    """Also what no script could send again: that is refused in words, and the letter stays."""
    entries = [*huge_entries(), many_fields(b"7", 5_000)]
    await add_all(rig.trial, [entry.fields for entry in entries])
    await dead(rig.trial, len(entries))
    rig.unharmed()
    async with rig.trial.client() as client:
        letters = await letters_of(client, len(entries))
        each_with_reason_and_bytes(letters, entries)
        shown = json.loads(rig.service.cli("dead", "list", "--json"))
        assert shown["total"] == len(entries)
        sent = 0
        for letter in letters:
            try:
                await client.redrive(letter.id, by="test")
            except Refused:
                continue
            sent += 1
        assert sent >= len(entries) - 2
        await dead(rig.trial, len(entries))
        await letters_of(client, len(entries))
    rig.unharmed()
    await rig.trial.audit()


async def test_strange_but_valid_events_are_worked_on_like_any_other(rig: Rig) -> None:
    """Names with the separators of our keys, patterns of Lua, control characters; attributes that mean nothing."""
    odd = odd_entries()
    await add_all(rig.trial, odd.values())
    await rig.trial.completed(*odd)
    assert Counter(line.job for line in rig.trial.lines()) == Counter(odd.keys())
    runs = json.loads(rig.service.cli("runs", "list", "--limit", "1000", "--json"))
    assert {item["id"] for item in runs["items"]} == set(odd)
    assert rig.service.cli("runs", "list", "--limit", "1000").count("\x1b") == 0, "no name may steer a terminal"
    async with rig.trial.client() as client:
        for job in odd:
            found = await client.run(f"perform:{job}")
            assert (found.id, found.subject, found.status) == (job, job, RunStatus.COMPLETED)
            assert len(await client.history(found.ref)) >= 2
        assert await client.dead_letters() == []
    for line in rig.service.log.read_text().splitlines():
        json.loads(line)
    rig.unharmed()
    await rig.trial.audit()


async def test_bad_mail_for_a_living_run_goes_and_the_run_goes_on(rig: Rig) -> None:
    """What does not fit is put aside, naming the run; the words before and after it arrive in order."""
    trial = rig.trial
    await trial.ask("listener", steps=("told:20",))
    await trial.at("listener", RunStatus.WAITING)
    good = [json.dumps({"job": "listener", "word": word}).encode() for word in range(20)]
    bad = [b"NaN", b"{}", b"[" * 100_000, b'{"job": "listener", "word": 1e999}', b'{"word": 3', b"\x00"]
    entries: list[Fields] = []
    for number, data in enumerate(good):
        told = ((b"type", b"job.told"), (b"subject", b"listener"))
        entries.append(flat(*told, (b"data", data)))
        if number < len(bad):
            entries.append(flat(*told, (b"data", bad[number]), (b"n", b"%d" % number)))
    await add_all(trial, entries)
    assert await trial.completed("listener") == {"listener": list(range(20))}
    async with trial.client() as client:
        letters = await letters_of(client, len(bad))
    assert {letter.run for letter in letters} == {"perform:listener"}
    assert all(letter.reason.startswith("rejected: does not fit JobTold") for letter in letters)
    assert [letter.raw for letter in letters] == [entry for entry in entries if b"n" in entry]
    rig.unharmed()


async def test_runs_that_no_worker_knows_wait_and_hold_up_nobody(rig: Rig) -> None:
    """A workflow that was removed, or is not deployed yet: its runs wait for a worker that knows it."""
    trial = rig.trial
    old = Registration("old", {"job.old": Route(True, (StartRoute("removed", 7, ("subject",)),))}, ("removed@7",))
    count = 500
    async with trial.store() as store:
        await store.register(old)
        for start in range(0, count, 100):
            await store.publish([Publish(Event(f"old-{n}", "job.old", f"old-{n}")) for n in range(start, start + 100)])
        jobs = [f"new-{number}" for number in range(200)]
        asked = time.monotonic()
        await trial.ask(*jobs)
        await trial.completed(*jobs)
        assert time.monotonic() - asked < 15, "held up by the runs that nobody here knows"
        view = await store.run(RunRef("removed:old-0"))
        assert view is not None
        assert (view.status, view.takeovers) == (RunStatus.PENDING, 0)
        assert (await store.depth()).ready == count
    rig.unharmed()
    await trial.audit()


async def test_what_a_stranger_writes_into_our_own_field_cannot_harm(rig: Rig) -> None:
    """``via`` marks what our scripts wrote; a forged one sends an entry to a run at most, never past its checks."""
    trial = rig.trial
    await trial.ask("victim", steps=("told:1",))
    await trial.at("victim", RunStatus.WAITING)
    forged = (
        "copy perform:nobody",
        "start perform:",
        "start nosuch:x",
        "copy ",
        "start",
        "redrive",
        "emit",
        "\x00",
        "1:2",
    )
    told = ((b"type", b"job.told"), (b"subject", b"nobody"))
    entries = [flat((b"via", via.encode()), *told, (b"data", b"{}")) for via in forged]
    entries += [flat((b"via", b"copy perform:victim"), *told, (b"data", b"NaN"))]
    await add_all(trial, entries)
    async with trial.store() as store:

        async def taken_in() -> bool:
            return (await store.audit()).ingested == len(entries) + 1 and (await store.depth()).events == 0

        await eventually(taken_in, 10, "all taken in")
    await trial.tell("victim", 7)
    assert await trial.completed("victim") == {"victim": [7]}
    rig.unharmed()
    await trial.audit()


INTERNAL = ("start", "child", "cancel", "lock", "grant", "patch", "replies", "nothing")


async def test_forged_internal_mail_does_not_harm_the_run_that_gets_it(rig: Rig) -> None:
    """Even with ``via``, which only scripts write: what is no mail of ours is put aside, and the run goes on."""
    trial = rig.trial
    await trial.ask("victim", steps=("told:2",))
    await trial.at("victim", RunStatus.WAITING)
    await trial.tell("victim", 1)
    garbage = (b"NaN", b"{}", b"[]", b"null", b"7", b"[" * 50_000, b"\x00", b'{"job": "victim", "word": 9}')
    to_victim = ((b"workflow", b"perform"), (b"run", b"victim"), (b"via", b"emit"))
    await add_all(
        trial,
        [flat((b"type", f"ww.{word}".encode()), (b"data", data), *to_victim) for word in INTERNAL for data in garbage],
    )
    async with trial.store() as store:

        async def taken_in() -> bool:
            return (await store.audit()).ingested == 2 + len(INTERNAL) * len(garbage)

        await eventually(taken_in, 10, "all taken in")
    await trial.tell("victim", 2)
    assert await trial.completed("victim") == {"victim": [1, 2]}
    rig.unharmed()
    await trial.audit()


async def test_a_strangers_internal_mail_stays_out_when_it_is_sent_again(rig: Rig) -> None:
    """A person who redrives a letter vouches for an event, not for mail that only runs send each other."""
    trial = rig.trial
    await trial.ask("victim", steps=("told:1",))
    await trial.at("victim", RunStatus.WAITING)
    to_victim = ((b"workflow", b"perform"), (b"run", b"victim"))
    types = [f"ww.{word}".encode() for word in INTERNAL]
    await add_all(trial, [flat((b"type", each), (b"data", b"{}"), *to_victim) for each in types])
    for _ in range(2):
        await dead(trial, len(types))
        async with trial.client() as client:
            letters = await letters_of(client, len(types))
            assert {letter.reason for letter in letters} == {"malformed: type begins with ww."}
            for letter in letters:
                await client.redrive(letter.id, by="test")
    await trial.tell("victim", 7)
    assert await trial.completed("victim") == {"victim": [7]}
    received = [record.event.type for record in await trial.history("victim") if isinstance(record, EventReceived)]
    assert received == ["job.told"]


async def test_two_namespaces_on_one_server_do_not_see_each_others_strangers(rig: Rig) -> None:
    """A subject, run or type that spells another namespace's key stays in its own."""
    other = replace(rig.trial, namespace="other")
    await other.register()
    before = await _keys(other)
    names = ["}:events", "other:{other:0}:events", "{other:0}", "other:{other:0}:run:perform:x"]
    await add_all(rig.trial, [good_entry(name) for name in names])
    await rig.trial.completed(*names)
    assert await _keys(other) == before


async def _keys(trial: Trial) -> dict[bytes, Any]:
    async with trial.raw() as raw:
        names = sorted([key async for key in raw.scan_iter(trial.prefix + "*", count=1_000)])
        return {name: await raw.dump(name) for name in names}
