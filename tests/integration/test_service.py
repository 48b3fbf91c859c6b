"""The service with real worker processes on a real server: death, scaling, drain, refusals, outages, reload."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.model.exceptions import ConfigurationError, UsageError, WorkflowWorkerError
from workflow_worker.model.settings import Settings
from workflow_worker.service.facts import ProcessEnded
from workflow_worker.service.service import WorkerService
from workflow_worker.web.server import WebServer

ROOT = Path(__file__).parents[2]
APP = Path(__file__).with_name("service_app.py")

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, within_s: float = 20) -> T:
    """Ask until the answer is truthy."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)
    return found


class Running:
    """A service in a process of its own, and what can be seen of it from outside."""

    def __init__(self, folder: Path, app: Path, *options: str, **variables: str) -> None:
        self.port = int(variables.get("PORT", free_port()))
        self.log = folder / f"log-{uuid.uuid4().hex[:8]}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", "PORT": str(self.port)}
        environment |= {"HEALTH_CHECK_INTERVAL_MS": "500", "WORKER_COUNT": "1", **variables}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.service_main", str(app), *options],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> tuple[int, Any]:
        """Status and decoded body; (0, None) while nobody answers."""
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """The same for a POST of JSON."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), headers)
        request.add_header("Content-Type", "application/json")
        return self._ask(request)

    def _ask(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def health(self) -> dict[str, Any]:
        """The report, or nothing while nobody answers."""
        return self.get("/api/health/worker")[1] or {}

    def text(self, path: str) -> str:
        """The body of an answer as it is."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def workers(self) -> list[dict[str, Any]]:
        """The worker processes."""
        _, found = self.get("/api/workers")
        return found["items"] if found else []

    def ready(self) -> Running:
        """Wait until it is healthy."""
        try:
            eventually(lambda: self.process.poll() is not None or self.health().get("status") == "healthy", "healthy")
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}\n{self.get('/api/workers')}") from error
        return self

    def lines(self) -> list[dict[str, Any]]:
        """All log lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines about this."""
        return [line for line in self.lines() if line["event"].startswith(event)]

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            pids = [worker["pid"] for worker in self.workers()]
            self.process.kill()
            self.process.wait(10)
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


Start = Callable[..., Running]


@pytest.fixture
def start(valkey: RunningServer, tmp_path: Path) -> Generator[Start]:
    """Start services in a namespace of this test's own."""
    namespace = f"t{uuid.uuid4().hex[:10]}"
    running: list[Running] = []

    def begin(*options: str, app: Path = APP, **variables: str) -> Running:
        given = {"REDIS_URL": valkey.url, "NAMESPACE": namespace, **variables}
        running.append(Running(tmp_path, app, *options, **given))
        return running[-1]

    yield begin
    for each in running:
        each.kill()


@pytest.fixture(scope="module")
def lasting(valkey: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """One service for the tests that leave it as they found it."""
    namespace = f"t{uuid.uuid4().hex[:10]}"
    service = Running(
        tmp_path_factory.mktemp("lasting"), APP, REDIS_URL=valkey.url, NAMESPACE=namespace, WORKER_COUNT="2"
    )
    yield service
    service.kill()


@pytest.fixture
def shared(lasting: Running) -> Running:
    """That service, healthy, with two workers."""
    lasting.ready().post("/api/scale", {"workers": 2})
    eventually(lambda: len(lasting.workers()) == lasting.health()["healthyWorkers"] == 2, "two workers")
    return lasting


def test_a_killed_worker_is_replaced_and_its_counts_stay(shared: Running) -> None:
    service = shared
    before, deaths = service.health()["eventsProcessed"], len(service.said("worker process died"))
    handed_back = len(service.said("runs of a dead worker handed back"))
    for number in range(5):
        assert service.post("/api/events", {"type": "ping", "data": {"name": f"n{number}"}})[0] == 202
    eventually(lambda: service.health()["eventsProcessed"] == before + 5, "five events processed")
    victims = {worker["pid"] for worker in service.workers()}
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.health()["status"] == "degraded", "degraded after the kill")
    service.ready()
    report = service.health()
    assert report["eventsProcessed"] == report["eventsSucceeded"] == before + 5
    assert report["workerCount"] == report["healthyWorkers"] == 2
    assert victims.isdisjoint({worker["pid"] for worker in service.workers()})
    died = service.said("worker process died")[deaths:]
    assert [line["code"] for line in died] == [-signal.SIGKILL] * 2
    eventually(
        lambda: len(service.said("runs of a dead worker handed back")) == handed_back + 2,
        "both sessions closed at once",
    )


