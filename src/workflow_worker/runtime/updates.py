"""Updates: events that a run answers. A handler takes the event's class; its reply is published with the run's state.

Whoever sent the event finds the reply under the event's id, with no worker needed, as all published state.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.updates import REPLIES_KEPT, Reply
from workflow_worker.runtime.arrivals import Arrivals, DeclaredEvents, EventWait
from workflow_worker.runtime.loop import Loop

Handler = Callable[[Any], Coroutine[Any, Any, object]]
Validator = Callable[[Any], object]


class Updates:
    """The handlers of one run, and the replies that they gave; the oldest reply goes first when there are too many."""

    def __init__(self, loop: Loop, arrivals: Arrivals, events: DeclaredEvents, encode: Callable[[Any], bytes]) -> None:
        self._loop = loop
        self._arrivals = arrivals
        self._events = events
        self._encode = encode
        self._handlers: dict[type, tuple[EventWait, Handler, Validator | None]] = {}
        self._replies: dict[str, Reply] = {}
        self._untold = False

    def on(self, event_class: type, handler: Handler, validate: Validator | None) -> None:
        """Answer events of this class from now on; those that came before are answered at once, oldest first.

        Raises:
            UsageError: The class is not declared.
        """
        wanted = EventWait(loop=self._loop)
        wanted.number, wanted.subject, wanted.topics = self._loop.next_number(), None, ()
        wanted.choices = self._arrivals.choices((event_class,))
        self._handlers[event_class] = (wanted, handler, validate)
        for event in self._arrivals.take_all(wanted):
            self.take(event)

    def take(self, event: Event) -> bool:
        """Answer an event, if a handler is there for it."""
        for event_class, (wanted, handler, validate) in self._handlers.items():
            if wanted.class_for(event.type) is event_class:
                work = self._answer(event, event_class, handler, validate)
                self._loop.create_task(work, name=f"update {event.type}")
                return True
        return False

    @property
    def expected(self) -> bool:
        """Whether there are handlers: an event can move such a run."""
        return bool(self._handlers)

    def told(self) -> bool:
        """Whether there are replies that were not published; they count as published then."""
        untold, self._untold = self._untold, False
        return untold

    def encoded(self) -> bytes:
        """The latest replies by event id, as JSON; empty without any."""
        return msgspec.json.encode(self._replies) if self._replies else b""

    async def _answer(self, event: Event, event_class: type, handler: Handler, validate: Validator | None) -> None:
        accepted = False
        try:
            value = self._events.decode(event, event_class)
            if validate is not None:
                validate(value)
            accepted = True
            reply = Reply(result=msgspec.Raw(self._encode(await handler(value))))
        except Exception as error:  # noqa: BLE001 - the error is the reply; the run itself goes on
            kind = "failed" if accepted and not isinstance(error, EventRejected | UsageError) else "rejected"
            reply = Reply(
                error=f"{type(error).__qualname__}: {error}" if str(error) else type(error).__qualname__, kind=kind
            )
        self._replies.pop(event.id, None)
        self._replies[event.id] = reply
        while len(self._replies) > REPLIES_KEPT:
            del self._replies[next(iter(self._replies))]
        self._untold = True
