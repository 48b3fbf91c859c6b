"""URLs, the check of the server, and what errors mean: on every server there is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from redis import exceptions
from redis.asyncio import Redis

from tests.support.servers import RunningServer, server_binary
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.store.redis.connection import check_server, connect, connect_blocking, unavailable


async def error_of(client: Redis, *command: str) -> StoreUnavailable | ConfigurationError | None:
    try:
        await client.execute_command(*command)  # pyright: ignore[reportUnknownMemberType] - untyped in redis-py
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is judged
        return unavailable(error)
    finally:
        await client.aclose()
    raise AssertionError(f"{command} did not fail")


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@h/0",
        "redis://",
        "unix://",
        "redis://:hunter2@h:0/0",
        "redis://:hunter2@h:99999/0",
        "redis://:hunter2@h/abc",
        "redis://:hunter2@h/0?socket_timeout=9",
        "redis://:hunter2@h/0?retry_on_timeout=1",
        "redis://h/0#x",
        "nonsense",
    ],
)
def test_urls_that_cannot_be_used_are_named_without_their_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL") as caught:
        connect(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_every_server_is_recognised(server: RunningServer) -> None:
    client = connect(server.url)
    info = await check_server(client)
    await client.aclose()
    assert f"{info.product}-{'.'.join(info.version.split('.')[:2])}" == server.binary_name
    assert (info.eviction, info.appendonly, info.appendfsync, info.cluster) == ("noeviction", False, "everysec", False)


async def test_a_server_that_evicts_is_refused(server: RunningServer) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    client = connect(server.url)
    with pytest.raises(ConfigurationError, match=r"allkeys-lru.*ALLOW_EVICTION=1"):
        await check_server(client)
    assert (await check_server(client, allow_eviction=True)).eviction == "allkeys-lru"
    await client.aclose()


async def test_a_server_that_forbids_config_and_info_is_taken(server: RunningServer) -> None:
    server.command("ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all", "-config", "-info")
    client = connect(f"unix://app:hunter2@{server.socket_path}")
    info = await check_server(client)
    await client.aclose()
    assert (info.version, info.eviction, info.appendonly) == ("", None, None)


async def test_wrong_and_missing_passwords_are_the_operators(server: RunningServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "hunter2")
    for url in (server.url, f"unix://:hunter3@{server.socket_path}"):
        error = await error_of(connect(url), "PING")
        assert isinstance(error, ConfigurationError)
        assert "hunter" not in str(error)
    server.command("AUTH", "hunter2")


async def test_replies_that_mean_later(server: RunningServer) -> None:
    server.command("CONFIG", "SET", "min-replicas-to-write", "1")
    assert "NOREPLICAS" in str(await error_of(connect(server.url), "SET", "a", "1"))
    server.command("CONFIG", "SET", "min-replicas-to-write", "0")
    server.command("CONFIG", "SET", "maxmemory", "1")
    assert "OOM" in str(await error_of(connect(server.url), "SET", "a", "1"))
    script = ("EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "a")
    assert "OOM" in str(await error_of(connect(server.url), *script))
    server.command("CONFIG", "SET", "maxmemory", "0")
    server.command("REPLICAOF", "127.0.0.1", "1")
    assert "READONLY" in str(await error_of(connect(server.url), *script))
    assert await error_of(connect(server.url), "NOSUCHCOMMAND") is None


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    error = await error_of(connect(f"unix://{tmp_path}/none.sock"), "PING")
    assert isinstance(error, StoreUnavailable)
    assert "connection refused" in str(error)


async def test_a_frozen_server_costs_one_deadline_and_no_repetition(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "server") as server:
        client = connect(server.url, timeout_s=0.3)
        await client.ping()  # pyright: ignore[reportUnknownMemberType] - untyped in redis-py
        server.freeze()
        begin = time.monotonic()
        error = await error_of(client, "XADD", "s", "*", "a", "1")
        assert str(error) == "the server did not answer in time"
        assert time.monotonic() - begin < 1.0
        server.thaw()
        deadline = time.monotonic() + 5
        while server.command("XLEN", "s") != ":1":
            assert time.monotonic() < deadline, "the one command arrives when the server goes on, and only once"


async def test_a_blocking_read_outlasts_the_deadline_of_short_commands(valkey: RunningServer) -> None:
    client = connect_blocking(valkey.url, 300)
    answer = await client.execute_command("XREAD", "BLOCK", "300", "STREAMS", "nothing-here", "$")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped in redis-py
    assert not answer
    await client.aclose()


async def test_clients_carry_a_name(valkey: RunningServer) -> None:
    client = connect(valkey.url, name="named-for-a-test")
    clients = str(await asyncio.wait_for(client.execute_command("CLIENT LIST"), 5))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - untyped in redis-py
    await client.aclose()
    assert "named-for-a-test" in clients


@pytest.mark.parametrize("word", ["LOADING", "MASTERDOWN", "BUSY", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"])
def test_words_of_answers(word: str) -> None:
    assert word in str(unavailable(exceptions.ResponseError(f"{word} and so on")))


def test_other_errors_are_not_ours() -> None:
    assert unavailable(exceptions.ResponseError("WRONGTYPE Operation against a key")) is None
    assert unavailable(ValueError("x")) is None


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_can_be_cancelled_in_every_turn_of_its_way(turns: int) -> None:
    """A worker ends by cancelling its parts: one that lives on, unaware, keeps the whole process from ending."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):
            pass
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", name="")
    connection = await client.connection_pool.get_connection()
    await client.connection_pool.release(connection)
    call = asyncio.ensure_future(connection.send_command("PING"))
    for _ in range(turns):
        await asyncio.sleep(0)
    if not call.done():
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
    await client.aclose()
    server.close()
    await server.wait_closed()
