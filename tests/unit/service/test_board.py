"""Numbers on the board: shared, kept after death, added up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from workflow_worker.model.vitals import LATENCY_BOUNDS_MS, VITAL_NUMBERS, VitalSigns, WorkerPhase
from workflow_worker.service.board import ROWS, Board, Topic

_WRITER = """
import os, sys
from workflow_worker.service.board import Board, Topic
board = Board(int(sys.argv[1]))
row = board.row(int(sys.argv[2]))
signs = row.write_signs()
signs.processed += 3
signs.succeeded += 3
row.session = "the session"
print(board.may_speak(Topic.STORE_LOST, 10_500, 5_000))
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.close()


def test_signs_live_in_the_row(board: Board) -> None:
    row = board.row(board.take_row())
    signs = row.write_signs()
    signs.phase = WorkerPhase.RUNNING
    signs.processed += 2
    signs.observe_latency(3)
    signs.observe_latency(10**9)
    copy = row.read_signs()
    assert (copy.phase, copy.processed) == (WorkerPhase.RUNNING, 2)
    assert copy.latency_buckets[LATENCY_BOUNDS_MS.index(5)] == copy.latency_buckets[-1] == 1
    assert copy.flatten() == signs.flatten()
    assert len(signs.flatten()) == VITAL_NUMBERS == len(VitalSigns().flatten())


def test_every_number_has_a_cell_of_its_own(board: Board) -> None:
    signs = board.row(board.take_row()).write_signs()
    for number, name in enumerate(VitalSigns.SCALARS, 1):
        setattr(signs, name, number)
    assert signs.flatten()[: len(VitalSigns.SCALARS)] == list(range(1, len(VitalSigns.SCALARS) + 1))


def test_counts_outlive_a_killed_process_and_a_new_one_starts_from_zero(board: Board) -> None:
    number = board.take_row()
    done = subprocess.run(
        [sys.executable, "-c", _WRITER, str(board.descriptor), str(number)],
        pass_fds=(board.descriptor,),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert board.row(number).session == "the session"
    assert not board.may_speak(Topic.STORE_LOST, 15_000, 5_000)
    assert board.may_speak(Topic.STORE_LOST, 15_500, 5_000)
    assert board.bury(number).processed == 3
    assert board.totals().processed == 3
    again = board.take_row()
    assert again == number
    assert board.row(again).read_signs().processed == 0
    assert board.row(again).session == ""
    board.row(again).write_signs().succeeded += 1
    assert board.totals().succeeded == 4


def test_gauges_are_of_the_living_and_processed_always_adds_up(board: Board) -> None:
    first, second = (board.row(board.take_row()).write_signs() for _ in range(2))
    first.executing, second.executing, first.held = 2, 3, 7
    first.succeeded, first.failed, first.processed = 5, 1, 5  # between two additions of a worker
    totals = board.totals()
    assert (totals.executing, totals.held, totals.processed) == (5, 7, 6)
    assert (totals.roundtrip_at, totals.phase) == (0, 0)
    second.phase = int(WorkerPhase.STOPPED)
    assert board.totals().executing == 2


def test_rows_are_enough_and_texts_are_cut(board: Board) -> None:
    numbers = [board.take_row() for _ in range(ROWS)]
    assert sorted(numbers) == list(range(ROWS))
    row = board.row(numbers[-1])
    row.last_words = "ä" * 1_000
    assert row.last_words.startswith("ä" * 250)
    assert row.session == ""
    board.bury(numbers[17])
    assert board.take_row() == numbers[17]


def test_the_namespace_is_remembered_by_the_board_and_not_by_a_row(board: Board) -> None:
    assert board.epoch == ""
    board.epoch = "mark"
    number = board.take_row()
    board.bury(number)
    assert board.epoch == "mark"
    assert Board(os.dup(board.descriptor)).epoch == "mark"
    assert board.may_speak(Topic.STORE_REPLACED, 1, 60_000)
    assert board.epoch == "mark"


def test_what_is_no_count_dies_with_its_worker(board: Board) -> None:
    number = board.take_row()
    signs = board.row(number).write_signs()
    signs.hanging, signs.hung, signs.store_memory, signs.undead = 2, 3, 91, 4
    totals = board.totals()
    assert (totals.hanging, totals.hung, totals.store_memory) == (2, 3, 91)
    board.bury(number)
    totals = board.totals()
    assert (totals.hanging, totals.hung, totals.store_memory) == (0, 3, 0)
