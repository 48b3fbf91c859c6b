"""URLs, the check of the server, and what errors mean: on every server there is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.support.sentinels import Sentinel
from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.client.client import Client
from workflow_worker.client.opening import OpenStore, store_opener
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.model.settings import Settings
from workflow_worker.store.redis import errors
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.failures import unavailable
from workflow_worker.store.redis.fitness import check_server
from workflow_worker.store.redis.link import Client as Link


async def error_of(client: Link, *command: str) -> StoreUnavailable | ConfigurationError | None:
    try:
        await client.execute_command(*command)
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is judged
        return unavailable(error)
    finally:
        await client.aclose()
    raise AssertionError(f"{command} did not fail")


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
        await client.execute_command("PING")
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
    answer = await client.execute_command("XREAD", "BLOCK", "300", "STREAMS", "nothing-here", "$")
    assert not answer
    await client.aclose()


async def test_clients_carry_a_name(valkey: RunningServer) -> None:
    client = connect(valkey.url, name="named-for-a-test")
    clients = str(await client.execute_command("CLIENT", "LIST"))
    await client.aclose()
    assert "named-for-a-test" in clients


@pytest.mark.parametrize("word", ["LOADING", "MASTERDOWN", "BUSY", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"])
def test_words_of_answers(word: str) -> None:
    assert word in str(unavailable(errors.ErrorReply(f"{word} and so on")))


def test_other_errors_are_not_ours() -> None:
    assert unavailable(errors.ErrorReply("WRONGTYPE Operation against a key")) is None
    assert unavailable(ValueError("x")) is None


# ------------------------------------------------------------------------------------------------ fit for DURABILITY


@pytest.mark.parametrize(
    ("name", "durability", "appendonly", "why"),
    [
        ("valkey-9.1", "fsync", "no", "DURABILITY=fsync .*appendonly yes"),
        ("redis-6.2", "fsync", "yes", "DURABILITY=fsync .*Redis 7.2"),
    ],
)
async def test_a_server_that_cannot_keep_the_promise_is_refused_at_the_start(
    name: str, durability: str, appendonly: str, why: str, tmp_path: Path
) -> None:
    with RunningServer(server_binary(name), tmp_path / "s", appendonly=appendonly) as server:
        settings = Settings.from_mapping({"REDIS_URL": server.url, "DURABILITY": durability})
        with pytest.raises(ConfigurationError, match=why):
            await store_opener(settings, check=True)()
        async with Client.from_settings(settings) as client:
            with pytest.raises(ConfigurationError, match=why):
                await client.publish("order.placed", {}, subject="1")
        assert server.command("DBSIZE") == ":0", "not after a write"


async def test_a_promise_that_hangs_by_a_thread_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s") as server:
        settings = Settings.from_mapping({"REDIS_URL": server.url, "DURABILITY": "replicated"})
        await (await store_opener(settings, check=True, warn=told.append)()).aclose()
        assert [warning.partition(", and ")[2][:26] for warning in told] == [
            "no replica is connected: n",
            "the server has min-replica",
        ]
        await (await store_opener(settings, check=True)()).aclose()
        assert capsys.readouterr().err.count("workflow-worker: warning: DURABILITY=replicated") == 2
        relaxed = store_opener(Settings.from_mapping({"REDIS_URL": server.url}), check=True)
        await (await relaxed()).aclose()
        assert capsys.readouterr().err.count("workflow-worker: warning: the server keeps no append-only file") == 1
        server.command("CONFIG", "SET", "appendonly", "yes")
        await (await relaxed()).aclose()
        assert capsys.readouterr().err == ""


async def test_a_name_that_no_sentinel_knows_ends_the_start(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s", port=free_port()) as server:
        sentinel = Sentinel(server.binary, tmp_path / "sentinel", server.port).start()
        try:
            settings = Settings.from_mapping({"REDIS_URL": f"redis+sentinel://127.0.0.1:{sentinel.port}/other"})
            with pytest.raises(ConfigurationError, match=r"primary 'other'.*none of the sentinels"):
                await answered(store_opener(settings, check=True))
        finally:
            sentinel.kill()


async def answered(opening: OpenStore) -> None:
    """Repeat until somebody answers: a sentinel takes a moment to start."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailable):
                await opening()
