"""`Patches`: the answers that ``wf.patched`` gave, each noted in the history once, when it was first asked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workflow_worker.model.command import MarkPatch
from workflow_worker.model.internal import PATCH
from workflow_worker.model.record import EventReceived, Record


class Patches:
    """A run keeps the answer that it got first: a loop does not change its way between two rounds."""

    __slots__ = ("_answers", "_new")

    def __init__(self) -> None:
        self._answers: dict[str, bool] = {}
        self._new: list[MarkPatch] = []

    def ask(self, patch: str, history: Sequence[Record]) -> bool:
        """Yes where code runs for the first time; in a replay, what the history says. `history` is empty outside one:
        whatever is asked while it is replayed was gone through before, with the patch or without."""
        answer = self._answers.get(patch)
        if answer is None:
            answer = not history or any(
                isinstance(record, EventReceived) and record.event.type == PATCH and record.event.data == encoded(patch)
                for record in history
            )
            self._answers[patch] = answer
            if answer and not history:
                self._new.append(MarkPatch(patch))
        return answer

    def commands(self) -> list[MarkPatch]:
        """What has to be noted now."""
        found, self._new = self._new, []
        return found


def encoded(patch: str) -> bytes:
    """An id as the data of its mark."""
    return msgspec.json.encode(patch)
