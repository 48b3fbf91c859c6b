"""`Contestant`: whom we measure, how its program and workers are started, and how its completions are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bench.server import Server


class Workload(Enum):
    """What can be measured of a contestant."""

    NOOP = "no-op events queued first, then one and two worker processes"
    LATENCY = "publish to start of the action, idle, one at a time"
    THREE_STEPS = "durable workflows of three steps, queued first, one worker process"
    EMBEDDED = "durable workflows of three steps, called directly in one process"
    WAITING = "runs that wait for an event"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One line of the table.

    Args:
        name: Short; what PEERS names.
        title: For people, with versions.
        settings: How it was set up, for people.
        lacks: What it does not promise and this project does; empty for ourselves.
        python: The interpreter that its program runs in.
        program: Module with the commands ``publish``, ``latency``, ``workflows`` … (see `load`).
        workloads: What is measured of it.
        workers: From the number of worker processes and the server's URL the arguments and variables that start them;
            None if it works in the calling process.
        environment: Variables for program and workers.
        completed: Reads from the server how many of a workload are durably done; None: the ticks tell.
    """

    name: str
    title: str
    settings: str
    lacks: str
    python: Path
    program: str
    workloads: frozenset[Workload]
    workers: Callable[[int, str], tuple[list[str], dict[str, str]]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    completed: Callable[[Server, Workload], int] | None = None
