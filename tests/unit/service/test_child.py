"""What a worker process passes on to the log and to the board."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from workflow_worker.model.facts import Fact, StoreFilling, StoreLost, StoreReplaced, WorkerStarted
from workflow_worker.model.settings import Settings
from workflow_worker.service.board import Board
from workflow_worker.service.child import BoardSubscriber, limits_of
from workflow_worker.service.facts import CodeSuspected
from workflow_worker.service.logs import LogSubscriber


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.close()


class Heard(LogSubscriber):
    """Keeps facts instead of writing lines."""

    def __init__(self) -> None:
        super().__init__(Settings(), "", lambda line: None, console=False)
        self.facts: list[object] = []

    def __call__(self, fact: object) -> None:
        self.facts.append(fact)


def test_session_and_namespace_are_put_on_the_board(board: Board) -> None:
    row = board.row(board.take_row())
    BoardSubscriber(board, row, Heard())(WorkerStarted("w-1", "w-1.abc", "mark"))
    assert (row.session, board.epoch) == ("w-1.abc", "mark")


@pytest.mark.parametrize(
    "fact",
    [
        StoreLost("w", "refused", 5),
        StoreReplaced("w", "a", "b"),
        StoreFilling("w", 90, 85),
        CodeSuspected("shop", ("shop.py:3: [clock] …",)),
    ],
    ids=repr,
)
def test_what_all_workers_notice_is_said_by_one(board: Board, fact: Fact | CodeSuspected) -> None:
    heard = Heard()
    for _ in range(3):
        BoardSubscriber(board, board.row(board.take_row()), heard)(fact)
    assert heard.facts == [fact]


@pytest.mark.parametrize("grace_ms", [0, 500, 1_000, 2_000, 6_000, 30_000, 3_600_000])
def test_a_workers_end_fits_into_the_services_grace(grace_ms: int) -> None:
    limits = limits_of(Settings(shutdown_grace_ms=grace_ms))
    assert limits.shutdown_grace_ms + limits.closing_ms <= grace_ms * 0.97
    assert limits.closing_ms > 0 or not grace_ms
