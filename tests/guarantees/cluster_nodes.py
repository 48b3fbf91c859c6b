"""A Redis Cluster of two nodes on loopback."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from tests.guarantees.service import eventually
from tests.support.servers import RunningServer, free_port, server_binary


@asynccontextmanager
async def foreign_node(folder: Path) -> AsyncGenerator[RunningServer]:
    """A node of a cluster of two, the one that does not hold our keys."""
    with ExitStack() as stack:
        binary, buses = server_binary("valkey-9.1"), (free_port(), free_port())
        nodes = [
            stack.enter_context(
                RunningServer(binary, folder / f"{bus}", port=free_port(), cluster_enabled=True, cluster_port=bus)
            )
            for bus in buses
        ]
        ours = int(nodes[0].command("CLUSTER", "KEYSLOT", "ww:{ww:0}:events").removeprefix(":"))
        nodes[0].command("CLUSTER", "ADDSLOTSRANGE", "0", str(ours - 1), str(ours + 1), "16383")
        nodes[1].command("CLUSTER", "ADDSLOTS", str(ours))
        nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port), str(buses[1]))
        await eventually(lambda: nodes[0].command("XLEN", "ww:{ww:0}:events").startswith("-MOVED"), 20, "a cluster")
        yield nodes[0]
