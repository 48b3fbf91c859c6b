"""`RunHandle`: one run as its starter holds it: state, status, result, cancel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from workflow_worker.client.operations import Operations
from workflow_worker.model.exceptions import NotFound, Refused
from workflow_worker.model.failure import Failure, rebuild
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.instants import to_ms
from workflow_worker.model.run import RunStatus, RunView

_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run by its full name; it need not exist yet. Needs no worker in this process."""

    ref: RunRef
    operations: Operations
    existed: bool = False
    """The start was a repetition: an event with its id had been accepted within the dedup window."""

    @property
    def id(self) -> str:
        """The run's id, without its workflow."""
        return split_run_ref(self.ref)[1]

    async def view(self) -> RunView | None:
        """All that the store knows of it but the history; None until a worker took its start event in."""
        return await self.operations.patience.call(lambda: self.operations.store.run(self.ref))

    async def status(self) -> RunStatus:
        """Where it stands; ``pending`` also before a worker took its start event in."""
        view = await self.view()
        return RunStatus.PENDING if view is None else view.status

    async def state(self) -> Any:
        """What the workflow last published with ``wf.state``, decoded; None if nothing yet."""
        view = await self.view()
        return None if view is None or not view.state else msgspec.json.decode(view.state)

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait until the run has ended; what the workflow returned, decoded from JSON.

        Args:
            timeout: How long to wait, in seconds or as a `timedelta`. None waits for ever: runs may take weeks.

        Raises:
            TimeoutError: It has not ended by then; the message has its status.
            Failed: The workflow ended with ``wf.Failed`` (or its own subclass, where that is known here).
            Refused: The run was cancelled, or is suspended and needs a person.
        """
        environment = self.operations.patience.environment
        deadline = None if timeout is None else environment.monotonic() + to_ms(timeout) / 1000
        pause = _FIRST_LOOK_S
        while True:
            view = await self.view()
            if view is not None and (view.status.ended or view.status is RunStatus.SUSPENDED):
                return _outcome(view)
            left = pause if deadline is None else deadline - environment.monotonic()
            if left <= 0:
                status = "not begun: no worker took its start event in" if view is None else view.status.value
                raise TimeoutError(f"run {self.ref} has not ended in time; it is {status}")
            await environment.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_LOOK_S)

    async def cancel(self, by: str = "client", reason: str = "") -> None:
        """Ask it to end; see `Operations.cancel`.

        Raises:
            NotFound: It does not exist (yet).
            Refused: It has ended, or was asked before.
        """
        if await self.view() is None:
            raise NotFound(f"there is no run {self.ref} yet: no worker took its start event in")
        await self.operations.cancel(self.ref, by, reason)


def _outcome(view: RunView) -> Any:
    if view.status is RunStatus.COMPLETED:
        return msgspec.json.decode(view.result) if view.result else None
    failure = msgspec.msgpack.decode(view.error, type=Failure) if view.error else None
    if view.status is RunStatus.FAILED and failure is not None:
        raise rebuild(failure)
    if view.status is RunStatus.SUSPENDED:
        raise Refused(
            f"run {view.ref} is suspended and needs a person: {failure}; `workflow-worker runs show {view.id}`"
        )
    raise Refused(f"run {view.ref} has no result: it is {view.status.value}")
