"""One slow, crashing or hostile run stops no other: it ends parked, a healthy one beside it ends well."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.guarantees.orders import EVENTS
from tests.guarantees.playing import players
from tests.guarantees.service import Service, eventually, started
from tests.guarantees.trial import Trial
from tests.support.proxy import FaultProxy, Weather
from tests.support.servers import RunningServer, free_port

APP = """
import os
import sys
import time
from dataclasses import dataclass
from workflow_worker import App, RetryPolicy

app = App("hostile", retry=RetryPolicy(attempts=2, initial=0.05))


class Odd(Exception):
    pass


@app.event("asked", subject="how")
@dataclass(frozen=True)
class Asked:
    how: str

    def __post_init__(self) -> None:
        if self.how == "exit-in-class":
            sys.exit(3)


@app.action(timeout=5)
async def perform(how: str) -> str:
    match how:
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "generator-exit":
            raise GeneratorExit
        case "surrogate":
            raise RuntimeError("bad \\udcff name")
        case "notes":
            error = Odd("x")
            error.__notes__ = 7
            raise error
        case "die":
            os._exit(1)
        case "recurse":
            return await perform.fn(how)
        case "object":
            return object()
        case "huge":
            return "x" * 50_000_000
        case _:
            return how


@app.action(timeout=0.3)
def perform_in_thread(how: str) -> str:
    match how:
        case "thread-stop":
            return next(iter(()))
        case "thread-exit":
            sys.exit(3)
        case "thread-hang":
            time.sleep(4)
            return how
        case _:
            return how


@app.workflow(on=Asked, id="{how}")
async def answer(asked: Asked) -> str:
    if asked.how.startswith("thread"):
        return await perform_in_thread(asked.how)
    if asked.how == "exit-in-workflow":
        sys.exit(3)
    return await perform(asked.how)
"""

PARKED = (
    "exit",
    "interrupt",
    "generator-exit",
    "surrogate",
    "notes",
    "die",
    "recurse",
    "object",
    "huge",
    "thread-stop",
    "thread-exit",
    "thread-hang",
    "exit-in-workflow",
)


@pytest.fixture
async def hostile(durable_server: RunningServer, tmp_path: Path) -> AsyncIterator[Service]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hostile.py").write_text(APP)
    environment = {"CONCURRENCY_LIMIT": "3", "LEASE_TTL_MS": "1500", "WORKER_COUNT": "1"}
    service = Service(durable_server.url, free_port(), folder, folder / "hostile.py", environment)
    with started(service):
        yield await service.ready()


async def test_hostile_runs_are_parked_and_healthy_ones_complete(hostile: Service) -> None:
    client = redis.asyncio.from_url(hostile.url)
    try:
        for number, how in enumerate((*PARKED, "exit-in-class")):
            for subject in (how, f"healthy-{number}"):
                await client.xadd(EVENTS, {"type": "asked", "subject": subject, "data": json.dumps({"how": subject})})
    finally:
        await client.aclose()
    wanted = Counter({"completed": len(PARKED) + 1, "suspended": len(PARKED), "failed": 1})

    def settled() -> list[dict[str, Any]] | None:
        items = json.loads(hostile.cli("runs", "list", "--json", "--limit", "200"))["items"]
        return items if Counter(item["status"] for item in items) == wanted else None

    try:
        items = await eventually(settled, 40, f"every run at rest as wanted, see {hostile.log}")
    except AssertionError:
        print(hostile.cli("runs", "list", "--limit", "200"))
        raise
    status = {item["id"]: item["status"] for item in items}
    assert {how for how, word in status.items() if word == "suspended"} == set(PARKED)
    assert status["exit-in-class"] == "failed"
    audit = json.loads(hostile.cli("audit", "--json"))
    assert audit["balanced"] is True, audit


async def test_many_suspects_are_through_one_by_one_without_waiting_for_each_other(trial: Trial) -> None:
    """Runs that lost as many workers as they may are executed alone, but what one worker cannot take is not handed
    back again and again: sixty of them cost a few round trips each, here of 10 ms."""
    suspects = [f"s{number}" for number in range(60)]
    own = replace(trial, variables={**trial.variables, "MAX_TAKEOVERS": "3"})
    await own.ask(*suspects)
    for death in range(3):
        async with players(own, f"dead-{death}") as (dead,):
            assert len(await dead.ingest(100)) == len(suspects)
            assert await dead.store.close(dead.session, died=True)
    await own.ask("ordinary")
    with FaultProxy(own.server.socket_path) as proxy:
        proxy.set(Weather(delay_ms=5))
        far = replace(own, variables={**own.variables, "REDIS_URL": proxy.url, "LEASE_TTL_MS": "5000"})
        began = time.monotonic()
        async with far.working("healer", CONCURRENCY_LIMIT="40", BATCH_SIZE="40"):
            await own.completed(*suspects, "ordinary", within_s=30)
            assert time.monotonic() - began < 8, "thirty-nine of forty went back, each time"
    assert len(own.lines()) == len(suspects) + 1


async def test_new_events_do_not_wait_until_all_suspects_are_through(trial: Trial) -> None:
    """Twelve suspects of 0.4 s each are alone for five seconds in all; a new event waits for two of them or three."""
    suspects = [f"s{number}" for number in range(12)]
    own = replace(trial, variables={**trial.variables, "MAX_TAKEOVERS": "3"})
    await own.ask(*suspects, steps=["nap:400"])
    for death in range(3):
        async with players(own, f"dead-{death}") as (dead,):
            assert len(await dead.ingest(100)) == len(suspects)
            assert await dead.store.close(dead.session, died=True)
    async with own.working("healer", CONCURRENCY_LIMIT="40", BATCH_SIZE="40"):
        for number in range(2):
            await own.ask(f"fresh-{number}")
            await own.completed(f"fresh-{number}", within_s=4)
            assert len(own.lines(phase="end")) < len(suspects), "not all are through"
        await own.completed(*suspects, within_s=30)
    assert len(own.lines()) == len(suspects) + 2, "each was executed once"


async def test_a_suspect_begins_beside_what_has_been_executed_for_long(trial: Trial) -> None:
    own = replace(trial, variables={**trial.variables, "MAX_TAKEOVERS": "1"})
    await own.ask("suspect")
    async with players(own, "dead") as (dead,):
        assert len(await dead.ingest(100)) == 1
        async with own.working("busy"):
            await own.ask("long", steps=["hold"])
            await eventually(lambda: own.lines("long"), 5, "the long action has begun")
            assert await dead.store.close(dead.session, died=True)
            await own.completed("suspect", within_s=5)
            assert not own.lines("long", phase="end")
            own.allow()
            await own.completed("long")
