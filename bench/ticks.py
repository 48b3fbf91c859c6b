"""Counting completions and delays across processes, the same way and at the same price for everybody.

Each worker process owns one small file under the folder named by BENCH_TICKS, mapped into memory; a tick is two clock
reads and one store, with no system call and no lock. The harness reads the files of all processes. Standard library
only: this module is imported in the peers' environments.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "BENCH_TICKS"
_SAMPLES = 4_096
_HEAD = struct.Struct("<qqq")
_SAMPLE = struct.Struct("<q")
_SIZE = _HEAD.size + _SAMPLES * _SAMPLE.size


class _Sheet:
    """This process's file: count, first and last instant, then the delays of stamped ticks (all in ns)."""

    def __init__(self, folder: Path) -> None:
        self.pid = os.getpid()
        self._count = 0
        self._first = 0
        self._stamped = 0
        with (folder / str(self.pid)).open("w+b") as file:
            file.truncate(_SIZE)
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def tick(self, stamp: int) -> None:
        now = time.monotonic_ns()
        if stamp and self._stamped < _SAMPLES:
            _SAMPLE.pack_into(self._map, _HEAD.size + self._stamped * _SAMPLE.size, now - stamp)
            self._stamped += 1
        self._count += 1
        self._first = self._first or now
        _HEAD.pack_into(self._map, 0, self._count, self._first, now)


_sheets: dict[int, _Sheet] = {}
_opening = threading.Lock()


def tick(stamp: int = 0) -> None:
    """Note that a task or action has begun here; with `stamp`, the publisher's `time.monotonic_ns`, also the delay."""
    pid = os.getpid()
    sheet = _sheets.get(pid)
    if sheet is None:
        # Keyed by process: the sheet that a fork inherited belongs to its parent.
        with _opening:
            sheet = _sheets.get(pid)
            if sheet is None:
                sheet = _sheets[pid] = _Sheet(Path(os.environ[VARIABLE]))
    sheet.tick(stamp)


@dataclass(frozen=True)
class Tally:
    """What all processes ticked together: how often, and the first and last instant (monotonic ns)."""

    count: int
    first: int
    last: int


def tally(folder: Path) -> Tally:
    """Add up the sheets in `folder`."""
    heads = [_HEAD.unpack(sheet.read_bytes()[: _HEAD.size]) for sheet in folder.iterdir() if sheet.stat().st_size]
    used = [head for head in heads if head[0]]
    if not used:
        return Tally(0, 0, 0)
    return Tally(sum(head[0] for head in used), min(head[1] for head in used), max(head[2] for head in used))


def delays_ms(folder: Path) -> list[float]:
    """All recorded delays, in milliseconds."""
    found: list[float] = []
    for sheet in folder.iterdir():
        body = sheet.read_bytes()[_HEAD.size :]
        found += [value / 1e6 for (value,) in _SAMPLE.iter_unpack(body) if value]
    return found
