"""Runs whose holders die again and again: together while that may be chance, alone before one is called poison."""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker import App
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv
from workflow_worker.worker.isolation import ALONE_S

app = App("suspects")


@app.event("go", subject="name")
@dataclass(frozen=True)
class Go:
    name: str


@app.action(timeout=None)
async def work(name: str) -> str:
    return name


@app.workflow(on=Go, id="{name}")
async def job(go: Go) -> str:
    return await work(go.name)


async def busy(env: TestEnv) -> set[str]:
    """Which runs have an attempt under way now."""
    before = len(env.calls)
    await env.crash()
    return {call.run for call in env.calls[before:]}


async def test_deaths_by_chance_do_not_make_runs_wait_for_one_another() -> None:
    async with TestEnv(app) as env:
        env.fake(work, hangs=True)
        runs = [await env.publish(Go(name)) for name in "abc"]
        for _ in range(2):
            assert await busy(env) == {run.ref for run in runs}


async def test_before_the_last_chance_each_is_alone_and_only_the_guilty_is_suspended() -> None:
    async with TestEnv(app) as env:
        env.fake(work, hangs=True)
        runs = [await env.publish(Go(name)) for name in "abc"]
        for _ in range(2):
            await env.crash()
        (guilty,) = await busy(env)
        await env.crash()
        assert [run.ref for run in runs if run.status is RunStatus.SUSPENDED] == [guilty]


async def test_a_long_suspect_does_not_keep_the_worker_for_itself() -> None:
    async with TestEnv(app) as env:
        env.fake(work, hangs=True)
        suspect = await env.publish(Go("long"))
        for _ in range(3):
            await env.crash()
        await env.publish(Go("other"))
        other = env.run(job, "other")
        assert env.calls[-1].run == suspect.ref
        await env.advance(ALONE_S)
        assert env.calls[-1].run == other.ref
        assert suspect.status is not RunStatus.SUSPENDED


async def test_others_do_not_wait_until_every_suspect_has_had_its_turn() -> None:
    async with TestEnv(app) as env:
        env.fake(work, hangs=True)
        suspects = [await env.publish(Go(name)) for name in "abc"]
        for _ in range(3):
            await env.crash()
        await env.publish(Go("other"))
        other = env.run(job, "other")
        assert other.ref not in {call.run for call in env.calls}
        await env.advance(ALONE_S)
        assert env.calls[-1].run == other.ref
        assert not any(run.status is RunStatus.SUSPENDED for run in suspects)
