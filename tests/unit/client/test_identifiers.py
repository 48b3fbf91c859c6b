"""Ids for events: random, never twice, whichever thread or forked process asks."""

from __future__ import annotations

import copy
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from workflow_worker.client.identifiers import Identifiers


def test_ids_are_22_letters_and_digits_and_differ_beyond_one_block() -> None:
    new_id = Identifiers()
    made = [new_id() for _ in range(2_000)]
    assert len(set(made)) == 2_000
    assert all(re.fullmatch("[0-9A-Za-z]{22}", one) for one in made)
    assert len({one[at] for one in made for at in (0, 21)}) == 62, "from one end to the other"


def test_threads_that_share_one_never_get_the_same_id() -> None:
    new_id = Identifiers()

    def take(_: int) -> list[str]:
        return [new_id() for _ in range(5_000)]

    with ThreadPoolExecutor(4) as threads:
        made = [one for part in threads.map(take, range(4)) for one in part]
    assert len(set(made)) == 20_000


def test_a_forked_child_does_not_go_on_with_the_ids_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Identifiers()
    parent()
    child = copy.deepcopy(parent)
    of_parent = {parent() for _ in range(300)}
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert of_parent.isdisjoint({child() for _ in range(300)})
