"""Servers and services for the promises: each test gets a server of its own, because most of them break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guarantees.service import Service
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
