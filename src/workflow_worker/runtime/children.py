"""Child workflows: a run starts others, awaits how they end, and takes them back when it is not interested any more.

A child is started and taken back by follow-up events, and its end is mail; so none of it needs a record of its own, and
what is true of events (once, in order, durable) is true of children.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections.abc import Callable, Generator
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from workflow_worker.model import internal
from workflow_worker.model.command import EmitEvent
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import ChildFailed, NonDeterminism, UsageError
from workflow_worker.model.failure import ErrorKind, Failure, describe
from workflow_worker.model.ids import MAX_NAME_BYTES, RunRef, run_ref
from workflow_worker.model.internal import ChildCancel, ChildEnded, Origin, encode_origin, origin_of, tag_of
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime.futures import Mailed, TaskLike
from workflow_worker.runtime.loop import Loop
from workflow_worker.runtime.outbox import Outbox
from workflow_worker.runtime.places import here, show

_FAMILY_KEPT = 80
_CHILD_ID = re.compile(r"\.[0-9]+-[0-9a-f]{16}\Z")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Startable(Protocol[R_co]):
    """A declared workflow, as far as a run must know it to start one."""

    @property
    def name(self) -> str:
        """The workflow's name."""
        ...

    @property
    def events(self) -> object:
        """The events of the app that declares it."""
        ...

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, str | None]:
        """The child's input as JSON, and what it is about.

        Raises:
            UsageError: The arguments do not fit.
        """
        ...

    def decode_result(self, raw: bytes) -> R_co:
        """What the child returned."""
        ...


class ChildCall(TaskLike, Mailed[R]):
    """One child that this run awaits, or may await; cancelled, it takes the child back."""

    __slots__ = (
        "cancel_sent",
        "checksum",
        "children",
        "decode",
        "detached",
        "name",
        "ref",
        "started",
    )

    children: Children
    name: str
    ref: RunRef
    checksum: int
    decode: Callable[[bytes], R]
    detached: bool
    started: EmitEvent
    cancel_sent: bool

    def cancel(self, msg: Any | None = None) -> bool:
        """Nobody waits for the child any more: it is asked to end."""
        if not super().cancel(msg):
            return False
        self.children.take_back(self)
        return True

    def get_name(self) -> str:
        """The child's full name."""
        return self.ref

    def __str__(self) -> str:
        return f"child workflow '{self.name}' (#{self.number})"

    def __repr__(self) -> str:
        return f"<call of {self} at {show(self.place)}>"


class ChildHandle(Generic[R]):
    """A child started with ``wf.start``: await it for its result, now, later or never."""

    def __init__(self, call: ChildCall[R]) -> None:
        self._call = call

    @property
    def ref(self) -> RunRef:
        """The child's full name, ``<workflow>:<id>``."""
        return self._call.ref

    @property
    def id(self) -> str:
        """The child's id."""
        return self._call.ref.partition(":")[2]

    def done(self) -> bool:
        """Whether this run has heard how the child ended."""
        return self._call.done()

    def cancel(self) -> None:
        """Ask the child to end; who awaits it gets `ChildFailed` with status ``cancelled`` when it has."""
        self._call.children.ask_to_end(self._call)

    def __await__(self) -> Generator[Any, None, R]:
        """The child's result. Cancelled while waiting, a child is taken back too, unless it is detached.

        Raises:
            ChildFailed: It failed or was cancelled.
        """
        waited: asyncio.Future[R] = asyncio.shield(self._call) if self._call.detached else self._call
        return waited.__await__()

    def __repr__(self) -> str:
        return f"<child {self._call.ref}>"


