"""The demo's service: ``workflow-worker start`` in a process of its own, spoken to over HTTP as by any operator."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from workflow_worker.cli.service_http import ask_service
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.settings import Settings, variable_of

_APP = "workflow_worker.cli.demo_app:app"
_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 15.0
_HEALED_WITHIN_S = 8.0
_PASSED_ON = {"LOG_LEVEL"}


class DemoService:
    """Starts, watches and stops it; what it logs goes into ``service.log`` of the folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        port = _free_port()
        ours = {variable_of(each.name).name for each in fields(Settings)} - _PASSED_ON
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        self._environment = inherited | dict(environment) | {"HOST": "127.0.0.1", "PORT": str(port)}
        self._settings = Settings.from_mapping(self._environment)
        self._folder = folder
        self._log = folder / "service.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Begin, and wait until it calls itself healthy.

        Raises:
            TimeoutError: It did not within half a minute, or has ended.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "workflow_worker", "start", _APP),
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the service in order
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline and self._process.returncode is None:
            try:
                if (await self.health()).get("status") == "healthy":
                    return
            except StoreUnavailable:
                pass
            await asyncio.sleep(0.05)
        raise TimeoutError("the service did not start")

    async def health(self) -> dict[str, Any]:
        """The ten fields of ``GET /api/health/worker``."""
        _, report = await asyncio.to_thread(ask_service, self._settings, "GET", "/api/health/worker")
        return report

    async def healed(self) -> dict[str, Any]:
        """The health report when all workers are healthy again, or as it is after a while."""
        deadline = time.monotonic() + _HEALED_WITHIN_S
        while True:
            report = await self.health()
            if report.get("status") == "healthy" or time.monotonic() > deadline:
                return report
            await asyncio.sleep(0.05)

    async def workers(self) -> list[dict[str, Any]]:
        """The worker processes: pid, session, how many runs each holds."""
        _, found = await asyncio.to_thread(ask_service, self._settings, "GET", "/api/workers")
        return found["items"]

    async def stop(self) -> None:
        """SIGTERM; SIGKILL for one that does not end."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def effects(self) -> int:
        """How many actions were performed, by their own traces."""
        trace = Path(self._environment["ORDERS_EFFECTS"])
        return len(trace.read_bytes().splitlines()) if trace.exists() else 0

    def last_lines(self) -> list[str]:
        """The end of the service's log, for whoever asks what went wrong."""
        return self._log.read_text(errors="replace").splitlines()[-15:] if self._log.exists() else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
