"""The embedded server: shared, stopped by its last user, and never losing what it acknowledged, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.store.redis import embedded
from workflow_worker.store.redis.embedded import EmbeddedServer

HOLD = """
import sys, time
from pathlib import Path
from workflow_worker.store.redis.embedded import EmbeddedServer
server = EmbeddedServer.acquire(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
server.release()
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e")


def pid_of(folder: Path) -> int:
    return int((folder / ".workflow-worker" / "server.pid").read_text())


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be collected by the system's first process does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def kill_server(folder: Path) -> None:
    pid = pid_of(folder)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), "the server is dead")


def hold(folder: Path) -> subprocess.Popen[str]:
    user = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None
    assert user.stdout.readline().startswith("unix://")
    return user


def end(user: subprocess.Popen[str], *, kill: bool = False) -> None:
    if kill:
        user.kill()
    user.communicate(timeout=20)


def put(url: str, value: str) -> None:
    with Redis.from_url(url) as client:  # pyright: ignore[reportUnknownMemberType] - untyped in redis-py
        client.xadd("s", {"v": value})


def values(url: str) -> list[str]:
    with Redis.from_url(url) as client:  # pyright: ignore[reportUnknownMemberType] - untyped in redis-py
        entries: list[tuple[bytes, dict[bytes, bytes]]] = client.xrange("s")  # pyright: ignore[reportAssignmentType] - sync client
        return [fields[b"v"].decode() for _, fields in entries]


def test_data_survives_the_end_of_the_last_user(folder: Path) -> None:
    with EmbeddedServer.acquire(folder) as server:
        put(server.url, "1")
        pid = pid_of(folder)
        assert stat.S_IMODE((folder / ".workflow-worker").stat().st_mode) == 0o700
    assert not alive(pid)
    with EmbeddedServer.acquire(folder) as server:
        assert values(server.url) == ["1"]


def test_data_survives_a_sigkill_of_the_server(folder: Path) -> None:
    with EmbeddedServer.acquire(folder) as server:
        for number in range(100):
            put(server.url, str(number))
        kill_server(folder)
        assert server.ensure_running() is True
        assert server.ensure_running() is False
        assert values(server.url) == [str(number) for number in range(100)]


def test_data_survives_a_sigkill_of_everything(folder: Path) -> None:
    user = hold(folder)
    put(f"unix://{folder}/.workflow-worker/server.sock", "kept")
    kill_server(folder)
    end(user, kill=True)
    with EmbeddedServer.acquire(folder) as server:
        assert values(server.url) == ["kept"]


def test_a_killed_user_leaves_a_server_that_the_next_one_uses_and_stops(folder: Path) -> None:
    user = hold(folder)
    pid = pid_of(folder)
    end(user, kill=True)
    assert alive(pid)
    with EmbeddedServer.acquire(folder):
        assert pid_of(folder) == pid
    assert not alive(pid)


def test_only_the_last_of_several_users_stops_it(folder: Path) -> None:
    first, second = hold(folder), hold(folder)
    pid = pid_of(folder)
    end(first)
    assert alive(pid)
    end(second)
    assert not alive(pid)


def test_users_that_come_and_go_at_once_share_one_server(folder: Path) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(3):
                with EmbeddedServer.acquire(folder) as server:
                    put(server.url, "x")
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    with EmbeddedServer.acquire(folder) as server:
        assert len(values(server.url)) == 18


def test_it_is_in_a_session_of_its_own(folder: Path) -> None:
    with EmbeddedServer.acquire(folder):
        assert os.getsid(pid_of(folder)) != os.getsid(0)


def test_attaching_starts_nothing(folder: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no embedded server runs"):
        EmbeddedServer.attach(folder)
    assert list(folder.iterdir()) == []
    with EmbeddedServer.acquire(folder) as server, EmbeddedServer.attach(folder) as other:
        assert other.url == server.url
    with pytest.raises(StoreUnavailable, match="no embedded server runs"):
        EmbeddedServer.attach(folder)


def test_a_folder_too_deep_for_a_socket_gets_a_port_with_a_password(folder: Path) -> None:
    deep = folder / ("d" * 100)
    deep.mkdir()
    with EmbeddedServer.acquire(deep) as server:
        assert server.url.startswith("redis://:")
        assert "@127.0.0.1:" in server.url
        put(server.url, "1")
        assert values(server.url) == ["1"]
        assert stat.S_IMODE((deep / ".workflow-worker" / "url").stat().st_mode) == 0o600
        before = server.url
        kill_server(deep)
        assert server.ensure_running()
        assert server.url == before, "clients know only the address they were given"
        secret = server.url.split(":")[2].split("@")[0]
        command = Path(f"/proc/{pid_of(deep)}/cmdline")
        assert not command.exists() or secret not in command.read_text()


@pytest.mark.parametrize("name", ["with space", 'quo"te', "per%20cent", "ümläut", "ha#sh"])
def test_strange_names_of_folders(folder: Path, name: str) -> None:
    strange = folder / name
    strange.mkdir()
    with EmbeddedServer.acquire(strange) as server:
        put(server.url, "1")
        assert values(server.url) == ["1"]


def test_releasing_twice_is_harmless(folder: Path) -> None:
    server = EmbeddedServer.acquire(folder)
    server.release()
    server.release()


async def test_watching_brings_a_dead_server_back(folder: Path) -> None:
    server = await asyncio.to_thread(EmbeddedServer.acquire, folder)
    watch = asyncio.create_task(server.watch(0.02))
    try:
        before = pid_of(folder)
        kill_server(folder)
        await asyncio.to_thread(wait_for, lambda: pid_of(folder) != before, "another server runs")
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await asyncio.to_thread(server.release)


def test_no_server_for_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.platform, "machine", lambda: "pdp11")
    with pytest.raises(ConfigurationError, match=r"none for .*pdp11.*set REDIS_URL"):
        EmbeddedServer.acquire(folder)


def test_a_place_that_is_no_folder(folder: Path) -> None:
    (folder / ".workflow-worker").write_text("")
    with pytest.raises(ConfigurationError, match="cannot keep its data"):
        EmbeddedServer.acquire(folder)
