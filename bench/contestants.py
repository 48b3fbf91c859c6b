"""`Contestant`: whom we measure, how its program and workers are started, and how its completions are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from bench.server import Server


class Workload(Enum):
    """What can be measured of a contestant."""

    NOOP = "no-op events queued first, then one and two worker processes"
    CALLERS = "events published one by one, by many callers at once"
    LATENCY = "publish to start of the action, idle, one at a time"
    START_UP = "start of one worker to the start of the first, queued, event"
    THREE_STEPS = "durable workflows of three steps, queued first, one worker process"
    ENGINE = "durable workflows of three steps, driven by the engine's own program"
    WAITING = "runs that wait for an event"
    TIMERS = "runs that sleep until the same second, and one that sleeps alone"
    GROWTH = "what one event costs beside little and much other work"


ONCE = frozenset({Workload.TIMERS, Workload.GROWTH})
"""Long ones, measured in the first repetition only."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One line of the table.

    Args:
        name: Short; what PEERS names.
        title: For people, with versions.
        settings: How it was set up, for people.
        lacks: What it does not promise and this project does, each in a few words; empty for ourselves.
        note: What else a reader of its figures must know.
        program: How its program is started; the commands ``publish``, ``callers``, ``latency`` … follow (see `load`).
        workloads: What is measured of it.
        workers: From the number of worker processes and the server's URL the arguments and variables that start them;
            None if its program does all.
        environment: Variables for program and workers.
        completed: Reads from the server how many of a workload are durably done; None: the ticks tell.
        id_bytes: Reads from the server what one remembered event id takes.
        noop_share: What share of the no-op events it gets, so that a slow one is measured for seconds, not minutes.
    """

    name: str
    title: str
    settings: str
    program: tuple[str, ...]
    workloads: frozenset[Workload]
    lacks: tuple[str, ...] = ()
    note: str = ""
    workers: Callable[[int, str], tuple[list[str], dict[str, str]]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    completed: Callable[[Server, Workload], int] | None = None
    id_bytes: Callable[[Server], float] | None = None
    noop_share: float = 1.0
