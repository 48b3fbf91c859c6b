"""The app that is measured: workflows that do nothing, at three sizes, one that waits, one that sleeps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.ticks import tick
from workflow_worker import App, wf

app = App("bench")


@app.event("bench.noop")
@dataclass(frozen=True, slots=True)
class Noop:
    """Starts a run that does nothing."""

    at: int
    note: str


@app.event("bench.ping")
@dataclass(frozen=True, slots=True)
class Ping:
    """Starts a run of one action; `at` is the publisher's monotonic clock in ns."""

    at: int
    note: str


@app.event("bench.steps")
@dataclass(frozen=True, slots=True)
class Steps:
    """Starts a run of three actions."""

    at: int
    note: str


@app.event("bench.parcel", subject="number")
@dataclass(frozen=True, slots=True)
class Parcel:
    """Starts a run that waits for its `Delivered`."""

    number: str
    note: str


@app.event("bench.delivered", subject="number")
@dataclass(frozen=True, slots=True)
class Delivered:
    """Never published: what the waiting runs wait for."""

    number: str


@app.event("bench.nap")
@dataclass(frozen=True, slots=True)
class Nap:
    """Starts a run that sleeps until `due`, seconds since 1970; `at` is that instant by the monotonic clock in ns, or 0
    if nobody wants to know when it woke."""

    due: float
    at: int


@app.action
async def begin(at: int) -> None:
    """Note that an action has begun."""
    tick(at)


@app.action
async def step(number: int) -> int:
    """One recorded no-op."""
    return number


@app.workflow(on=Noop)
async def noop(event: Noop) -> None:
    """Begin, and nothing else."""


@app.workflow(on=Ping)
async def ping(event: Ping) -> None:
    """One action."""
    await begin(event.at)


@app.workflow(on=Steps)
async def three_steps(event: Steps) -> int:
    """Three actions in a row, each fed with the result before."""
    return await step(await step(await step(event.at)))


@app.workflow(on=Parcel)
async def delivery(parcel: Parcel) -> None:
    """Wait until somebody says that it has arrived."""
    await wf.wait_for(Delivered)


@app.workflow(on=Nap)
async def nap(event: Nap) -> None:
    """Sleep, and say when that was over."""
    await asyncio.sleep(event.due - asyncio.get_running_loop().time())
    if event.at:
        await begin(event.at)
