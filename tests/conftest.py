"""Fixtures that need a real server. Nothing here starts one unless a test asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.servers import RunningServer, server_binary


def pytest_configure() -> None:
    """Started in the background by a shell, tests would hand on that Ctrl-C is ignored, also to who is sent it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One Valkey for all tests of this process (of this xdist worker): use a namespace of your own, never break it."""
    with RunningServer(server_binary("valkey-9.1"), tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(params=[each.name for each in servers.SERVERS])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    """A server for one test alone, of each kind there is, or of those named by indirect parametrisation."""
    with RunningServer(server_binary(str(request.param)), tmp_path / "server") as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens at."""
    return servers.free_port()
