"""What a server may answer instead of a reply, and what the store makes of it: nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from tests.contract.actor import LIMITS, ROUTES, Actor, Clock
from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.model.run import RunStatus
from workflow_worker.store.redis.calls import Durability
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Ingest, Ingested, Limits, Mode, Publish

T = TypeVar("T")
DEADLINE_S = 10.0
WITH_WAITAOF = ("valkey-9.1", "redis-8.2")
two_servers = pytest.mark.parametrize("server", ["valkey-9.1", "redis-6.2"], indirect=True)


@asynccontextmanager
async def acting(
    server: RunningServer, durability: Durability = "relaxed", wait_ms: int = 300, limits: Limits = LIMITS
) -> AsyncGenerator[Actor]:
    """A worker on this server; its calls have short deadlines."""
    clock = Clock()
    client, blocking = connect(server.url, timeout_s=2.0), connect_blocking(server.url, 500)
    store = RedisStore(
        client, blocking, namespace="ww", limits=limits, durability=durability, durability_ms=wait_ms, clock=clock
    )

    async def add_raw(fields: Sequence[bytes]) -> str:
        raise AssertionError(fields)

    try:
        yield Actor(store, clock, add_raw)
    finally:
        await store.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Ask a server, which tells nobody by itself, until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def starts(server: RunningServer, wanted: str, *command: str) -> Callable[[], bool]:
    """Whether the first line of the answer begins so."""
    return lambda: server.command(*command).startswith(wanted)


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call with equal arguments until the server answers it, as every user of a store does."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.001)


def _ask(server: RunningServer, *words: str) -> str:
    """The beginning of an answer of several lines, however long it takes."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(DEADLINE_S)
        link.connect(str(server.socket_path))
        link.sendall(" ".join(words).encode() + b"\r\n")
        return link.recv(10_000).decode()


def event(number: int) -> Publish:
    return Publish(Event(f"e{number}", "order.placed", str(number)))


# ----------------------------------------------------------------------------------------------------------- durability


@pytest.mark.parametrize("name", WITH_WAITAOF)
async def test_fsync_survives_a_kill_after_the_answer(name: str, tmp_path: Path) -> None:
    server = RunningServer(server_binary(name), tmp_path / "s", appendonly=True, appendfsync="always")
    with server:
        async with acting(server, "fsync") as actor:
            await actor.begin()
            await actor.store.publish([event(1), event(2)])
            runs = await actor.ingest()
            await actor.commit(runs[0], Mode.END)
        server.kill()
        server.start()
        async with acting(server, "fsync") as actor:
            assert (await actor.view("fulfil:order-1")).status is RunStatus.COMPLETED
            assert (await actor.view("fulfil:order-2")).status is RunStatus.PENDING


@pytest.mark.parametrize("name", WITH_WAITAOF)
async def test_fsync_without_an_append_only_file_is_said(name: str, tmp_path: Path) -> None:
    with RunningServer(server_binary(name), tmp_path / "s") as server:
        async with acting(server, "fsync") as actor:
            await actor.begin()
            with pytest.raises(ConfigurationError, match=r"DURABILITY=fsync .*appendonly"):
                await actor.store.publish([event(1)])
            assert (await actor.store.depth()).events == 0, "not after a write"


async def test_fsync_on_a_server_without_waitaof_is_said(tmp_path: Path) -> None:
    with RunningServer(server_binary("redis-6.2"), tmp_path / "s", appendonly=True) as server:
        async with acting(server, "fsync") as actor:
            await actor.begin()
            with pytest.raises(ConfigurationError, match=r"DURABILITY=fsync .*Redis 7.2"):
                await actor.store.publish([event(1)])
            assert (await actor.store.depth()).events == 0, "not after a write"


