"""The examples on a real server, their workers killed again and again: same results as undisturbed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from examples import approval, billing, human_task, polling, shop, sliding_window

from tests.guarantees.service import Service, eventually
from tests.support.servers import RunningServer, free_port
from workflow_worker.client.client import Client

Feed = Callable[[Client, int], Awaitable[Any]]
KILLS, LEAST_RUNS, MOST_RUNS = 3, 30, 250


async def approve(client: Client, number: int) -> Any:
    await client.publish(approval.Requested(f"a-{number}", "2 laptops", "ann", "max", 0.4, 20))
    await asyncio.sleep(2.0)  # past the reminder and the escalation: a person answers late
    await client.publish(approval.Decided(True, "max"), subject=f"a-{number}")
    return {"approved_by": "max"}


async def subscribe(client: Client, number: int) -> Any:
    await client.publish(billing.Begun(f"s-{number}", "small", periods=4, period_s=0.5))
    return [f"s-{number}-{period}-small-900" for period in (1, 2, 3, 4)]


async def convert(client: Client, number: int) -> Any:
    await client.publish(polling.Uploaded(f"v-{number}", first_look_s=0.7))
    return None


async def import_rows(client: Client, number: int) -> Any:
    rows = [f"{'bad' if row % 7 == 3 else 'row'}-{row}" for row in range(20)]
    await client.publish(sliding_window.Requested(f"i-{number}", rows, 4))
    imported = sorted(row.upper() for row in rows if row.startswith("row"))
    return {"imported": imported, "refused": sorted(row for row in rows if row.startswith("bad"))}


async def travel(client: Client, number: int) -> Any:
    await client.publish(human_task.Begun(f"t-{number}", "ann"))
    for days in (0, 20, 3):
        await client.publish(human_task.FormSent(days, "sea"), subject=f"t-{number}")
        await asyncio.sleep(0.3)
    return "sea-ann-3"


async def order(client: Client, number: int) -> Any:
    # The first charge of each worker process is refused for want of a token: killed workers are followed by recoveries.
    await client.publish(shop.OrderPlaced(f"o-{number}", "ann", 100 + number, packed_within=60, review_after=0.5))
    await asyncio.sleep(0.4)
    await client.publish(shop.ShipmentPacked(f"o-{number}", f"1Z-{number}"))
    return f"1Z-{number}"


async def feed_later(feed: Feed, client: Client, number: int) -> Any:
    """A stream of them, so that each kill finds some under way."""
    await asyncio.sleep(number * 0.06)
    return await feed(client, number)


async def feed_until(feed: Feed, client: Client, killed: list[int]) -> list[Any]:
    """Begin a run every 60 ms until there were kills enough and runs enough; what each is to return."""
    feeding: list[asyncio.Future[Any]] = []
    while len(killed) < KILLS or len(feeding) < LEAST_RUNS:
        assert len(feeding) < MOST_RUNS, f"not exercised: only {len(killed)} kills"
        feeding.append(asyncio.ensure_future(feed(client, len(feeding))))
        await asyncio.sleep(0.06)
    return await asyncio.gather(*feeding)


EXAMPLES: dict[str, tuple[ModuleType, str, Feed]] = {
    "approval": (approval, "approve:approval-a-{}", approve),
    "billing": (billing, "subscription:subscription-s-{}", subscribe),
    "polling": (polling, "convert:convert-v-{}", convert),
    "sliding window": (sliding_window, "run_import:import-i-{}", import_rows),
    "human task": (human_task, "trip:trip-t-{}", travel),
    "shop": (shop, "fulfil:order-o-{}", order),
}
QUICK = ("shop", "sliding window")
"""In the normal suite; the others are of the same kind and run with the long tests."""


@pytest.fixture
def make_example(durable_server: RunningServer, tmp_path: Path) -> Iterator[Callable[[ModuleType], Service]]:
    made: list[Service] = []

    def make(module: ModuleType) -> Service:
        assert module.__file__ is not None
        environment = {
            "LEASE_TTL_MS": "2000",
            "CONCURRENCY_LIMIT": "20",
            "SHOP_LEDGER": str(tmp_path / "ledger"),
        }
        service = Service(durable_server.url, free_port(), tmp_path, Path(module.__file__), environment)
        made.append(service)
        return service.start()

    yield make
    for service in made:
        service.kill()


@contextlib.asynccontextmanager
async def kills(service: Service, every_s: float) -> AsyncGenerator[list[int]]:
    """SIGKILL a random worker now and then."""
    killed: list[int] = []
    chosen = random.Random(11)

    async def kill() -> None:
        while True:
            await asyncio.sleep(every_s)
            workers = await asyncio.to_thread(service.workers)
            if workers:
                pid = chosen.choice(workers)["pid"]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    task = asyncio.create_task(kill())
    try:
        yield killed
    finally:
        task.cancel()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.chaos) for name in EXAMPLES]
)
async def test_an_example_gives_the_same_results_under_kills(
    name: str, durable_server: RunningServer, make_example: Callable[[ModuleType], Service]
) -> None:
    module, ref, feed = EXAMPLES[name]
    service = await make_example(module).ready()
    async with Client.connect(durable_server.url) as client:
        async with kills(service, 0.8) as killed:
            expected = await feed_until(feed, client, killed)
        for number, wanted in enumerate(expected):
            workflow, _, run_id = ref.format(number).partition(":")
            result = await client.handle(workflow, run_id).result(timeout=30)
            if name == "sliding window":
                result = {"imported": sorted(result["imported"]), "refused": sorted(result["refused"])}
            assert wanted is None or result == wanted
    await eventually(lambda: service.health().get("status") == "healthy", 15, "healthy after the kills")
    assert '"balanced":true' in service.cli("audit", "--json").replace(": ", ":")