def test_scaling_up_and_down_by_http_and_by_signal(shared: Running) -> None:
    service = shared
    for before, count in ((2, 3), (3, 2)):
        assert service.post("/api/scale", {"workers": count}) == (202, {"workers": count, "before": before})
        eventually(lambda wanted=count: len(service.workers()) == wanted, f"{count} workers")
        service.ready()
        assert service.health()["workerCount"] == count
    service.process.send_signal(signal.SIGTTIN)
    eventually(lambda: len(service.workers()) == 3, "one more by SIGTTIN")
    for _ in range(3):
        service.process.send_signal(signal.SIGTTOU)
        time.sleep(0.05)  # two equal signals that are pending together are one
    eventually(lambda: len(service.workers()) == 1, "never below one by SIGTTOU")
    assert service.post("/api/scale", {"workers": 257})[0] == 400
    assert service.post("/api/scale", {"workers": 0})[0] == 400
    assert not service.said("session lost"), "who drains closes its session itself"


def test_sigterm_lets_the_attempt_finish_and_a_second_one_does_not(start: Start) -> None:
    service = start().ready()
    pid = service.workers()[0]["pid"]
    for name, pause in (("short", 0.7), ("long", 60)):
        assert service.post("/api/events", {"type": "ping", "data": {"name": name, "pause": pause}})[0] == 202
    eventually(lambda: service.health()["activeEvents"] == 2, "both runs execute")
    service.process.send_signal(signal.SIGTERM)
    eventually(lambda: service.health()["eventsSucceeded"] == 1, "the short one ends well")
    assert service.health()["activeEvents"] == 1
    assert alive(pid)
    assert service.stop(within_s=10) == 0
    assert not alive(pid)
    assert not service.said("session lost")


def test_a_drain_ends_in_time_though_threads_hang(start: Start) -> None:
    service = start(SHUTDOWN_GRACE_MS="5000").ready()
    pid = service.workers()[0]["pid"]
    for number in range(3):
        body = {"type": "ping", "data": {"name": f"n{number}", "block": 120}}
        assert service.post("/api/events", body)[0] == 202
    eventually(lambda: len(service.said("attempt hangs")) >= 3, "the attempts hang")
    assert "ww_attempts_hanging" in service.text("/metrics")
    began = time.monotonic()
    assert service.stop(within_s=8) == 0
    assert time.monotonic() - began < 5.5
    assert not alive(pid)
    assert not service.said("worker process killed")
    assert not service.said("worker process died")


def asked(url: str, *command: str | int) -> Any:
    """One command on a connection of its own."""
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - redis-py types no **kwargs
    with client:
        return client.execute_command(*command)


def drain_under_load(start: Start, url: str, times: int) -> None:
    """Start, publish without a pause, drain in the middle; each ends with 0 within its grace, and nothing is lost."""
    published, namespace = 0, f"t{uuid.uuid4().hex[:10]}"
    settings = {"NAMESPACE": namespace, "WORKER_COUNT": "2", "CONCURRENCY_LIMIT": "20", "SHUTDOWN_GRACE_MS": "6000"}
    for turn in range(times):
        service = start(**settings).ready()
        before = service.health()["eventsProcessed"]
        for number in range(30):
            pause, block = 0.3 * (number % 5), 60 if number % 15 == 0 else 0
            body = {"type": "ping", "data": {"name": f"t{turn}-{number}", "pause": pause, "block": block}}
            assert service.post("/api/events", body)[0] == 202
            published += 1
        eventually(lambda s=service, b=before: s.health()["eventsProcessed"] > b, "some of it is processed")
        began = time.monotonic()
        assert service.stop(within_s=10) == 0
        took_s = time.monotonic() - began
        assert took_s < 6.5, f"{took_s:.1f} s\n{service.log.read_text()[-4_000:]}"
        assert not service.said("worker process killed")
        assert not service.said("worker process died")
        assert not service.said("session lost")
    start(**settings)
    ended = f"{namespace}:{{{namespace}:0}}:index:ended"
    eventually(lambda: asked(url, "ZCARD", ended) == published - 2 * times, "all end but those that block", 60)


