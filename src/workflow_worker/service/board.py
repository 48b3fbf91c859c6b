"""`Board`: memory that the service and its workers share, one row of vital signs per worker process.

A worker's `SharedSigns` are not copied here from time to time, they live here: what a worker has counted is counted,
however it dies, and the service reads without asking anybody. Each row has one writer, a number is eight aligned
bytes, and every number is read on its own, so there is no lock between processes.

The memory is an unnamed file that the worker inherits as a descriptor; nothing is left behind, whoever dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from enum import IntEnum
from threading import Lock
from typing import cast

from workflow_worker.model.settings import MAX_WORKERS
from workflow_worker.model.vitals import VITAL_NUMBERS, VitalSigns, WorkerPhase

ROWS = 2 * MAX_WORKERS + 64
"""One per worker, twice while a reload replaces them, and some that still drain."""

OUTAGE_EVERY_MS = 4_900
"""Just below the 5 s after which a worker repeats that Redis is gone, so that one of them always gets through."""

_TEXT_BYTES = 512
_NUMBER_BYTES = 8
_ROW_BYTES = VITAL_NUMBERS * _NUMBER_BYTES + 2 * _TEXT_BYTES
_TOPICS_BYTES = 64
_HEAD_BYTES = _TOPICS_BYTES + _TEXT_BYTES


class Topic(IntEnum):
    """What one of many processes says for all."""

    STORE_LOST = 0
    STORE_BACK = 1
    STORE_REPLACED = 2
    STORE_FILLING = 3
    STORE_RELIEVED = 4
    NOTHING_TO_RUN = 5
    CODE_SUSPECTED = 6


class SharedSigns(VitalSigns):
    """Vital signs whose numbers are cells of a board's row; the worker uses them like any others."""

    __slots__ = ("_cells",)
    _cells: memoryview

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        super().__init__()
        # `VitalSigns` has just made a list of zeros; the buckets are cells too.
        buckets = cells[len(self.SCALARS) :]
        for index in range(len(buckets)):
            buckets[index] = 0
        self.latency_buckets = cast("list[int]", buckets)

    def flatten(self) -> list[int]:
        """All numbers, as `VitalSigns.flatten`."""
        return self._cells.tolist()


def _cell(index: int) -> property:
    def read(signs: SharedSigns) -> int:
        return signs._cells[index]  # pyright: ignore[reportPrivateUsage] - an accessor of that class

    def write(signs: SharedSigns, number: int) -> None:
        signs._cells[index] = number  # pyright: ignore[reportPrivateUsage] - an accessor of that class

    return property(read, write)


for _index, _name in enumerate(VitalSigns.SCALARS):
    setattr(SharedSigns, _name, _cell(_index))


class Row:
    """One worker process's part of the board: its vital signs, its session's name, and its last words."""

    def __init__(self, memory: memoryview[int]) -> None:
        numbers = VITAL_NUMBERS * _NUMBER_BYTES
        self._cells = memory[:numbers].cast("q")
        self._session = memory[numbers : numbers + _TEXT_BYTES]
        self._last_words = memory[numbers + _TEXT_BYTES :]

    def write_signs(self) -> SharedSigns:
        """Begin a worker's life in this row: all numbers are zero. For the worker's process."""
        return SharedSigns(self._cells)

    def read_signs(self) -> VitalSigns:
        """A copy of the numbers as they are now."""
        return VitalSigns.unflatten(self._cells.tolist())

    @property
    def session(self) -> str:
        """The session that the worker has open, empty before it has one."""
        return _read_text(self._session)

    @session.setter
    def session(self, name: str) -> None:
        _write_text(self._session, name)

    @property
    def last_words(self) -> str:
        """Why the worker could not start; empty if it said nothing."""
        return _read_text(self._last_words)

    @last_words.setter
    def last_words(self, text: str) -> None:
        _write_text(self._last_words, text)

    def clear(self) -> None:
        """Make the row ready for another worker."""
        for index in range(len(self._cells)):
            self._cells[index] = 0
        self.session = ""
        self.last_words = ""


