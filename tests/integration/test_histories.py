"""Histories of live runs: exported by command, replayed against the code of today and of tomorrow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from examples import shop

from tests.integration.command import EXAMPLES, Place, wait_for
from workflow_worker import App, wf
from workflow_worker.model.command import SetState
from workflow_worker.model.exceptions import UsageError
from workflow_worker.runtime import ordering
from workflow_worker.service.loader import load_app
from workflow_worker.testing import TestEnv
from workflow_worker.testing.histories import from_lines
from workflow_worker.testing.replaying import ReplayFailed, in_memory

APP = """
from dataclasses import dataclass
from workflow_worker import App, wf

app = App("counter")


@app.event("count", subject="name")
@dataclass(frozen=True)
class Count:
    name: str
    left: int


@app.action
async def step(name: str) -> str:
    return name


@app.workflow(on=Count, id="{name}")
async def count(begun: Count) -> str:
    await step(f"{begun.name}-{begun.left}")
    if begun.left:
        wf.continue_as_new(Count(begun.name, begun.left - 1))
    wf.state(at=str(wf.now()), drawn=wf.random().random())
    await wf.wait_for(Count)
    return "done"
"""


async def test_live_runs_replay_and_changed_code_is_found(tmp_path: Path) -> None:
    place = Place(tmp_path, {"WORKER_COUNT": "1", "SHOP_LEDGER": str(tmp_path / "ledger")})
    with place.start("start", str(EXAMPLES / "shop.py")):
        for number, customer in enumerate(("c-9", "broke")):
            data = json.dumps({"order_id": f"o-{number}", "customer_id": customer, "total": 1, "review_after": 0.01})
            place.ask("publish", "order.placed", "--subject", f"o-{number}", "--id", f"e-{number}", "--data", data)
        wait_for(lambda: place.ask("runs", "list", "--status", "waiting")["total"] == 1, "one waits")
        wait_for(lambda: place.ask("runs", "list", "--status", "suspended")["total"] == 1, "one is suspended")
        waiting = place.run("runs", "export", "order-o-0").out
        suspended = place.run("runs", "export", "fulfil:order-o-1").out
        packed = json.dumps({"order_id": "o-0", "tracking": "1Z"})
        place.ask("publish", "shipment.packed", "--subject", "o-0", "--data", packed)
        wait_for(lambda: place.ask("runs", "list", "--status", "completed")["total"] == 1, "one has ended")
        ended = place.run("runs", "export", "order-o-0").out
        missing = place.run("runs", "export", "order-o-7")
    assert missing.code == 1
    assert "order-o-7" in missing.err
    for name, text in (("waiting", waiting), ("suspended", suspended), ("ended", ended)):
        (tmp_path / f"{name}.jsonl").write_text(text)
    assert ended.splitlines()[0] == waiting.splitlines()[0]
    assert len(ended.splitlines()) > len(waiting.splitlines()) > 1
    head = from_lines(ended, "ended")
    assert (head.ref, head.version, head.start.event.id) == ("fulfil:order-o-0", 3, "e-0")
    async with TestEnv(shop.app) as env:
        assert await env.replay("*.jsonl", folder=tmp_path) == 3
    async with TestEnv(changed_shop()) as env:
        with pytest.raises(ReplayFailed, match="fulfil:order-o-0 does not replay"):
            await env.replay("ended.jsonl", folder=tmp_path)
    async with TestEnv(App("empty")) as env:
        with pytest.raises(UsageError, match="no workflow fulfil@3"):
            await env.replay("waiting.jsonl", folder=tmp_path)


def changed_shop() -> App:
    """The shop, with a step in front of the others."""
    app = App("changed")
    app.event("order.placed", subject="order_id")(shop.OrderPlaced)

    @app.action
    async def ask_first(order_id: str) -> None:
        del order_id

    @app.workflow(on=shop.OrderPlaced, version=3, name="fulfil")
    async def fulfil(order: shop.OrderPlaced) -> str:
        await ask_first(order.order_id)
        await wf.wait_for(shop.OrderPlaced)
        return ""

    assert fulfil.name == "fulfil"
    return app


async def test_a_run_that_began_anew_replays_from_where_it_began(tmp_path: Path) -> None:
    (tmp_path / "counter.py").write_text(APP)
    place = Place(tmp_path, {"WORKER_COUNT": "1"})
    with place.start("start", "counter.py"):
        place.ask("publish", "count", "--subject", "n", "--data", '{"name": "n", "left": 3}')
        wait_for(lambda: place.ask("runs", "list", "--status", "waiting")["total"] == 1, "it waits")
        text = place.run("runs", "export", "n").out
        shown = place.ask("runs", "show", "n")
    (tmp_path / "n.jsonl").write_text(text)
    found = from_lines(text, "n")
    assert json.loads(found.start.event.data) == {"name": "n", "left": 0}
    app = load_app(str(tmp_path / "counter.py")).app
    ordering.install()
    with in_memory(app, found) as execution:
        states = [each.state for each in execution.feed(found.records) if isinstance(each, SetState)]
    assert json.loads(states[-1]) == shown["state"], "the same clock, the same randomness"
    async with TestEnv(app) as env:
        assert await env.replay("n.jsonl", folder=tmp_path) == 1