def test_drains_under_load_end_in_time(start: Start, valkey: RunningServer) -> None:
    drain_under_load(start, valkey.url, 3)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_twenty_drains_under_load_end_in_time(start: Start, valkey: RunningServer) -> None:
    drain_under_load(start, valkey.url, 20)


def delete_namespace(url: str, namespace: str) -> None:
    """What FLUSHALL does, to this namespace alone."""
    asked(
        url,
        "EVAL",
        "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end",
        0,
        f"{namespace}:*",
    )


def test_a_namespace_that_was_flushed_is_told_once_by_all(start: Start, valkey: RunningServer) -> None:
    namespace = f"t{uuid.uuid4().hex[:10]}"
    service = start(WORKER_COUNT="2", NAMESPACE=namespace, LEASE_TTL_MS="1000", HEALTH_CHECK_INTERVAL_MS="1000").ready()
    assert service.post("/api/events", {"type": "ping", "data": {"name": "before"}})[0] == 202
    eventually(lambda: service.health()["eventsProcessed"] == 1, "processed")
    delete_namespace(valkey.url, namespace)
    eventually(lambda: service.said("Redis holds another namespace"), "it is told")
    assert service.said("Redis holds another namespace")[0]["level"] == "error"
    eventually(lambda: service.health()["status"] == "degraded", "it shows in health")
    assert any("the store was replaced" in reason for worker in service.workers() for reason in worker["reasons"])
    eventually(lambda: len(service.said("session lost")) == 2, "both workers have noticed")
    service.ready()
    assert service.post("/api/events", {"type": "ping", "data": {"name": "after"}})[0] == 202
    eventually(lambda: service.health()["eventsProcessed"] == 2, "work goes on")
    assert len(service.said("Redis holds another namespace")) == 1


def test_a_namespace_that_was_flushed_while_all_workers_were_dead_is_told_too(
    start: Start, valkey: RunningServer
) -> None:
    namespace = f"t{uuid.uuid4().hex[:10]}"
    service = start(NAMESPACE=namespace).ready()
    pid = service.workers()[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    delete_namespace(valkey.url, namespace)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.said("Redis holds another namespace"), "the next worker tells it")
    service.ready()


def test_ctrl_c_reaches_the_service_alone(start: Start) -> None:
    service = start(WORKER_COUNT="2").ready()
    groups = {os.getpgid(worker["pid"]) for worker in service.workers()}
    assert os.getpgid(service.process.pid) not in groups
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(20) == 0
    assert not service.said("worker process died")


def test_workers_end_when_their_service_is_gone(start: Start) -> None:
    service = start(WORKER_COUNT="2").ready()
    pids = [worker["pid"] for worker in service.workers()]
    service.process.kill()
    service.process.wait(5)
    eventually(lambda: not any(alive(pid) for pid in pids), "orphans drain and end")


def test_a_worker_is_found_by_its_command_line_and_is_small(shared: Running) -> None:
    service = shared
    pid = service.workers()[0]["pid"]
    command_line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    assert "workflow-worker worker" in command_line
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1] == str(service.process.pid)
    assert b"API_TOKEN" not in Path(f"/proc/{pid}/environ").read_bytes()


async def refused(app: Path, expected: type[WorkflowWorkerError], **variables: str) -> str:
    """What stops the start of a service, here in this process; the command line turns it into exit code 2."""
    given = {"PORT": "0", "WORKER_COUNT": "1", "REDIS_URL": "redis://127.0.0.1:1/0", **variables}

    async def attempt() -> None:
        service = WorkerService(Settings.from_mapping(given), str(app), emit=lambda _: None)
        with WebServer(service):
            await service.run()

    with pytest.raises(expected) as refusal:
        await attempt()
    return str(refusal.value)


async def test_an_app_that_cannot_be_imported_stops_the_start(valkey: RunningServer, tmp_path: Path) -> None:
    broken = tmp_path / "broken_app.py"
    broken.write_text("raise RuntimeError('no such luck')\n")
    message = await refused(broken, ConfigurationError, REDIS_URL=valkey.url)
    assert "importing" in message
    assert "RuntimeError: no such luck" in message
    assert "there is no file" in await refused(tmp_path / "missing.py", UsageError)


async def test_a_taken_port_stops_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"PORT={port} is not usable" in await refused(APP, ConfigurationError, PORT=port)


