"""Sentinels: asked in order, believed only where the server they name says that it is the primary."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.test_links import Serve, requests, serving, silent
from tests.support.sentinels import Replicated
from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.store.redis import errors
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.failures import translate
from workflow_worker.store.redis.fitness import check_server
from workflow_worker.store.redis.store import RedisStore


def names(port: int | None, asked: list[bytes] | None = None) -> Serve:
    """A sentinel that says the primary is at this port (None: never heard of it)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for command in requests(reader):
            if command[0] == b"CLIENT":
                writer.write(b"-ERR unknown subcommand\r\n")
            elif port is None:
                writer.write(b"*-1\r\n")
            else:
                writer.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port))
            if asked is not None:
                asked.append(command[-1])

    return serve


@asynccontextmanager
async def sentinels(*serve: Serve) -> AsyncGenerator[str]:
    """Such sentinels; the URL of the primary ``shop``."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(each)) for each in serve]
        yield f"redis+sentinel://{','.join(url.removeprefix('redis://') for url in urls)}/shop"


async def meaning_of(url: str) -> StoreUnavailable | ConfigurationError | Exception:
    link = connect(url)
    try:
        await link.execute_command("PING")
    except (errors.RedisError, OSError) as error:
        return translate(error)
    finally:
        await link.aclose()
    raise AssertionError("it was answered")


@pytest.fixture
def primary(tmp_path: Path, free_port: int) -> RunningServer:
    return RunningServer(server_binary("valkey-9.1"), tmp_path / "primary", port=free_port)


async def test_sentinels_that_do_not_know_or_do_not_answer_are_passed_over(
    primary: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_worker.store.redis.dialing.SENTINEL_WITHIN_S", 0.2)
    asked: list[bytes] = []
    with primary:
        async with sentinels(silent, names(None), names(primary.port, asked)) as url:
            link = connect(url.replace("redis+sentinel://", f"redis+sentinel://127.0.0.1:{free_port()},"))
            assert await link.execute_command("PING") == b"PONG"
            assert b"shop" in asked
            await link.aclose()


async def test_the_sentinel_that_answered_last_is_asked_first(primary: RunningServer) -> None:
    mute: list[bytes] = []
    with primary:
        async with sentinels(names(None, mute), names(primary.port)) as url:
            link = connect(url)
            for _ in range(3):
                assert await link.execute_command("PING") == b"PONG"
                primary.command("CLIENT", "KILL", "TYPE", "normal")
                with pytest.raises(errors.ConnectionFailed):
                    await link.execute_command("BLPOP", "nothing", 5)
            assert mute.count(b"shop") == 1
            await link.aclose()


async def test_a_server_that_is_no_primary_is_not_believed(primary: RunningServer, tmp_path: Path) -> None:
    with primary, RunningServer(server_binary("valkey-9.1"), tmp_path / "replica", port=free_port()) as replica:
        assert replica.command("REPLICAOF", "127.0.0.1", str(primary.port)) == "+OK"
        async with sentinels(names(replica.port), names(primary.port)) as url:
            link = connect(url)
            role = await link.execute_command("ROLE")
            assert role[0] == b"master"
            await link.aclose()
        async with sentinels(names(replica.port)) as url:
            error = await meaning_of(url)
            assert isinstance(error, StoreUnavailable)
            assert "says that it is a slave" in str(error)


async def test_a_name_that_no_sentinel_knows_is_the_operators() -> None:
    async with sentinels(names(None), names(None)) as url:
        error = await meaning_of(url)
        assert isinstance(error, ConfigurationError)
        assert "'shop'" in str(error)


async def test_a_name_that_is_forgotten_for_a_while_ends_no_worker(primary: RunningServer) -> None:
    """``SENTINEL REMOVE`` and ``MONITOR`` again is how operators mend sentinels; workers wait."""
    known = [True]

    async def forgetful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await names(primary.port if known[0] else None)(reader, writer)

    with primary:
        async with sentinels(forgetful) as url:
            store = RedisStore(connect(url), connect_blocking(url), namespace="ww")
            assert await store.find_runs("x") == []
            known[0] = False
            primary.command("CLIENT", "KILL", "TYPE", "normal")
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.find_runs("x")
            with pytest.raises(StoreUnavailable, match="none of the sentinels"):
                await store.wait_for_work(10)
            known[0] = True
            async with asyncio.timeout(5):
                while True:
                    with contextlib.suppress(StoreUnavailable):
                        assert await store.find_runs("x") == []
                        break
            await store.aclose()


async def test_without_sentinels_everything_waits() -> None:
    error = await meaning_of(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/shop")
    assert isinstance(error, StoreUnavailable)
    assert "no sentinel leads to the primary" in str(error)


@pytest.mark.parametrize("name", ["valkey-9.1", "redis-8.2", "redis-6.2"])
async def test_a_real_failover_is_followed(name: str, tmp_path: Path) -> None:
    """By the short commands, by a reader asleep in a blocking one, and by a listener."""
    with Replicated(server_binary(name), tmp_path, replicas=1, sentinel_password="hunter2") as group:
        url = f"{group.url}?sentinel_password=hunter2"
        assert "NOAUTH" in str(await meaning_of(group.url))
        link, blocking = connect(url, timeout_s=1.0), connect_blocking(url, 10_000)
        info = await check_server(link, durability="replicated")
        assert info.replicas == 1
        assert ["min-replicas-to-write 0" in warning for warning in info.warnings] == [True]
        await link.execute_command("SET", "a", "kept")
        assert group.linked() == 1
        asleep = asyncio.ensure_future(blocking.execute_command("BLPOP", "nothing", 9))
        hints = blocking.listen("c")
        listening = asyncio.ensure_future(anext(hints))
        old = group.primary()
        old.kill()
        for waiting in (asleep, listening):
            with pytest.raises((errors.ConnectionFailed, OSError)):
                await waiting
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await link.execute_command("GET", "a") == b"kept"
                    await link.execute_command("SET", "a", "again")
                    break
                except (errors.RedisError, OSError):
                    await asyncio.sleep(0.02)
        assert not old.running
        assert await blocking.execute_command("PING") == b"PONG"
        await link.aclose()
        await blocking.aclose()


async def test_a_primary_that_became_a_replica_is_left_at_once(primary: RunningServer, tmp_path: Path) -> None:
    """It answers READONLY on a connection that works: only a new one leads to its successor."""
    place = [0]

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await names(place[0])(reader, writer)

    with (
        primary,
        RunningServer(server_binary("valkey-9.1"), tmp_path / "other", port=free_port(), shutdown_timeout=0) as other,
    ):
        place[0] = primary.port
        async with sentinels(follow) as url:
            link = connect(url)
            await link.execute_command("SET", "a", "1")
            assert primary.command("REPLICAOF", "127.0.0.1", str(other.port)) == "+OK"
            place[0] = other.port
            with pytest.raises((errors.ErrorReply, errors.ConnectionFailed)):
                await link.execute_command("SET", "a", "2")
            assert await link.execute_command("SET", "a", "3") == b"OK"
            assert other.command("GET", "a") == "$1"
            await link.aclose()


async def test_an_old_primary_is_left_as_soon_as_another_is_chosen(tmp_path: Path) -> None:
    """Frozen and thawed it knows nothing of it, and goes on acknowledging on the connections that it has."""
    with Replicated(server_binary("valkey-9.1"), tmp_path, replicas=1) as group:
        link = connect(group.url)
        await link.execute_command("SET", "a", "1")
        old = group.primary()
        old.freeze()
        try:
            begin = asyncio.get_running_loop().time()
            stuck = asyncio.ensure_future(link.execute_command("SET", "a", "2"))
            with pytest.raises(errors.ConnectionFailed, match="another primary was chosen"):
                await stuck
            assert asyncio.get_running_loop().time() - begin < 4.9, "before the deadline of the command"
            assert await link.execute_command("SET", "a", "3") == b"OK"
        finally:
            old.thaw()
        assert [server.command("GET", "a") for server in group.servers if server is not old] == ["$1"]
        role = await link.execute_command("ROLE")
        assert role[0] == b"master"
        await link.aclose()


async def test_a_sentinel_that_falls_silent_is_not_the_only_one_heard(
    primary: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may stand on the machine that has just vanished with the primary."""
    monkeypatch.setattr("workflow_worker.store.redis.switches._ASK_EVERY_S", 0.05)
    monkeypatch.setattr("workflow_worker.store.redis.switches._ANSWER_WITHIN_S", 0.1)
    with primary, RunningServer(server_binary("valkey-9.1"), tmp_path / "other", port=free_port()) as other:
        place = [primary.port]

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async for command in requests(reader):
                if command[0] == b"SUBSCRIBE":
                    writer.write(b"*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n")
                elif command[0] == b"CLIENT":
                    writer.write(b"+OK\r\n")
                elif command[0] == b"SENTINEL":
                    writer.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(primary.port)), primary.port))

        async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await names(place[0])(reader, writer)

        async with sentinels(mute, well) as url:
            link = connect(url)
            await link.execute_command("SET", "a", "1")
            place[0] = other.port
            waiting = asyncio.ensure_future(link.execute_command("BLPOP", "nothing", 4))
            with pytest.raises(errors.ConnectionFailed, match="another primary was chosen"):
                await waiting
            await link.aclose()
