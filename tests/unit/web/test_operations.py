"""Runs and dead letters over HTTP: the whole application, asked in this process, on the memory store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from workflow_worker.client.client import Client
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.record import RunStarted, RunSuspended, encode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.model.settings import Settings
from workflow_worker.service.service import WorkerService
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    Commit,
    Ingest,
    Ingested,
    Limits,
    Mode,
    Registration,
    Route,
    StartRoute,
)
from workflow_worker.web.access import StoreAccess
from workflow_worker.web.api import build_api
from workflow_worker.web.guard import Guard

SESSION = SessionId("s-1")
BY = {"by": "ann"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(Limits(), lambda: 1_000_000)


def asking(opened: Store | None, **variables: str) -> httpx.AsyncClient:
    """A client of the web server of a service on this store, or on none that answers."""
    settings = Settings.from_mapping({"REDIS_URL": "redis://127.0.0.1:1/0", **variables})

    async def open_store() -> Store:
        if opened is None:
            raise StoreUnavailable("connection refused")
        return opened

    service = WorkerService(settings, "shop:app", emit=lambda _: None, open_store=open_store)
    api = build_api(service, Guard(settings), StoreAccess(open_store, settings.max_event_bytes))
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://127.0.0.1:4000")


@pytest.fixture
async def http(store: MemoryStore) -> AsyncGenerator[httpx.AsyncClient]:
    async with asking(store) as client:
        yield client


async def take_in(store: MemoryStore, *names: str) -> Ingested:
    """Publish start events of `job`, and some that are dead letters; take all in as a worker would."""
    client = Client(store)
    for name in names:
        await client.publish("lost" if name.startswith("lost") else "job.start", {}, subject=name, id=f"e-{name}")
    route = Route(False, (StartRoute("job", 1, ("subject",)),))
    await store.register(Registration("m", {"job.start": route}, ("job@1",)))
    await store.open(SESSION)
    done = await store.ingest(Ingest(SESSION, 1, 100, "m"))
    assert isinstance(done, Ingested)
    return done


async def suspend(store: MemoryStore, name: str) -> RunRef:
    """A run that needs a person."""
    [run] = (await take_in(store, name)).runs
    records = (
        encode_record(RunStarted(1_000_000, "3.11", "0.1.0")),
        encode_record(RunSuspended(1_000_001, Failure("shop.Broken", "no"))),
    )
    commit = Commit(
        *(run.ref, SESSION, run.token, NO_COMMIT, CommitId("s-1/1"), records, RunStatus.SUSPENDED, Mode.RELEASE)
    )
    assert [outcome.word for outcome in await store.commit([commit])] == ["ok"]
    return run.ref


async def test_runs_are_listed_page_by_page(http: httpx.AsyncClient, store: MemoryStore) -> None:
    await take_in(store, *[f"o-{number}" for number in range(5)])
    names: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        page = (await http.get("/api/runs", params={"limit": 2, "after": page["next"], "workflow": "job"})).json()
        names += [run["id"] for run in page["items"]]
    assert names == ["o-4", "o-3", "o-2", "o-1", "o-0"]
    assert (await http.get("/api/runs")).json()["total"] == 5
    assert (await http.get("/api/runs", params={"status": "failed"})).json()["items"] == []


async def test_what_cannot_be_read_is_a_400(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/runs", params={"limit": 0})
    assert (answer.status_code, answer.json()["error"][:6]) == (400, "limit:")
    assert (await http.get("/api/runs", params={"status": "odd"})).status_code == 400
    assert (await http.post("/api/runs/x/cancel", json={"whom": "ann"})).status_code == 400
    assert (await http.post("/api/runs/x/cancel", content="by=ann")).status_code == 415


async def test_a_suspended_run_is_shown_and_resumed(http: httpx.AsyncClient, store: MemoryStore) -> None:
    ref = await suspend(store, "o/1:a")
    shown = (await http.get(f"/api/runs/{ref}")).json()
    assert (shown["id"], shown["status"], shown["error"]) == ("o/1:a", "suspended", None)
    assert [each["kind"] for each in shown["history"]] == ["started", "suspended"]
    assert "workflow-worker runs resume o/1:a" in shown["standing"][1]
    resumed = await http.post(f"/api/runs/{ref}/resume", json=BY | {"note": "mended"})
    assert (resumed.status_code, resumed.json()["operation"]) == (202, "resume")
    again = await http.post(f"/api/runs/{ref}/resume", json={})
    assert (again.status_code, "only a suspended run" in again.json()["error"]) == (409, True)
    cancelled = await http.post(f"/api/runs/{ref}/cancel", json={"reason": "twice"})
    assert cancelled.status_code == 202
    acts = (await http.get("/api/operators")).json()["items"]
    assert [(act["by"], act["act"], act["on"]) for act in acts] == [
        ("http@127.0.0.1", "cancel", ref),
        ("ann", "resume", ref),
    ]


async def test_what_is_not_there_is_a_404(http: httpx.AsyncClient) -> None:
    for path in ("/api/runs/none", "/api/dead-letters/1-1"):
        assert (await http.get(path)).status_code == 404
    for path in ("/api/runs/none/cancel", "/api/dead-letters/1-1/drop", "/api/dead-letters/1-1/redrive"):
        answer = await http.post(path, json={})
        assert (answer.status_code, list(answer.json())) == (404, ["error"])


async def test_dead_letters_are_listed_shown_sent_again_and_deleted(
    http: httpx.AsyncClient, store: MemoryStore
) -> None:
    await take_in(store, *[f"lost-{number}" for number in range(4)])
    first = (await http.get("/api/dead-letters", params={"limit": 3})).json()
    assert (len(first["items"]), first["total"], first["next"]) == (3, 4, first["items"][2]["id"])
    rest = (await http.get("/api/dead-letters", params={"after": first["next"]})).json()
    assert [letter["event"]["id"] for letter in rest["items"]] == ["e-lost-3"]
    sent, dropped = (letter["id"] for letter in first["items"][:2])
    assert (await http.get(f"/api/dead-letters/{sent}")).json()["reason"] == "undeclared"
    assert (await http.post(f"/api/dead-letters/{sent}/redrive", json=BY)).status_code == 202
    assert (await http.post(f"/api/dead-letters/{sent}/redrive", json=BY)).status_code == 409
    assert (await http.post(f"/api/dead-letters/{dropped}/drop", json=BY)).status_code == 200
    assert (await http.get("/api/dead-letters")).json()["total"] == 2


async def test_many_dead_letters_go_only_when_all_is_said(http: httpx.AsyncClient, store: MemoryStore) -> None:
    await take_in(store, "lost-1", "lost-2")
    for body in ({}, {"reason": "undeclared"}, {"all": True, "older_ms": -1}):
        assert (await http.post("/api/dead-letters/drop", json=body)).status_code == 400
    nothing = await http.post("/api/dead-letters/drop", json={"all": True, "type": "other"})
    assert nothing.json()["dropped"] == 0
    gone = await http.post("/api/dead-letters/drop", json={"all": True, "reason": "undecl", "type": "lost"})
    assert gone.json() == {"operation": "drop letters", "outcome": "ok", "dropped": 2}


async def test_payloads_and_operations_need_the_token_where_there_is_one(store: MemoryStore) -> None:
    await suspend(store, "o-1")
    reads, acts = ("/api/runs", "/api/runs/o-1", "/api/dead-letters", "/api/operators"), ("/api/runs/o-1/resume",)
    async with asking(store, API_TOKEN="t0ken") as http:
        assert [(await http.get(path)).status_code for path in reads] == [401] * 4
        assert [(await http.post(path, json={})).status_code for path in acts] == [401]
        http.headers["Authorization"] = "Bearer t0ken"
        assert [(await http.get(path)).status_code for path in reads] == [200] * 4
        assert [(await http.post(path, json={})).status_code for path in acts] == [202]


async def test_without_the_store_it_is_a_503() -> None:
    async with asking(None) as http:
        answer = await http.get("/api/runs")
        assert (answer.status_code, answer.json()) == (503, {"error": "connection refused"})


async def test_every_operation_is_described(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/api/openapi.json")).json()["paths"]
    described = {(method, path): operation for path, methods in paths.items() for method, operation in methods.items()}
    assert {path for _, path in described} >= {
        "/api/runs",
        "/api/runs/{run_id}",
        "/api/runs/{run_id}/cancel",
        "/api/runs/{run_id}/resume",
        "/api/dead-letters",
        "/api/dead-letters/drop",
        "/api/dead-letters/{letter_id}",
        "/api/dead-letters/{letter_id}/redrive",
        "/api/dead-letters/{letter_id}/drop",
        "/api/operators",
    }
    assert all(operation["summary"] for operation in described.values())
    assert all("requestBody" in operation for (method, _), operation in described.items() if method == "post")


async def test_an_unknown_path_says_where_all_are_described(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    assert answer.status_code == 404
    assert answer.json() == {"error": "there is nothing at /: see /api/openapi.json"}
    assert (await http.get("/api/openapi.json")).status_code == 200


async def test_an_event_may_be_as_big_over_http_as_elsewhere(store: MemoryStore) -> None:
    body = {"type": "job.start", "subject": "big", "data": "x" * 2_000_000}
    async with asking(store, MAX_EVENT_BYTES="3000000") as http:
        assert (await http.post("/api/events", json=body)).status_code == 202
    async with asking(store) as http:
        assert (await http.post("/api/events", json=body)).status_code == 413


async def test_a_run_is_started_by_the_name_of_its_workflow(http: httpx.AsyncClient, store: MemoryStore) -> None:
    route = Route(False, (StartRoute("ship", 1),))
    await store.register(Registration("m", {"workflow-worker.start.ship": route}, ("ship@1",)))
    body: dict[str, Any] = {"workflow": "ship", "id": "s-1", "data": {"order_id": "o-1", "boxes": []}, "subject": "o-1"}
    answer = await http.post("/api/runs", json=body)
    assert (answer.status_code, answer.json()) == (202, {"id": "s-1", "workflow": "ship", "existed": False})
    again = await http.post("/api/runs", json=body)
    assert (again.status_code, again.json()["existed"]) == (200, True)
    unnamed = await http.post("/api/runs", json={"workflow": "ship"})
    assert len(unnamed.json()["id"]) == 32
    await store.open(SESSION)
    done = await store.ingest(Ingest(SESSION, 1, 100, "m"))
    assert isinstance(done, Ingested)
    first, second = done.runs
    assert first.ref == "ship:s-1"
    assert first.start is not None
    assert (first.start.event.subject, first.start.event.data) == ("o-1", b'{"order_id":"o-1","boxes":[]}')
    assert second.start is not None
    assert second.start.event.data == b"{}"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "missing required field `workflow`"),
        ({"workflow": "no name"}, "workflow name 'no name' is not usable"),
        ({"workflow": "ship", "id": ""}, "at least 1 character"),
        ({"workflow": "ship", "id": "x" * 501}, "the run's id is not usable"),
        ({"workflow": "ship", "data": "x" * 300_000}, "store it elsewhere"),
        ({"workflow": "ship", "colour": 1}, "colour"),
    ],
)
async def test_a_start_that_cannot_be_is_refused(http: httpx.AsyncClient, body: dict[str, Any], why: str) -> None:
    answer = await http.post("/api/runs", json=body)
    assert (answer.status_code, why in answer.json()["error"]) == (400, True), answer.text


async def test_a_start_needs_the_token_and_a_store_with_room(store: MemoryStore) -> None:
    async with asking(store, API_TOKEN="secret") as client:
        assert (await client.post("/api/runs", json={"workflow": "ship"})).status_code == 401
    async with asking(None) as client:
        assert (await client.post("/api/runs", json={"workflow": "ship"})).status_code == 503
