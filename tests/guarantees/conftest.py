"""Servers and services for the promises: each test gets a server of its own, because most of them break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guarantees.service import Service
from tests.guarantees.trial import Trial
from tests.support.servers import RunningServer, free_port, server_binary


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A Valkey server with its append-only file on, which survives a SIGKILL."""
    server = RunningServer(server_binary("valkey-9.1"), tmp_path / "server", appendonly=True)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def make_service(durable_server: RunningServer, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Make services on the durable server; all are killed at the end."""
    made: list[Service] = []

    def make(**environment: str) -> Service:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        service = Service(durable_server.url, free_port(), folder, environment=environment)
        made.append(service)
        return service.start()

    yield make
    for service in made:
        service.kill()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RunningServer]]:
    """Servers by name, one of each for all tests of this process: use a namespace of your own, never break one."""
    running: dict[str, RunningServer] = {}
    with ExitStack() as stack:

        def get(name: str) -> RunningServer:
            if name not in running:
                server = RunningServer(server_binary(name), tmp_path_factory.mktemp(name))
                running[name] = stack.enter_context(server)
            return running[name]

        yield get


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, shared_server: Callable[[str], RunningServer], tmp_path: Path
) -> Iterator[Trial]:
    """A namespace of this test's own on a shared Valkey, or on the server named by indirect parametrisation."""
    name = getattr(request, "param", "valkey-9.1")
    trial = Trial(shared_server(name), tmp_path, namespace=f"t-{tmp_path.name[-50:]}")
    yield trial
    trial.kill_all()


@pytest.fixture
def durable_trial(durable_server: RunningServer, tmp_path: Path) -> Iterator[Trial]:
    """A trial on a server of its own, which may be killed."""
    trial = Trial(durable_server, tmp_path)
    yield trial
    trial.kill_all()
