"""The operator of a chaos run: cancels what only a cancel ends, and lets suspended runs go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.chaos import outsider
from tests.support.checker_facts import Promise
from workflow_worker import Client
from workflow_worker.model.exceptions import WorkflowWorkerError

_LOOK_EVERY_S = 0.5
_ENDLESS = b'"endless"'


class NewPromises:
    """Reads what producers have added to their receipts since the last time; a line that is torn is read later."""

    def __init__(self, paths: Callable[[], Sequence[Path]]) -> None:
        self._paths = paths
        self._read: dict[Path, int] = {}

    def endless(self) -> list[str]:
        """Runs that only a cancel ends, whose events were acknowledged since the last call."""
        found: list[str] = []
        for path in self._paths():
            if not path.exists():
                continue
            with path.open("rb") as receipts:
                receipts.seek(self._read.get(path, 0))
                text = receipts.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                if _ENDLESS in line:
                    found += _endless_runs(line)
        return found


def _endless_runs(line: bytes) -> Sequence[str]:
    try:
        promise = msgspec.json.decode(line, type=Promise)
    except msgspec.DecodeError:
        return ()  # the piece that a killed producer left: it was not acknowledged to anybody
    return promise.runs if promise.kind == "endless" else ()


class Operator:
    """Does by hand what nothing does by itself."""

    def __init__(self, promises: NewPromises) -> None:
        self._promises = promises
        self.cancels = 0

    async def cancel_endless_ones(self, url: str) -> None:
        """Cancel every run that only a cancel ends, a while after its event was acknowledged; runs until cancelled."""
        left: dict[str, None] = {}
        async with Client.connect(url, patience=5) as client:
            while True:
                left |= dict.fromkeys(self._promises.endless())
                for ref in list(left):
                    if await _cancel(client, ref):
                        del left[ref]
                        self.cancels += 1
                await asyncio.sleep(_LOOK_EVERY_S)


async def _cancel(client: Client, ref: str) -> bool:
    """False: it has not begun yet, or Redis is away: the next round."""
    try:
        await client.cancel(ref, by="chaos", reason="planned")
    except WorkflowWorkerError as error:
        return "asked to end before" in str(error) or "has ended" in str(error)
    return True


async def resume_all(client: Client, url: str) -> None:
    """A run that lost too many workers in a row is suspended, for a person: here he is."""
    listed = await asyncio.to_thread(outsider.command, url, "runs", "list", "--status", "suspended")
    for run in listed["items"]:
        ref = f"{run['workflow']}:{run['id']}"
        document = await asyncio.to_thread(outsider.command, url, "runs", "show", ref)
        error: dict[str, Any] = document["error"] or {}
        if error.get("type") == "poison":
            await client.resume(ref, by="chaos")
