"""Restate: a handler of three journalled no-op steps behind its server, called over HTTP.

Without a command this module is the handler's ASGI application, which hypercorn serves in a process of its own.
"""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import restate
import uvloop

from bench.peers.engine import drive, free_port, listens, running, until

CALLERS = 32
service = restate.Service("Bench")


async def step() -> int:
    """One recorded no-op."""
    return 1


@service.handler()
async def three_steps(context: restate.Context, number: int) -> int:
    """Three steps in a row."""
    for name in ("a", "b", "c"):
        await context.run_typed(name, step)
    return number


app = restate.app([service])


class Callers:
    """Calls over kept-alive connections, written out here so that an HTTP client's cost is not measured."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._request = (
            f"POST /Bench/three_steps HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
            "content-type: application/json\r\ncontent-length: 1\r\n\r\n7"
        ).encode()

    async def call(self, _: int) -> None:
        """One workflow, from its start to its result.

        Raises:
            RuntimeError: It was not answered with 200.
        """
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError((head + await reader.read(300)).decode(errors="replace"))
        if b"content-length:" in head:
            await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        else:
            while size := int((await reader.readline()).strip() or b"0", 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        self._idle.append((reader, writer))


def register(admin_port: int, handler_port: int) -> None:
    """Tell the server where the handler is."""
    body = json.dumps({"uri": f"http://127.0.0.1:{handler_port}", "force": True}).encode()
    address = f"http://127.0.0.1:{admin_port}/deployments"
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def answers(port: int, path: str) -> bool:
    """Whether a health check says yes."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """``workflows N``: see `drive`."""
    home = Path(os.environ["BENCH_HOME"])
    ingress, admin, node, handler = (free_port() for _ in range(4))
    settings = {
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_DEFAULT_NUM_PARTITIONS": "4",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "DO_NOT_TRACK": "1",
    }
    serve = [str(home / "bin" / "hypercorn"), "--worker-class", "uvloop", "--workers", "1", "--bind"]
    serve += [f"127.0.0.1:{handler}", "bench.peers.restate_peer:app"]
    root = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        server = [str(home / "node_modules" / ".bin" / "restate-server"), "--base-dir", str(folder / "data")]
        with (
            running(server, folder / "server.log", settings),
            running(serve, folder / "handler.log", {"PYTHONPATH": root}),
        ):
            until(lambda: answers(admin, "/health") and listens(handler), "Restate's server came up")
            register(admin, handler)
            until(lambda: answers(ingress, "/restate/health"), "Restate's ingress came up")
            uvloop.run(drive(Callers(ingress).call, CALLERS))


if __name__ == "__main__":
    main()
