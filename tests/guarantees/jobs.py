"""An app whose runs do what their start event says, step by step, and whose actions leave a trace of every attempt."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from workflow_worker import App, RetryPolicy, Rule, action, wf
from workflow_worker.model.event import Event

RETRY_S = 0.05


class Stumbled(Exception):
    """Comes right after some attempts."""


class Hopeless(Exception):
    """Never comes right by itself."""


@dataclass(frozen=True)
class JobAsked:
    """`steps` are ``kind:argument``: ``nap:300`` ``burn:300`` (ms) ``note`` ``hold`` ``stumble:2`` ``park``
    ``timer:300`` ``told:3``."""

    job: str
    steps: tuple[str, ...] = ("note",)


@dataclass(frozen=True)
class JobTold:
    """Something that a waiting job is told."""

    job: str
    word: int


@dataclass(frozen=True)
class JobRepeated:
    """Starts a run, or an ended run anew."""

    job: str


@dataclass(frozen=True)
class Line:
    """One line of the trace: an attempt of the action at `place` of a job begins or ends."""

    job: str
    place: int
    phase: str
    key: str
    attempt: int
    token: int
    pid: int


def make_app(trace: Path, allowed: Path | None = None) -> App:
    """The app; its actions write to `trace`. Once the file `allowed` exists, ``hold`` ends and ``park`` succeeds."""
    app = App("jobs")
    app.event("job.asked", subject="job")(JobAsked)
    app.event("job.told", subject="job")(JobTold)
    app.event("job.repeated", subject="job")(JobRepeated)
    policy = RetryPolicy(
        Rule(Stumbled).recoverable(), Rule(Hopeless).permanent(), initial=RETRY_S, factor=1, jitter="none", attempts=60
    )

    @app.action(retry=policy, timeout=60)
    async def act(job: str, place: int, kind: str, argument: int) -> int:
        write(trace, job, place, "begin")
        await _body(kind, argument, lambda: allowed is not None and allowed.exists())
        write(trace, job, place, "end")
        return place

    @app.action(timeout=60)
    def act_in_thread(job: str, place: int, argument: int) -> int:
        write(trace, job, place, "begin")
        time.sleep(argument / 1000)
        write(trace, job, place, "end")
        return place

    @app.workflow(on=JobAsked, id="{job}")
    async def perform(asked: JobAsked) -> list[int]:
        done: list[int] = []
        for place, step in enumerate(asked.steps):
            kind, _, rest = step.partition(":")
            argument = int(rest or 0)
            match kind:
                case "timer":
                    await asyncio.sleep(argument / 1000)
                    done.append(place)
                case "told":
                    for _ in range(argument):
                        done.append((await wf.wait_for(JobTold)).word)
                        wf.state(words=len(done))
                case "thread":
                    done.append(await act_in_thread(asked.job, place, argument))
                case _:
                    done.append(await act(asked.job, place, kind, argument))
        return done

    @app.workflow(on=JobRepeated, id="{job}", on_existing="restart")
    async def repeat(repeated: JobRepeated) -> int:
        return await act(repeated.job, 0, "note", 0)

    assert (perform.name, repeat.name) == ("perform", "repeat")
    return app


async def _body(kind: str, argument: int, allowed: Callable[[], bool]) -> None:
    match kind:
        case "nap":
            await asyncio.sleep(argument / 1000)
        case "burn":
            until = time.monotonic() + argument / 1000
            while time.monotonic() < until:
                pass  # as code does that computes: neither the loop nor a thread gets a turn by our help
        case "hold":
            while not allowed():  # noqa: ASYNC110 - another process says so, by a file
                await asyncio.sleep(0.01)
        case "stumble" if action.attempt <= argument:
            raise Stumbled(f"attempt {action.attempt}")
        case "park" if not allowed():
            raise Hopeless("nobody allowed it")
        case _:
            pass


def write(trace: Path, job: str, place: int, phase: str) -> None:
    """Append one line about the current attempt; lines of several processes never mix."""
    line = Line(job, place, phase, action.idempotency_key, action.attempt, action.fencing_token, os.getpid())
    handle = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, json.dumps(asdict(line)).encode() + b"\n")
    finally:
        os.close(handle)


def read_trace(trace: Path) -> list[Line]:
    """All lines, in the order in which they were written."""
    if not trace.exists():
        return []
    return [msgspec.json.decode(line, type=Line) for line in trace.read_bytes().splitlines()]


def job_event(job: str, steps: Sequence[str], event_id: str = "") -> Event:
    """The start event of a job."""
    data = msgspec.json.encode(JobAsked(job, tuple(steps)))
    return Event(event_id or f"asked-{job}", "job.asked", job, data)