async def test_replicated_waits_for_a_replica(tmp_path: Path) -> None:
    binary = server_binary("valkey-9.1")
    port = free_port()
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {"repl_diskless_sync_delay": 0, "repl_ping_replica_period": 1}
        primary = stack.enter_context(RunningServer(binary, tmp_path / "p", port=port, **options))
        actor = await (await stack.enter_async_context(acting(primary, "replicated"))).begin()
        with pytest.raises(StoreUnavailable, match=r"not within 300 ms to where DURABILITY=replicated wants it"):
            await actor.store.publish([event(1)])
        replica = stack.enter_context(RunningServer(binary, tmp_path / "r", port=free_port()))
        assert replica.command("REPLICAOF", "127.0.0.1", str(port)) == "+OK"
        assert [done.duplicate for done in await answered(lambda: actor.store.publish([event(1)]))] == [True]
        [first] = await actor.ingest()
        step = actor.step(first, Mode.END)
        [outcome] = await answered(lambda: actor.store.commit([step]))
        assert outcome.word in ("ok", "again")
        primary.kill()
        assert replica.command("REPLICAOF", "NO", "ONE") == "+OK"
        other = await stack.enter_async_context(acting(replica))
        assert (await other.view(first.ref)).status is RunStatus.COMPLETED
        assert (await other.store.audit()).balanced


# -------------------------------------------------------------------------------------------------- scripts that vanish


@two_servers
@pytest.mark.parametrize("durability", ["relaxed", "replicated"])
async def test_scripts_flushed_in_the_middle(server: RunningServer, durability: Durability) -> None:
    async with acting(server, durability) as actor:
        if durability == "replicated":
            await actor.store.register(ROUTES)
            server.command("SCRIPT", "FLUSH")
            with pytest.raises(StoreUnavailable, match="DURABILITY"):  # there is no replica; the write is there
                await actor.store.publish([event(1)])
            assert (await actor.store.depth()).events == 1
            return
        await actor.begin()
        for number in range(3):
            assert server.command("SCRIPT", "FLUSH") == "+OK"
            await actor.store.publish([event(number)])
            assert server.command("SCRIPT", "FLUSH") == "+OK"
            [run] = await actor.ingest()
            assert server.command("SCRIPT", "FLUSH") == "+OK"
            assert (await actor.commit(run, Mode.END)).word == "ok"
        audit = await actor.store.audit()
        assert (audit.routed, audit.again, audit.balanced) == (3, 0, True)


# -------------------------------------------------------------------------------------------- servers that take nothing


async def test_a_replica_refuses_and_nothing_happened(server: RunningServer) -> None:
    async with acting(server) as actor:
        await actor.begin()
        await actor.store.publish([event(1)])
        server.command("REPLICAOF", "127.0.0.1", "1")
        for refused in (actor.store.publish([event(2)]), actor.ingest(), actor.store.tick()):
            with pytest.raises(StoreUnavailable, match="READONLY"):
                await refused
        assert not await actor.store.wait_for_work(20)
        server.command("REPLICAOF", "NO", "ONE")
        actor.number -= 1
        assert [run.ref for run in await actor.ingest()] == ["fulfil:order-1"]


async def test_too_few_replicas_refuse_and_nothing_happened(server: RunningServer) -> None:
    async with acting(server) as actor:
        run = await (await actor.begin()).started()
        server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        step = actor.step(run, Mode.END)
        for refused in (actor.store.publish([event(2)]), actor.store.commit([step])):
            with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
                await refused
        assert not await actor.store.wait_for_work(20)
        server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        assert [outcome.word for outcome in await actor.store.commit([step])] == ["ok"]


async def test_a_full_server_refuses_events_and_still_finishes_runs(server: RunningServer) -> None:
    async with acting(server, limits=replace(LIMITS, memory_high_water=0)) as actor:
        await actor.begin()
        await actor.store.publish([event(1), event(2), event(3)])
        runs = await actor.ingest(2)
        server.command("CONFIG", "SET", "maxmemory", "1")
        assert [done.full for done in await actor.store.publish([event(4)])] == [True]
        assert (await actor.store.depth()).events == 1
        done = await actor.store.commit([actor.step(runs[0], Mode.END), actor.step(runs[1], Mode.RELEASE)])
        assert [outcome.word for outcome in done] == ["ok", "ok"]
        assert not await actor.store.wait_for_work(20)
        assert (await actor.store.renew(actor.session, [])).now > 0  # type: ignore[union-attr]
        assert await actor.store.close(actor.session)
        server.command("CONFIG", "SET", "maxmemory", "0")
        await actor.store.publish([event(4)])
        audit = await actor.store.audit()
        assert (audit.added, audit.balanced) == (4, True)


