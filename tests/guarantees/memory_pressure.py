"""Filling a server: rounds of runs under retention, and big events until no more are taken."""

from __future__ import annotations

import json

from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial
from workflow_worker.client.client import Client
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import StoreFull
from workflow_worker.store.protocol import Store


async def soak(trial: Trial, rounds: int, jobs: int) -> list[tuple[int, int]]:
    """Rounds of jobs under retention; number of keys and bytes in use after each, when retention has caught up."""
    found: list[tuple[int, int]] = []
    async with trial.working(CONCURRENCY_LIMIT="50", BATCH_SIZE="100"), trial.raw() as raw, trial.store() as store:
        for round_ in range(rounds):
            await trial.ask(*(f"j{round_}-{number}" for number in range(jobs)), steps=("note",))

            async def retired() -> bool:
                # Not one run by its name: which of them ends last, and so is kept longest, is anybody's guess. And all
                # at one moment: a stream that is emptied between two looks would hide a whole round.
                looks = raw.pipeline().zcard(trial.prefix + "index").zcard(trial.prefix + "index:ended")
                there, ended, waiting = await looks.xlen(trial.prefix + "events").execute()
                return not waiting and there == ended and there <= trial.settings.retention_runs

            await eventually(retired, 20, "retention has caught up")
            await store.tick()
            found.append((await raw.dbsize(), (await raw.info("memory"))["used_memory"]))
    return found


def big_job(job: str) -> Event:
    """A start event of 100 kB."""
    data = json.dumps({"job": job, "steps": ["note"], "more": "x" * 100_000}).encode()
    return Event(f"asked-{job}", "job.asked", job, data)


async def fill(client: Client, store: Store, name: str) -> list[str]:
    """Publish big jobs until the store takes no more, with nobody but a ticker alive; those that it took."""
    jobs: list[str] = []
    while True:
        await store.tick()
        job = f"{name}-{len(jobs)}"
        try:
            await client.publish(big_job(job))
        except StoreFull:
            return jobs
        jobs.append(job)
        assert len(jobs) < 1_000, "nothing refuses"
