"""More runs than one event may reach want to wait for it: the one too many says so, and goes on when there is room."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tests.integration.worker_rig import rig_of
from workflow_worker import App, wf
from workflow_worker.model.event import Event
from workflow_worker.model.failure import ErrorKind, Failure
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import RunResumed, encode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import Limits, Publish


@dataclass(frozen=True)
class Go:
    number: int


@dataclass(frozen=True)
class Opened:
    market: str


async def test_the_run_too_many_is_suspended_and_resumed_when_there_is_room() -> None:
    app = App("crowd")
    app.event("go")(Go)
    app.event("opened", subject="market")(Opened)

    async def trade(go: Go) -> int:
        await wf.wait_for(Opened, subject="nyse")
        return go.number

    app.workflow(on=Go, name="trade")(trade)
    async with rig_of(app, Limits(lease_ttl_ms=1_000, waits_cap=1)) as rig:
        running = rig.start()
        await rig.publish("go", "first", number=1)
        await rig.until("trade:first", RunStatus.WAITING)
        await rig.publish("go", "second", number=2)
        view = await rig.until("trade:second", RunStatus.SUSPENDED)
        assert view.error is not None
        failure = msgspec.msgpack.decode(view.error, type=Failure)
        assert (failure.type, failure.kind) == ("crowded", ErrorKind.PERMANENT)
        assert "wait for this type and subject already" in failure.message
        await rig.store.publish([Publish(Event("ev", "opened", "nyse", b'{"market": "nyse"}'))])
        await rig.until("trade:first", RunStatus.COMPLETED)
        assert (await rig.until("trade:second", RunStatus.SUSPENDED)).mails == 0
        record = encode_record(RunResumed(view.updated_at, "ops"))
        assert await rig.store.resume(RunRef("trade:second"), record, "ops") == "ok"
        done = await rig.until("trade:second", RunStatus.COMPLETED)
        assert done.result == b"2"
        await running.drained()
