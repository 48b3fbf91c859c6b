"""What is in whose hands: ways in which other queues and engines on Redis lost messages or had them twice.

Part of the fourteen cases of `test_what_peers_got_wrong_*`, each with the fact that forbids it here. Numbers such as
kombu#337 name the public reports from which the cases were taken.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.guarantees.faulty_store import Crash
from tests.guarantees.processes import Killable
from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial, nothing_pending
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import ActionCompleted, AttemptFailed

# --------------------------------------------------------------------------------------- 6: retry and redelivery


@pytest.mark.timeout(90)
async def test_06_a_retry_and_a_redelivery_are_never_both(trial: Trial) -> None:
    """Elsewhere a retry was added before the old message was acknowledged: a worker killed between the two left both,
    each ran, and deduplication by key was passed by (docket#245, #246).

    Here the retry is a record of the run, written in one step: killed before or after any of its commits, the run has
    each attempt recorded once, and nothing else waits anywhere.
    """

    async def die_and_recover(when: str, nth: int) -> None:
        own = replace(trial, namespace=f"{trial.namespace[:40]}-{when}-{nth}")
        victim = own.process("victim", Crash("commit", when, nth))
        await own.ask("j", steps=("stumble:2",))
        assert await victim.died() == -signal.SIGKILL
        async with own.working("healer"):
            assert await own.completed("j") == {"j": [0]}
        history = await own.history("j")
        assert [record.attempt for record in history if isinstance(record, AttemptFailed)] == [1, 2]
        assert [record.attempts for record in history if isinstance(record, ActionCompleted)] == [3]
        # The attempt whose record was not written yet runs again; every other one ran once.
        began = Counter(line.attempt for line in own.lines("j"))
        assert set(began) == {1, 2, 3}
        assert began.total() <= 4, f"{when} commit {nth}: {began}"
        await nothing_waits(own)

    async with asyncio.TaskGroup() as group:
        for nth in (1, 2, 3):
            for when in ("before", "after"):
                group.create_task(die_and_recover(when, nth))


async def nothing_waits(trial: Trial) -> None:
    """Neither an event, nor a run, nor a timer, nor a session of a dead worker's runs."""
    async with trial.raw() as raw:
        prefix = trial.prefix
        counts = {
            "events": await raw.xlen(prefix + "events"),
            "delayed": await raw.zcard(prefix + "delayed"),
            "wakes": await raw.zcard(prefix + "wakes"),
            "mailboxes": len([key async for key in raw.scan_iter(prefix + "mailbox:*", count=1_000)]),
        }
    assert set(counts.values()) == {0}, counts


# ------------------------------------------------------------------------------------------- 9: consumers, pending


async def test_09_killed_workers_leave_no_consumer_and_nothing_pending(trial: Trial) -> None:
    """Elsewhere each worker was a consumer of its own and stayed one for ever, 38 million of them in one report, and
    deleting a consumer threw its pending messages away (redis#8635, #9745, watermill-redisstream#24).

    Here the group only wakes sleepers: twelve workers come, work and are killed; one consumer is left, nothing is
    pending, and the sessions are gone when their time is over.
    """
    for round_ in range(3):
        crew = [trial.process(f"w{round_}-{number}") for number in range(4)]
        for worker in crew:
            await worker.started()
        jobs = [f"j{round_}-{number}" for number in range(20)]
        await trial.ask(*jobs, steps=("nap:30", "note"))
        await eventually(lambda least=15 + 40 * round_: len(trial.lines()) > least, 10, "work under way")
        for worker in crew:
            worker.kill()
    async with trial.working("healer"), trial.raw() as raw:
        await trial.completed(*(f"j{round_}-{number}" for round_ in range(3) for number in range(20)))

        async def only_the_healers_session() -> bool:
            return await raw.zcard(trial.prefix + "sessions") == 1 and not await raw.zcard(trial.prefix + "reaping")

        await eventually(only_the_healers_session, 5, "sessions of the dead are gone")
        for stream in ("events", "ready"):
            consumers = await raw.xinfo_consumers(trial.prefix + stream, "workers")
            assert len(consumers) <= 1, consumers
            assert await raw.xpending(trial.prefix + stream, "workers") == nothing_pending()
        held = [key async for key in raw.scan_iter(trial.prefix + "held:*")]
        assert len(held) <= 1
    await trial.audit()


# ------------------------------------------------------------------------------------------------ 14: only in memory

BEFORE_THE_FIRST_RECORD: tuple[tuple[Crash | None, str | None], ...] = (
    (None, "ingest.done:kill:1:0"),
    (Crash("ingest", "moved"), None),
    (Crash("commit", "before"), None),
    (None, "commit.before:kill:1:0"),
    (None, "action.before:kill:1:0"),
    (None, "action.after:kill:1:0"),
)


async def test_14_nothing_leaves_redis_before_its_result_is_stored(trial: Trial) -> None:
    """Elsewhere a job was popped from its list and was in one process only: a crash, and it was gone (sidekiq's basic
    fetch; sidekiq#6379 for the run that was there twice).

    Here the entry leaves the stream in the step that writes it into its run: killed right after that, before the first
    record, the run is there with its start event, and another worker completes it.
    """

    async def die_and_recover(number: int, crash: Crash | None, fault: str | None) -> None:
        own = replace(trial, namespace=f"{trial.namespace[:40]}-{number}")
        await own.register()
        await own.ask("j", steps=("note", "note"))
        victim: Killable = own.process("victim", crash, fault)
        assert await victim.died() == -signal.SIGKILL
        async with own.store() as store:
            assert (await store.depth()).events == 0, "not exercised: the event was not taken in"
            view = await own.view("j")
            assert view is not None
            start: Sequence[str] | None = await store.start_event(RunRef(view.ref))
            assert start is not None
            assert "asked-j" in start
        async with own.working("healer"):
            assert await own.completed("j") == {"j": [0, 1]}
        audit = await own.audit()
        assert (audit.added, audit.routed) == (1, 1)

    async with asyncio.TaskGroup() as group:
        for number, (crash, fault) in enumerate(BEFORE_THE_FIRST_RECORD):
            group.create_task(die_and_recover(number, crash, fault))