class Children:
    """The children of one run."""

    def __init__(self, loop: Loop, outbox: Outbox, ref: RunRef, seed: str, events: object) -> None:
        self._loop = loop
        self._outbox = outbox
        self._ref = ref
        self._seed = seed
        self._tag = tag_of(seed)
        self._events = events

    @cached_property
    def _family(self) -> str:
        """The first part of the ids of children: the run's own id, or that of the first of its line."""
        return _CHILD_ID.sub("", self._ref.partition(":")[2])[:_FAMILY_KEPT]

    @cached_property
    def _mark(self) -> str:
        """The last part: the children of one incarnation, or of one child of the family, are not those of another."""
        return hashlib.blake2b(self._seed.encode(), digest_size=8).hexdigest()

    def start(
        self,
        workflow: Startable[R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        id: str | None = None,
        subject: str | None = None,
        detached: bool = False,
        by: str = internal.START,
    ) -> ChildCall[R]:
        """Start a child: numbered now, awaited later or never; `by` is the type of its start event.

        Raises:
            UsageError: The arguments do not fit or are too big, the id is not usable, or the workflow is another app's.
            Evicted: The run is being destroyed in memory.
        """
        if workflow.events is not self._events:
            raise UsageError(f"workflow {workflow.name!r} is declared in another app: its runs cannot be children here")
        data, own_subject = workflow.encode_input(args, kwargs)
        if len(data) > internal.MAX_MESSAGE_BYTES:
            raise UsageError(
                f"the input of a child of {workflow.name!r} has {len(data)} bytes, more than"
                f" {internal.MAX_MESSAGE_BYTES}: store it elsewhere and pass a reference"
            )
        loop = self._loop
        ledger = loop.ledger
        call: ChildCall[R] = ChildCall(loop=loop)
        call.ledger, call.children, call.name, call.decode = ledger, self, workflow.name, workflow.decode_result
        call.detached, call.cancel_sent = detached, False
        call.checksum = zlib.crc32(data)
        if loop.dead:
            call.number = 0
            call.ref, call.place = run_ref(workflow.name, ""), None
            loop.refuse()
            return call
        call.place = here()
        ledger.add_mailed(call)
        run_id = id if id is not None else f"{self._family}.{call.number}-{self._mark}"
        if not run_id or len(run_id.encode()) > MAX_NAME_BYTES:
            raise UsageError(f"a run's id has 1 to {MAX_NAME_BYTES} bytes: give the child one with wf.start(…, id=…)")
        call.ref = run_ref(workflow.name, run_id)
        origin = encode_origin(Origin(call.ref, self._ref, self._tag, call.number, call.checksum))
        about = own_subject if subject is None else subject
        event = Event("", by, about, data, origin=origin)
        call.started = self._outbox.post(event, workflow=workflow.name, run=run_id)
        return call

    def ended(self, message: ChildEnded) -> None:
        """A child told how it ended; nothing happens if it is not awaited any more.

        Raises:
            NonDeterminism: The code has started no such child at this number.
        """
        if message.tag != self._tag:
            return
        ledger = self._loop.ledger
        call: Any = ledger.pending.get(message.number)
        if type(call) is ChildCall and call.checksum == message.checksum and call.name == _workflow(message):
            del ledger.pending[message.number]
            self._settle(cast("ChildCall[Any]", call), message)
            return
        gone = ledger.gone.get(message.number)
        if type(gone) is ChildCall or (call is None and gone is None and message.number <= ledger.number):
            return  # given up, or told before: a child whose start was rejected may be started again
        raise NonDeterminism(_difference(message, call or gone))

    def refuse(self, event: Event) -> None:
        """A run of this id lives already: tell whoever wanted to start it as its child."""
        origin = origin_of(event.origin)
        if origin.run != self._ref:
            return  # a copy, because it is about the same subject
        error = UsageError(f"run {self._ref} is under way already; give the child another id")
        tell_parent(self._outbox, self._ref, origin, RunStatus.FAILED, describe(error, ErrorKind.PERMANENT))

    def take_back(self, call: ChildCall[Any]) -> None:
        """The child's end is not awaited any more. One that was not even sent for is not sent for."""
        if self._loop.dead or call.cancel_sent:
            return
        if self._outbox.retract(call.started):
            call.cancel_sent = True
        else:
            self.ask_to_end(call)

    def ask_to_end(self, call: ChildCall[Any]) -> None:
        """Send the child a request to end, once."""
        if call.cancel_sent or self._loop.dead or (call.done() and not call.cancelled()):
            return
        call.cancel_sent = True
        data = msgspec.json.encode(ChildCancel(self._ref, self._tag, call.number))
        workflow, _, run_id = call.ref.partition(":")
        self._outbox.post(Event("", internal.CANCEL, data=data), workflow=workflow, run=run_id)

    def leave(self) -> None:
        """The run is over: take back the children that it awaited, but for those that are to outlive it."""
        for step in list(self._loop.ledger.pending.values()):
            if isinstance(step, ChildCall) and not step.detached:
                step.cancel()

    @staticmethod
    def _settle(call: ChildCall[Any], message: ChildEnded) -> None:
        if call.done():
            return
        if message.status is RunStatus.COMPLETED:
            try:
                call.set_result(call.decode(bytes(message.result)))
            except Exception as error:  # noqa: BLE001 - the decoder runs the author's types; their error is the author's
                call.set_exception(
                    UsageError(f"the result of child {call.ref} does not fit its declared type: {error}")
                )
            return
        failure = message.failure or Failure("cancelled", f"{call.ref} was cancelled", ErrorKind.PERMANENT)
        call.set_exception(ChildFailed(call.ref, message.status.value, failure))


def child_ended_event(
    run: RunRef, origin: Origin, status: RunStatus, failure: Failure | None, result: bytes | None
) -> Event:
    """What a run sends to its parent when it has ended."""
    if result is not None and len(result) > internal.MAX_MESSAGE_BYTES:
        error = UsageError(
            f"the child's result has {len(result)} bytes, more than {internal.MAX_MESSAGE_BYTES}: return a reference"
        )
        status, failure, result = RunStatus.FAILED, describe(error, ErrorKind.PERMANENT), None
    if failure is not None:
        failure = msgspec.structs.replace(failure, traceback=failure.traceback[-2_000:], cause=None, members=())
    ended = ChildEnded(
        origin.tag,
        origin.number,
        origin.checksum,
        run,
        status,
        msgspec.Raw(b"null" if result is None else result),
        failure,
    )
    return Event("", internal.ENDED, data=msgspec.json.encode(ended))


def tell_parent(outbox: Outbox, run: RunRef, origin: Origin, status: RunStatus, failure: Failure) -> None:
    """Send such an event from the code of a run."""
    workflow, _, run_id = origin.parent.partition(":")
    outbox.post(child_ended_event(run, origin, status, failure, None), workflow=workflow, run=run_id)


def _workflow(message: ChildEnded) -> str:
    return message.run.partition(":")[0]


def _difference(message: ChildEnded, step: Any) -> str:
    had = f"child workflow '{_workflow(message)}' (#{message.number})"
    if step is None:
        return f"history has {had}, code has no step #{message.number} waiting for it"
    if type(step) is ChildCall and step.name == _workflow(message):
        return f"history has {had}, code now starts it with other arguments at {show(step.place)}"
    return f"history has {had}, code now has {step} at {show(step.place)}"
