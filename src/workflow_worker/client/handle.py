"""`RunHandle`: one run as its starter holds it: state, status, result, cancel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from workflow_worker.client.operations import Operations
from workflow_worker.client.outgoing import Item, addressed, definition_of, outgoing
from workflow_worker.model.exceptions import NotFound, Refused
from workflow_worker.model.failure import Failure, rebuild
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.instants import to_ms
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.model.updates import Reply, split_state

_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5
_MAX_BYTES = 262_144
"""The default of MAX_EVENT_BYTES; a namespace that takes less says so when it takes the request in."""


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
        return None if view is None else split_state(view.state)[0]

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait until the run has ended; what the workflow returned, decoded from JSON.

        Args:
            timeout: How long to wait, in seconds or as a `timedelta`. None waits for ever: runs may take weeks.

        Raises:
            TimeoutError: It has not ended by then; the message has its status.
            Failed: The workflow ended with ``wf.Failed`` (or its own subclass, where that is known here).
            Refused: The run was cancelled, or is suspended and needs a person.
        """
        view = await self._until(lambda view: view.status.ended or view.status is RunStatus.SUSPENDED, timeout)
        return _outcome(view)

    async def update(self, event: object, *, id: str | None = None, timeout: float | timedelta | None = None) -> Any:
        """Send a request to the run and wait for its reply, decoded from JSON: see ``@….update`` and `wf.on_update`.

        Args:
            event: An object of the class that the workflow has a handler for, or as for `Client.publish`.
            id: Of the request; sent again under the same id it is not done again, and gets the same reply.
            timeout: How long to wait for the reply, in seconds or as a `timedelta`. None waits for ever.

        Raises:
            EventRejected: It does not fit its class; nothing was sent.
            NotFound: The run does not exist (yet).
            Refused: The run has ended, or its handler did not accept the request, or failed; the message says why.
            TimeoutError: No reply by then; the request is in, ask again under the same id.
        """
        workflow, run_id = split_run_ref(self.ref)
        patience = self.operations.patience
        sent = addressed(outgoing(Item(event, id=id), patience.environment.new_id, _MAX_BYTES), workflow, run_id)
        definition = definition_of(type(event))
        if definition is not None:
            definition.decode(sent.event.data)
        view = await self.view()
        if view is None:
            raise NotFound(f"there is no run {self.ref} yet: no worker took its start event in")
        if sent.event.id not in split_state(view.state)[1]:
            if view.status.ended:
                raise Refused(f"run {self.ref} has ended: it is {view.status.value}")
            await patience.call(lambda: self.operations.store.publish([sent]))
            view = await self._until(lambda view: view.status.ended or _reply(view, sent.event.id) is not None, timeout)
        reply = _reply(view, sent.event.id)
        if reply is None:
            raise Refused(f"run {self.ref} ended before it answered: it is {view.status.value}")
        if reply.error:
            raise Refused(f"run {self.ref} {reply.kind} the request: {reply.error}")
        return msgspec.json.decode(reply.result)

    async def _until(self, reached: Callable[[RunView], bool], timeout: float | timedelta | None) -> RunView:
        """Look until the run is as wanted."""
        environment = self.operations.patience.environment
        deadline = None if timeout is None else environment.monotonic() + to_ms(timeout) / 1000
        pause = _FIRST_LOOK_S
        while True:
            view = await self.view()
            if view is not None and reached(view):
                return view
            left = pause if deadline is None else deadline - environment.monotonic()
            if left <= 0:
                status = "not begun: no worker took its start event in" if view is None else view.status.value
                raise TimeoutError(f"run {self.ref} has not ended or answered in time; it is {status}")
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


def _reply(view: RunView, event_id: str) -> Reply | None:
    return split_state(view.state)[1].get(event_id)
