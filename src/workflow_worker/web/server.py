"""`WebServer`: answers HTTP on a thread of its own, so that health is told also while the supervisor is busy."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.settings import Settings
from workflow_worker.service.service import WorkerService
from workflow_worker.web.access import StoreAccess
from workflow_worker.web.api import build_api
from workflow_worker.web.guard import Guard

_STOP_WITHIN_S = 5
_KEEP_ALIVE_S = 5


class WebServer:
    """Bound when it is made, so that a bad HOST or PORT stops the start; answers between `start` and `stop`.

    Also a context manager: ``with WebServer(service): await service.run()``.

    Raises:
        ConfigurationError: The port is taken, HOST is not ours, or HOST needs API_TOKEN.
    """

    def __init__(self, service: WorkerService) -> None:
        settings = service.settings
        guard = Guard(settings)
        self._socket = _bound_socket(settings)
        self.port: int = self._socket.getsockname()[1]
        host = settings.host.strip("[]")
        service.web_address = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._access = StoreAccess(service.open_store, settings.max_event_bytes)
        self._server = uvicorn.Server(
            uvicorn.Config(
                build_api(service, guard, self._access),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_STOP_WITHIN_S,
            )
        )
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_WITHIN_S + 1)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.serve([self._socket])
        finally:
            await self._access.aclose()


def _bound_socket(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigurationError(f"HOST={settings.host!r} is not usable: {error.strerror}") from error
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(512)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigurationError(f"HOST={settings.host!r} is not usable: no address of this machine") from error
        why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigurationError(
            f"PORT={settings.port} is not usable on {settings.host}: {why}; choose another, 0 takes any free one"
        ) from error
    return bound