async def test_a_server_that_evicts_stops_the_start(start: Start, tmp_path: Path) -> None:
    binary = server_binary("valkey-9.1")
    with RunningServer(binary, tmp_path / "evicts", maxmemory_policy="allkeys-lru") as server:
        assert "maxmemory-policy" in await refused(APP, ConfigurationError, REDIS_URL=server.url)
        start(REDIS_URL=server.url, ALLOW_EVICTION="1").ready()


def test_without_redis_one_line_every_5_s_and_work_when_it_comes(start: Start, tmp_path: Path) -> None:
    server = RunningServer(server_binary("valkey-9.1"), tmp_path / "late", port=free_port())
    service = start(REDIS_URL=server.url, WORKER_COUNT="2", LEASE_TTL_MS="2000")
    eventually(lambda: len(service.said("Redis does not answer")) >= 2, "said twice")
    first, second = service.said("Redis does not answer")[:2]
    seconds = [float(line["timestamp"][17:23]) for line in (first, second)]
    assert 4.5 <= (seconds[1] - seconds[0]) % 60 <= 6.5
    assert service.process.poll() is None
    assert service.get("/api/health/worker")[0] == 503
    with server:
        service.ready()
        assert service.post("/api/events", {"type": "ping", "data": {"name": "late"}})[0] == 202
        eventually(lambda: service.health()["eventsProcessed"] == 1, "the event is processed")
        assert service.stop() == 0


