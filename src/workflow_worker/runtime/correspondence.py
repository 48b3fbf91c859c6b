"""`Correspondence`: what a run writes to other runs and they to it: children, locks, follow-up events."""

from __future__ import annotations

from typing import Any

import msgspec

from workflow_worker.model import internal
from workflow_worker.model.command import EmitEvent
from workflow_worker.model.event import Event
from workflow_worker.model.ids import RunRef
from workflow_worker.model.internal import tag_of
from workflow_worker.runtime.children import Children
from workflow_worker.runtime.locks import Locks
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.outbox import Outbox

_ended = msgspec.json.Decoder(internal.ChildEnded)
_granted = msgspec.json.Decoder(internal.LockGrant)
_requested = msgspec.json.Decoder(internal.LockRequest)


class Correspondence:
    """The letters of one run. `seed` names its incarnation: what an earlier one had asked for is not for this one."""

    def __init__(self, loop: Loop, ref: RunRef, seed: str, events: object) -> None:
        self.outbox = Outbox(loop.ledger)
        self.children = Children(loop, self.outbox, ref, seed, events)
        self.locks = Locks(loop, self.outbox, ref, tag_of(seed))
        self._keeps_locks = ref.partition(":")[0] == internal.LOCK_WORKFLOW

    def deliver(self, event: Event) -> None:
        """Take in mail from another run; what cannot be read, or is not for this run, has no effect.

        Raises:
            NonDeterminism: A child ended that the code did not start.
        """
        message: Any
        try:
            match event.type:
                case internal.ENDED:
                    message = _ended.decode(event.data)
                    self.children.ended(message)
                case internal.GRANT:
                    self.locks.granted(_granted.decode(event.data))
                case internal.LOCK if self._keeps_locks:
                    self.locks.requested(_requested.decode(event.data))
                case internal.START | internal.TICK:
                    self.children.refuse(event)
                case _:
                    pass
        except msgspec.DecodeError:
            return  # a stranger's, or a newer release's; the run has no use for it

    def leave(self) -> list[EmitEvent]:
        """The run is over: take back children, give back locks, send on what came too late for a keeper of locks."""
        self.outbox.release(internal.CANCEL, internal.LOCK)
        self.children.leave()
        self.locks.leave()
        if self._keeps_locks:
            self.locks.forward(self.locks.take_requests())
        return self.outbox.commands()
