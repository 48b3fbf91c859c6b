"""What the worlds of this folder cannot see, because their calls take no time: several readers of one stream between
whose commands others come, a connection that sends again what was executed, a read that waits for a frozen server.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.servers import SERVERS, RunningServer
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.errors import RedisError
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Ingest, Ingested, Publish, Registration, Route, StartRoute

READERS = 4
SUBJECTS = 40
EVENTS = 25
"""For each subject, behind the one that starts its run."""

ROOM = 10
ROUTES = Registration(
    "m1", {"begun": Route(True, (StartRoute("run", 1, ("subject",)),)), "said": Route(True)}, ("run@1",)
)


class Reader:
    """One worker that only takes in."""

    def __init__(self, store: RedisStore, number: int) -> None:
        self.store = store
        self.session = SessionId(f"reader-{number}")
        self.held: dict[RunRef, int] = {}

    async def read_all(self) -> None:
        """Ingest until the stream is empty."""
        await self.store.open(self.session)
        number, read = 0, 1
        while read or (await self.store.depth()).events:
            number += 1
            outcome = await self.store.ingest(Ingest(self.session, number, ROOM, ROUTES.mark))
            assert isinstance(outcome, Ingested), outcome
            read = outcome.read
            self.held |= {run.ref: run.token for run in outcome.runs}

    async def told(self, ref: RunRef) -> list[str]:
        """What came for a run, in the order in which it will be recorded."""
        [loaded] = await self.store.load(self.session, [(ref, self.held[ref])])
        assert loaded is not None, ref
        return [mail.event.id for mail in loaded.mail]


@pytest.mark.parametrize("server", [each.name for each in SERVERS], indirect=True)
async def test_order_holds_with_several_readers(server: RunningServer) -> None:
    async with AsyncExitStack() as stack:
        readers: list[Reader] = []
        for number in range(READERS):
            store = RedisStore(
                connect(server.socket_url), connect_blocking(server.socket_url, 1_000), namespace="readers"
            )
            stack.push_async_callback(store.aclose)
            readers.append(Reader(store, number))
        first = readers[0].store
        await first.register(ROUTES)
        subjects = [f"s{number}" for number in range(SUBJECTS)]
        sent = [Publish(Event(f"{subject}/start", "begun", subject)) for subject in subjects]
        sent += [Publish(Event(f"{subject}/{n}", "said", subject)) for n in range(EVENTS) for subject in subjects]
        for start in range(0, len(sent), 200):
            await first.publish(sent[start : start + 200])
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read_all())
        held = {ref: reader for reader in readers for ref in reader.held}
        assert len(held) == SUBJECTS
        for subject in subjects:
            ref = RunRef(f"run:{subject}")
            assert await held[ref].told(ref) == [f"{subject}/{n}" for n in range(EVENTS)]
        audit = await first.audit()
        assert audit.balanced, audit.problems


class DeafTunnel:
    """Passes everything on to a server, and nothing back but the answers to greetings: each command is executed, and
    nobody hears of it."""

    def __init__(self, server: Path, entrance: Path) -> None:
        self._server, self._entrance = server, entrance
        self._open: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        self._open = await asyncio.start_unix_server(self._serve, self._entrance)
        return f"unix://{self._entrance}"

    async def __aexit__(self, *error: object) -> None:
        assert self._open is not None
        self._open.close()
        await self._open.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_unix_connection(self._server)
        try:
            while request := await reader.read(65_536):
                out.write(request)
                answer = await there.read(65_536)
                if b"XADD" in request:
                    return
                writer.write(answer)
        finally:
            out.close()
            writer.close()


@pytest.mark.parametrize("server", ["valkey-9.1"], indirect=True)
async def test_a_command_whose_answer_is_lost_was_sent_once(server: RunningServer) -> None:
    entrance = server.socket_path.with_name("tunnel.sock")
    async with DeafTunnel(server.socket_path, entrance) as url:
        link = connect(url)
        for sent in range(1, 4):
            with pytest.raises(RedisError):
                await link.execute_command("XADD", "events", "*", "a", "b")
            assert server.command("XLEN", "events") == f":{sent}"
        await link.aclose()


@pytest.mark.parametrize("server", ["valkey-9.1"], indirect=True)
async def test_a_read_that_waits_for_a_frozen_server_ends(server: RunningServer) -> None:
    block_ms = 50
    store = RedisStore(connect(server.socket_url), connect_blocking(server.socket_url, block_ms), namespace="frozen")
    assert not await store.wait_for_work(block_ms)
    server.freeze()
    try:
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await store.wait_for_work(block_ms)
    finally:
        server.thaw()
    await store.aclose()
