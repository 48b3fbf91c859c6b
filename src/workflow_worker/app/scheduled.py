"""What a workflow must be like that the clock starts, and how it gets the tick."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import msgspec

from workflow_worker.app.cron import check_cron
from workflow_worker.model.codec import encode_json
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.instants import from_ms
from workflow_worker.model.schedules import ScheduleSpec, TickStart
from workflow_worker.runtime.ticks import Tick


def check_schedule(
    fn: Callable[..., Any], schedule: ScheduleSpec, name: str, place: str, has_event: bool
) -> ScheduleSpec:
    """The schedule of a workflow, which it is named for.

    Raises:
        UsageError: Expression or zone is not usable, an event starts the workflow too, or it takes something else.
    """
    if has_event:
        raise UsageError(f"workflow {name!r} ({place}) has both on= and cron=: one starts it")
    try:
        check_cron(schedule.cron, schedule.timezone)
    except UsageError as error:
        raise UsageError(f"workflow {name!r} ({place}): {error}") from error
    needed = [each for each in inspect.signature(fn).parameters.values() if each.default is each.empty]
    if len(needed) > 1 or any(not _is_tick(each.annotation) for each in needed):
        raise UsageError(f"workflow {name!r} ({place}) has cron=: it takes nothing, or one parameter of class wf.Tick")
    return msgspec.structs.replace(schedule, workflow=name)


def input_at(data: bytes, parameter: str | None) -> bytes:
    """The input, as JSON, of a run that a schedule starts; the tick itself goes to the parameter that is declared for
    it, if one is.

    Raises:
        EventRejected: The start event cannot be read.
    """
    try:
        start = msgspec.json.decode(data, type=TickStart)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventRejected(f"is no tick of a schedule: {error}") from error
    given: object = start.input
    if parameter is None or not isinstance(given, dict | None):
        return encode_json(given)
    arguments = cast("dict[str, object]", given or {})
    return encode_json({**arguments, parameter: Tick(from_ms(start.at_ms), start.schedule)})


def _is_tick(annotation: object) -> bool:
    return annotation is Tick or (isinstance(annotation, str) and annotation.rpartition(".")[2] == "Tick")
