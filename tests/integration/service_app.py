"""The app that `test_service.py` runs: one event starts one run of one action."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from workflow_worker import App

app = App("service-tests")


@app.event("ping")
@dataclass(frozen=True)
class Ping:
    """`pause` is how long the action takes, in seconds, and `block` how long one in a thread does before it."""

    name: str
    pause: float = 0.0
    block: float = 0.0


@app.action()
async def answer(name: str, pause: float) -> str:
    """Take the time that was asked for."""
    await asyncio.sleep(pause)
    return f"pong {name}"


@app.action(timeout=0.2)
def block(seconds: float) -> None:
    """Hold a thread, whatever the time limit says."""
    time.sleep(seconds)


@app.workflow(on=Ping, version=1)
async def pong(ping: Ping) -> str:
    """Answer the ping."""
    if ping.block:
        await block(ping.block)
    return await answer(ping.name, ping.pause)