def test_reload_brings_new_code_and_keeps_the_old_when_the_new_is_broken(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    app = folder / "live_app.py"
    app.write_text(APP.read_text())
    service = start("reload", app=app, WORKER_COUNT="2").ready()
    old = {worker["pid"] for worker in service.workers()}

    app.write_text(APP.read_text() + "\nnonsense(\n")
    eventually(lambda: service.said("new code does not start"), "the error is shown")
    eventually(lambda: {worker["pid"] for worker in service.workers()} == old, "the old workers stay")
    assert "SyntaxError" in service.log.read_text()

    app.write_text(APP.read_text().replace("service-tests", "service-tests-2"))
    eventually(lambda: service.said("reloaded"), "reloaded")
    eventually(
        lambda: len(found := {worker["pid"] for worker in service.workers()}) == 2 and not found & old, "only new ones"
    )
    service.ready()
    assert service.stop() == 0
    assert not service.said("worker process died")


def test_a_stalled_worker_is_replaced(start: Start) -> None:
    service = start(STALL_LIMIT_MS="1000", LEASE_TTL_MS="1000").ready()
    pid = service.workers()[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: not alive(pid), "killed")
    service.ready()
    assert "stood still" in service.said("worker process killed")[0]["reason"]


async def test_a_deaf_worker_is_never_called_healthy_and_is_replaced(valkey: RunningServer, tmp_path: Path) -> None:
    deaf_while, facts = tmp_path / "deaf", list[object]()
    variables = {"NAMESPACE": f"t{uuid.uuid4().hex[:10]}", "WORKER_COUNT": "1", "LEASE_TTL_MS": "5000"}
    variables |= {"STALL_LIMIT_MS": "6000", "POLL_INTERVAL_MS": "100", "REDIS_URL": valkey.url}
    service = WorkerService(
        Settings.from_mapping(variables),
        str(APP),
        emit=facts.append,
        module="tests.integration.deaf_child",
        inherited={**os.environ, "PYTHONPATH": str(ROOT), "DEAF_WHILE": str(deaf_while)},
    )
    running = asyncio.create_task(service.run())

    async def until(look: Callable[[], T], within_s: float = 20) -> T:
        deadline = time.monotonic() + within_s
        while not (found := look()):
            assert time.monotonic() < deadline, (service.health(), facts)
            await asyncio.sleep(0.02)
        return found

    try:
        await until(lambda: service.health().status == "healthy")
        deaf_while.touch()
        await until(lambda: service.health().status != "healthy")
        seen = set[tuple[str, str]]()
        while not (ended := [fact for fact in facts if isinstance(fact, ProcessEnded)]):
            health = service.health()
            seen |= {(health.status.value, reason.partition(" for ")[0]) for reason in health.workers[0].reasons}
            assert health.status != "healthy"
            await asyncio.sleep(0.02)
            assert len(seen) < 20
        assert ("degraded", "intake stands still") in seen
        assert ("unhealthy", "intake stands still") in seen
        assert (ended[0].code, ended[0].planned) == (1, False)
        assert ended[0].reason.startswith("intake stood still for 6.")
        deaf_while.unlink()
        await until(lambda: not any("stands still" in reason for reason in service.health().reasons))
        await until(lambda: [worker.phase for worker in service.workers()] == ["running"])
        deaf_while.touch()
    finally:
        began = time.monotonic()
        service.stop()
        await asyncio.wait([running], timeout=30)
    assert running.exception() is None
    assert time.monotonic() - began < 5, "a deaf worker drains like any other"
    assert [fact.code for fact in facts if isinstance(fact, ProcessEnded)][1:] == [0]


async def test_an_open_address_shows_strangers_the_status_alone(start: Start) -> None:
    assert "API_TOKEN" in await refused(APP, ConfigurationError, HOST="0.0.0.0")

    service = start(HOST="0.0.0.0", API_TOKEN="s3cr3t-t0ken").ready()
    assert service.get("/api/health/worker") == (200, {"status": "healthy"})
    for path in ("/metrics", "/api/workers", "/api/openapi.json"):
        assert service.get(path)[0] == 401
    assert service.post("/api/scale", {"workers": 2})[0] == 401
    bearer = {"Authorization": "Bearer s3cr3t-t0ken"}
    assert service.post("/api/scale", {"workers": 2}, **bearer)[0] == 202
    eventually(lambda: len(service.said("worker started")) == 2, "a second worker")
    assert "s3cr3t" not in service.log.read_text()
    assert service.stop() == 0


def test_bodies_that_are_too_large_or_not_json(shared: Running) -> None:
    service = shared
    assert service.post("/api/events", {"type": "ping", "data": "x" * 1_100_000})[0] == 413
    assert service.post("/api/events", {"type": "ping", "data": "x" * 300_000})[0] == 400
    form = urllib.request.Request(f"http://127.0.0.1:{service.port}/api/scale", b'{"workers": 3}')
    form.add_header("Content-Type", "text/plain")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(form, timeout=5)
    assert refused.value.code == 415
    refused.value.close()
    assert service.post("/api/events", {"id": "one", "type": "ping", "data": {"name": "n"}})[0] == 202
    assert service.post("/api/events", {"id": "one", "type": "ping", "data": {"name": "n"}})[1]["duplicate"] is True


def test_a_worker_process_imports_no_web_and_no_command_line() -> None:
    code = "import sys, workflow_worker.service.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    heavy = {"fastapi", "starlette", "uvicorn", "typer", "click", "rich", "pydantic", "prometheus_client", "watchfiles"}
    assert not heavy & set(done.stdout.split())


async def test_health_answers_at_once_while_the_supervisor_is_busy_and_workers_die(valkey: RunningServer) -> None:
    variables = {"REDIS_URL": valkey.url, "NAMESPACE": f"t{uuid.uuid4().hex[:10]}", "PORT": "0", "WORKER_COUNT": "2"}
    service = WorkerService(Settings.from_mapping(variables), str(APP), emit=lambda _: None)
    with WebServer(service) as web:
        url = f"http://127.0.0.1:{web.port}/api/health/worker"
        assert url.startswith(service.web_address)

        def ask() -> float:
            began = time.monotonic()
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    report = json.loads(answer.read())
            except urllib.error.HTTPError as unhealthy:
                with unhealthy:
                    report = json.loads(unhealthy.read())
            assert len(report) == 10
            return time.monotonic() - began

        def ask_often() -> list[float]:
            try:
                return [ask() for _ in range(50)]
            finally:
                answered.set()

        answered = threading.Event()
        running = asyncio.create_task(service.run())
        waits: list[float] = []
        for busy in (True, False):
            while [worker.phase for worker in service.workers() if alive(worker.pid)] != ["running", "running"]:
                assert not running.done()
                await asyncio.sleep(0.02)
            answered.clear()
            asking = asyncio.get_running_loop().run_in_executor(None, ask_often)
            for worker in service.workers():
                os.kill(worker.pid, signal.SIGKILL)
            while busy and not answered.is_set():
                pass  # the supervisor's loop, which is this one, does nothing else, and the interpreter is contended
            waits += await asking
        service.stop()
        await running
    waits.sort()
    print(f"\nhealth, 100 requests: median {waits[50] * 1000:.0f} ms, longest {waits[-1] * 1000:.0f} ms")
    assert waits[-1] < 0.2, waits