async def test_a_busy_server_is_waited_for(server: RunningServer) -> None:
    async with acting(server) as actor:
        await actor.begin()
        for name in ("busy-reply-threshold", "lua-time-limit"):
            server.command("CONFIG", "SET", name, "20")
        loop = connect(server.url, timeout_s=None)
        endless: Any = cast("Any", loop).execute_command("EVAL", "while true do end", "0")
        running = asyncio.ensure_future(endless)
        await until(starts(server, "-BUSY", "PING"))
        with pytest.raises(StoreUnavailable, match="BUSY"):
            await actor.store.publish([event(1)])
        assert server.command("SCRIPT", "KILL") == "+OK"
        with pytest.raises(Exception, match=r"[Kk]illed"):
            await running
        await loop.aclose()
        assert [done.duplicate for done in await actor.store.publish([event(1)])] == [False]


async def test_a_loading_server_is_waited_for(tmp_path: Path) -> None:
    server = RunningServer(server_binary("valkey-9.1"), tmp_path / "s", enable_debug_command="yes")
    async with AsyncExitStack() as stack:
        stack.enter_context(server)
        actor = await stack.enter_async_context(acting(server))
        await actor.begin()
        await actor.store.publish([event(1)])
        # Each key takes 2 ms to load, so that there is time to ask.
        server.command("EVAL", "for i = 1, 1500 do redis.call('SET', 'k' .. i, i) end", "0")
        server.command("SAVE")
        server.command("CONFIG", "SET", "key-load-delay", "2000")
        server.command("CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
        reload = asyncio.create_task(asyncio.to_thread(_ask, server, "DEBUG", "RELOAD", "NOSAVE"))
        await until(starts(server, "-LOADING", "GET", "x"))
        with pytest.raises(StoreUnavailable, match="LOADING"):
            await actor.store.publish([event(2)])
        server.command("CONFIG", "SET", "key-load-delay", "0")
        await reload
        await until(starts(server, "$-1", "GET", "x"))
        assert (await actor.store.depth()).events == 1


# ----------------------------------------------------------------------------------------------------- lost connections


async def test_connections_killed_in_the_middle_of_calls(server: RunningServer) -> None:
    """Killed again and again while events are published: each call is repeated until answered, each event is there
    once."""
    async with acting(server) as actor:
        await actor.begin()
        done = asyncio.Event()

        async def kill() -> int:
            count = 0
            while not done.is_set():
                server.command("CLIENT", "KILL", "TYPE", "normal")
                count += 1
                await asyncio.sleep(0.002)
            return count

        killer, failures = asyncio.create_task(kill()), 0
        for number in range(100):
            item = event(number)
            try:
                await actor.store.publish([item])
            except StoreUnavailable:
                failures += 1
                await answered(lambda item=item: actor.store.publish([item]))
        done.set()
        killed = await killer
        assert killed > 0
        assert failures > 0
        audit = await actor.store.audit()
        assert (audit.added, audit.balanced) == (100, True)


async def test_a_reader_killed_while_it_sleeps(server: RunningServer) -> None:
    async with acting(server) as actor:
        await actor.begin()
        await actor.store.wait_for_work(1)
        sleeper = asyncio.create_task(actor.store.wait_for_work(5_000))
        await until(lambda: "blocked_clients:1" in _ask(server, "INFO", "clients"))
        server.command("CLIENT", "KILL", "TYPE", "normal")
        with pytest.raises(StoreUnavailable, match="connection failed"):
            await sleeper
        await actor.store.publish([event(1)])
        assert await actor.store.wait_for_work(1_000)


def next_request(actor: Actor) -> asyncio.Future[Ingest]:
    """What lies behind the actor's sleep."""
    actor.number += 1
    behind: asyncio.Future[Ingest] = asyncio.get_running_loop().create_future()
    behind.set_result(Ingest(actor.session, actor.number, 10, ROUTES.mark))
    return behind


async def test_an_ingest_behind_a_sleep_whose_connection_breaks_is_had_by_its_number(server: RunningServer) -> None:
    async with acting(server) as actor:
        await actor.begin()
        await actor.ingest()
        await actor.store.wait_for_work(1)
        behind = next_request(actor)
        sleeper = asyncio.create_task(actor.store.wait_for_work(5_000, behind))
        await until(lambda: "blocked_clients:1" in _ask(server, "INFO", "clients"))
        server.command("CLIENT", "KILL", "TYPE", "normal")
        with pytest.raises(StoreUnavailable, match="connection failed"):
            await sleeper
        await answered(lambda: actor.store.publish([event(1)]))
        outcome = await actor.store.ingest(behind.result())
        assert isinstance(outcome, Ingested)
        assert [run.ref for run in outcome.runs] == ["fulfil:order-1"]


async def test_an_ingest_behind_a_sleep_that_the_server_does_not_know_is_not_answered(server: RunningServer) -> None:
    async with acting(server) as actor:
        await actor.begin()
        await actor.ingest()
        await actor.store.wait_for_work(1)
        behind = next_request(actor)
        sleeper = asyncio.create_task(actor.store.wait_for_work(5_000, behind))
        await until(lambda: "blocked_clients:1" in _ask(server, "INFO", "clients"))
        server.command("SCRIPT", "FLUSH")
        await actor.store.publish([event(1)])
        assert await sleeper is True
        outcome = await actor.store.ingest(behind.result())
        assert isinstance(outcome, Ingested)
        assert (len(outcome.runs), outcome.again) == (1, False)


async def test_where_sleeping_is_refused_no_ingest_goes_behind(server: RunningServer) -> None:
    """It would be executed at once and its answer lie until the sleep is over, or each sleep end at once."""
    async with acting(server) as actor:
        await actor.begin()
        await actor.ingest()
        await actor.store.wait_for_work(1)
        server.command("ACL", "SETUSER", "default", "-xreadgroup")
        asleep = asyncio.get_running_loop().time()
        answers = [await actor.store.wait_for_work(50, next_request(actor)) for _ in range(3)]
        assert asyncio.get_running_loop().time() - asleep >= 0.09
        assert answers[1:] == [False, False]
        server.command("ACL", "SETUSER", "default", "+xreadgroup")
        assert await actor.store.wait_for_work(1) is False
        await actor.store.publish([event(1)])
        assert isinstance(await actor.store.wait_for_work(5_000, next_request(actor)), Ingested)


# ------------------------------------------------------------------------------------- every state, and out of it again

Commands = Sequence[Sequence[str]]
STATES: dict[str, tuple[Commands, Commands]] = {
    "READONLY": ([("REPLICAOF", "127.0.0.1", "1")], [("REPLICAOF", "NO", "ONE")]),
    "MASTERDOWN": (
        [("CONFIG", "SET", "replica-serve-stale-data", "no"), ("REPLICAOF", "127.0.0.1", "1")],
        [("REPLICAOF", "NO", "ONE")],
    ),
    "NOREPLICAS": (
        [("CONFIG", "SET", "min-replicas-to-write", "1")],
        [("CONFIG", "SET", "min-replicas-to-write", "0")],
    ),
    "NOPERM": ([("ACL", "SETUSER", "default", "-evalsha")], [("ACL", "SETUSER", "default", "+evalsha")]),
    "NOAUTH": (
        [("CONFIG", "SET", "requirepass", "hunter2"), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")],
        [("AUTH", "hunter2"), ("CONFIG", "SET", "requirepass", "''")],
    ),
    "MISCONF": (
        [
            *(("CONFIG", "SET", "dir", "/proc"), ("CONFIG", "SET", "save", "'1 1000000'")),
            *(("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"), ("SET", "x", "1"), ("BGSAVE",)),
        ],
        [("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")],
    ),
}
"""What a server answers -> how it gets there, and out again."""


@pytest.mark.parametrize("word", STATES)
@pytest.mark.parametrize("name", ["valkey-9.1", "redis-6.2"])
async def test_a_store_comes_through_every_state_of_its_server(name: str, word: str, tmp_path: Path) -> None:
    """The same store, without being made anew: its calls say what is the matter while it lasts, its sleep neither ends
    the worker nor runs in circles, and afterwards both work, and the next event wakes it."""
    options: dict[str, Any] = {} if name == "redis-6.2" else {"enable_protected_configs": "yes"}
    into, out_of = STATES[word]
    with RunningServer(server_binary(name), tmp_path / "s", **options) as server:
        async with acting(server) as actor:
            await actor.begin()
            await actor.store.publish([event(1)])
            assert await actor.store.wait_for_work(1_000)
            say(server, into)
            await until_refused(actor, word)
            asleep = asyncio.get_running_loop().time()
            try:
                assert not await actor.store.wait_for_work(100)
            except StoreUnavailable as error:
                assert word in str(error) or "connection" in str(error)  # noqa: PT017 - either of both is right
            else:
                assert asyncio.get_running_loop().time() - asleep >= 0.09, "it slept"
            say(server, out_of)
            assert [done.duplicate for done in await answered(lambda: actor.store.publish([event(2)]))] == [False]
            while await answered(lambda: actor.store.wait_for_work(20)):
                pass  # what came before
            sleeper = asyncio.create_task(actor.store.wait_for_work(5_000))
            await until(lambda: "blocked_clients:1" in _ask(server, "INFO", "clients"))
            await actor.store.publish([event(3)])
            assert await sleeper
            assert len(await actor.ingest(10)) == 3
        server.kill()  # it would try in vain to save, where it may not write


async def until_refused(actor: Actor, word: str) -> None:
    """Until the server is in its state (some take a moment): nothing was written."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await actor.store.tick()
                await asyncio.sleep(0.01)
            except StoreUnavailable as error:
                if word in str(error):
                    break
    with pytest.raises(StoreUnavailable, match=word):
        await actor.store.publish([event(2)])


def say(server: RunningServer, commands: Commands) -> None:
    """Commands over one connection, which the password that they set does not shut out."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(DEADLINE_S)
        link.connect(str(server.socket_path))
        with link.makefile("rb") as answers:
            for command in commands:
                link.sendall(" ".join(command).encode() + b"\r\n")
                assert not (answer := answers.readline()).startswith(b"-"), answer


async def test_a_cluster_that_is_down_is_waited_for(tmp_path: Path) -> None:
    ports: dict[str, Any] = {"port": free_port(), "cluster_port": free_port()}
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s", cluster_enabled=True, **ports) as server:
        async with acting(server) as actor:
            with pytest.raises(StoreUnavailable, match="CLUSTERDOWN"):
                await actor.store.register(ROUTES)
            assert server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == "+OK"
            await answered(actor.begin)
            await answered(lambda: actor.store.publish([event(1)]))
            assert await answered(lambda: actor.store.wait_for_work(1_000))


async def test_a_sleeper_is_told_when_its_server_becomes_a_replica(server: RunningServer) -> None:
    async with acting(server) as actor:
        await actor.begin()
        await actor.store.wait_for_work(1)
        sleeper = asyncio.create_task(actor.store.wait_for_work(5_000))
        await until(lambda: "blocked_clients:1" in _ask(server, "INFO", "clients"))
        server.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="UNBLOCKED"):
            await sleeper
        server.command("REPLICAOF", "NO", "ONE")
        await actor.store.publish([event(1)])
        assert await actor.store.wait_for_work(1_000)
