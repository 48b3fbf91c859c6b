"""One ``wf.wait_for``: a place in the queue for an event, and a durable timer that gives it up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from workflow_worker.runtime.arrivals import Arrivals, EventWait
from workflow_worker.runtime.loop import Loop

MISSING: Any = object()
"""Stands for an argument that was not given."""


async def wait_for(
    loop: Loop,
    arrivals: Arrivals,
    classes: Sequence[type],
    subject: str | None,
    timeout: float | timedelta | None,
    default: Any,
) -> Any:
    """Wait for the oldest event of these classes that nobody took yet; see `wf.wait_for`."""
    wait = EventWait(loop=loop)
    wait.number = loop.next_number()
    wait.subject = subject
    wait.choices = arrivals.choices(classes)
    wait.topics = arrivals.topics(wait.choices, subject)
    arrivals.open(wait)
    timer = None
    if timeout is not None and not wait.done():
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if seconds > 0:
            timer = loop.call_later(seconds, _expire, wait, default)
        else:
            _expire(wait, default)
    try:
        return await wait
    finally:
        arrivals.close(wait)
        if timer is not None:
            timer.cancel()


def _expire(wait: EventWait, default: Any) -> None:
    if wait.done():
        return
    if default is MISSING:
        wait.set_exception(TimeoutError("no such event came in time"))
    else:
        wait.set_result(default)