class Board:
    """The rows, and the sum of what dead workers have counted. Its methods may be called from any thread."""

    def __init__(self, descriptor: int | None = None) -> None:
        size = _HEAD_BYTES + ROWS * _ROW_BYTES
        self._descriptor = _unnamed_file(size) if descriptor is None else descriptor
        self._map = mmap.mmap(self._descriptor, size)
        self._memory = memoryview(self._map)
        self._head = self._memory[:_TOPICS_BYTES].cast("q")
        self._epoch = self._memory[_TOPICS_BYTES:_HEAD_BYTES]
        self._taken: set[int] = set()
        self._dead = VitalSigns()
        self._lock = Lock()

    @property
    def descriptor(self) -> int:
        """What a worker process inherits to join this board."""
        return self._descriptor

    @property
    def epoch(self) -> str:
        """The mark of the namespace that these workers saw last, empty before the first session."""
        return _read_text(self._epoch)

    @epoch.setter
    def epoch(self, mark: str) -> None:
        _write_text(self._epoch, mark)

    def row(self, number: int) -> Row:
        """The row of this number."""
        start = _HEAD_BYTES + number * _ROW_BYTES
        return Row(self._memory[start : start + _ROW_BYTES])

    def take_row(self) -> int:
        """A free row for a new worker process."""
        with self._lock:
            number = min(set(range(ROWS)) - self._taken)
            self._taken.add(number)
            self.row(number).clear()
            return number

    def bury(self, number: int) -> VitalSigns:
        """A worker process has ended: keep its counts in the sum, free its row; returns its last signs."""
        row = self.row(number)
        with self._lock:
            last = row.read_signs()
            _add(self._dead, last)
            row.clear()
            self._taken.discard(number)
        return last

    def totals(self) -> VitalSigns:
        """What all workers have counted, dead ones too; of the other numbers `executing`, `held` and `hanging` are
        summed, and `store_memory` is the highest."""
        total = VitalSigns()
        with self._lock:
            _add(total, self._dead)
            for number in self._taken:
                signs = self.row(number).read_signs()
                _add(total, signs)
                if signs.phase != WorkerPhase.STOPPED:
                    total.executing += signs.executing
                    total.held += signs.held
                    total.hanging += signs.hanging
                    total.store_memory = max(total.store_memory, signs.store_memory)
        # A reader may come between a worker's two additions; the report must add up all the same.
        total.processed = total.succeeded + total.failed
        return total

    def may_speak(self, topic: Topic, now: int, every_ms: int) -> bool:
        """Tell whether nobody on this board has spoken of this within `every_ms`; then it is the caller's to do so.

        All workers notice together that Redis is gone; one of them says so. The file lock is between processes.
        """
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _NUMBER_BYTES, topic * _NUMBER_BYTES)
        try:
            last = self._head[topic]
            if last and now - last < every_ms:
                return False
            self._head[topic] = now
            return True
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _NUMBER_BYTES, topic * _NUMBER_BYTES)

    def close(self) -> None:
        """Let go of the descriptor; the memory itself goes with its last user."""
        os.close(self._descriptor)


def _add(total: VitalSigns, signs: VitalSigns) -> None:
    for name in VitalSigns.COUNTS:
        setattr(total, name, getattr(total, name) + getattr(signs, name))
    total.latency_buckets = [a + b for a, b in zip(total.latency_buckets, signs.latency_buckets, strict=True)]


def _unnamed_file(size: int) -> int:
    """A descriptor of `size` zero bytes without a name: memory where the system has it (memfd_create(2) on Linux)."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("workflow-worker-board")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _write_text(cells: memoryview, text: str) -> None:
    """The length last: a reader sees the old text, the new one, or (length 0) none."""
    encoded = text.encode()[: len(cells) - 2]
    cells[0:2] = b"\0\0"
    cells[2 : 2 + len(encoded)] = encoded
    cells[0:2] = len(encoded).to_bytes(2, "little")


def _read_text(cells: memoryview) -> str:
    length = int.from_bytes(cells[0:2], "little")
    return bytes(cells[2 : 2 + length]).decode(errors="replace")
