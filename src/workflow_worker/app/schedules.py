"""What every app has for schedules: two events, two actions, and the workflow that keeps one; see `keeping`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, get_args

from workflow_worker.app.actions import Action, ActionDefinition, define_action
from workflow_worker.app.book import Plan, Tools, first_book
from workflow_worker.app.cron import check_cron, find_ticks
from workflow_worker.app.events import EventCatalogue, EventDefinition
from workflow_worker.app.keeping import AT_ONCE, is_over, keep_schedule
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.model.codec import encode_json
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import check_name
from workflow_worker.model.instants import to_ms
from workflow_worker.model.schedules import (
    KEEPER_WORKFLOW,
    MAX_INPUT_BYTES,
    SET,
    TOLD,
    Overlap,
    ScheduleSet,
    ScheduleSpec,
    ScheduleTold,
)
from workflow_worker.runtime.execution import current_execution

EVENTS = (EventDefinition((SET,), ScheduleSet), EventDefinition((TOLD,), ScheduleTold))
FindWorkflow = Callable[[str], WorkflowDefinition | None]
"""The newest version of a workflow by its name."""

_PATIENT = RetryPolicy(attempts=1_000_000_000, cap=60)
"""What an action of a keeper can meet is an outage: no schedule ends by one."""


class KeeperDefinition(WorkflowDefinition):
    """The workflow behind schedules: one run for each, until it is deleted."""

    def main(self, event: Event, catalogue: EventCatalogue) -> Callable[[], Coroutine[Any, Any, Any]]:
        """What starts the run; its start event sets the schedule, or holds the book of the history before.

        Raises:
            EventRejected: The event cannot be read.
        """
        first_book(event, 0)
        return functools.partial(self.fn, event)


def declared_schedule(cron: str, timezone: str, overlap: Overlap, catch_up: float | timedelta) -> ScheduleSpec:
    """The schedule that ``@app.workflow(cron=…)`` declares; the workflow's name is filled in later.

    Raises:
        UsageError: An option is not usable.
    """
    if overlap not in get_args(Overlap):
        raise UsageError(f"overlap={overlap!r} is not usable: {', '.join(map(repr, get_args(Overlap)))}")
    return ScheduleSpec(
        workflow="", cron=cron, timezone=timezone, overlap=overlap, catch_up_ms=to_ms(catch_up), declared=True
    )


def keeper_of(find_workflow: FindWorkflow) -> tuple[KeeperDefinition, dict[str, ActionDefinition]]:
    """The definitions for an app's registry: the keeper and its actions."""

    def plan(schedule: str, spec: ScheduleSpec, after_ms: int, until_ms: int, oldest_ms: int) -> Plan:
        return make_plan(find_workflow(spec.workflow), schedule, spec, after_ms, until_ms, oldest_ms)

    planning = define_action(plan, name=f"{KEEPER_WORKFLOW}.plan", retry=_PATIENT, timeout=60, names=dict)
    looking = define_action(is_over, name=f"{KEEPER_WORKFLOW}.is_over", retry=_PATIENT, timeout=60, names=dict)
    tools = Tools(Action(planning, _no_compensation), Action(looking, _no_compensation))

    async def keep(event: Event) -> None:
        await keep_schedule(current_execution(), event, tools)

    return KeeperDefinition(KEEPER_WORKFLOW, 1, keep, None, (), True, __name__, dict), {
        each.name: each for each in (planning, looking)
    }


def make_plan(
    workflow: WorkflowDefinition | None,
    schedule: str,
    spec: ScheduleSpec,
    after_ms: int,
    until_ms: int,
    oldest_ms: int,
) -> Plan:
    """The ticks of a schedule, if this release of the app can have any."""
    if workflow is None:
        return Plan(problem=f"there is no workflow {spec.workflow!r}")
    if spec.declared and (workflow.schedule is None or schedule != spec.workflow):
        return Plan(problem=f"the code of {spec.workflow!r} declares no schedule any more: delete this one")
    try:
        check_spec(schedule, spec)
        ticks = find_ticks(spec.cron, spec.timezone, after_ms, until_ms, oldest_ms, AT_ONCE)
    except UsageError as error:
        return Plan(problem=str(error))
    return Plan(due=list(ticks.due), missed=ticks.missed, until_ms=ticks.until_ms, next_ms=ticks.next_ms)


def check_spec(schedule: str, spec: ScheduleSpec) -> None:
    """Whether a keeper can keep this.

    Raises:
        UsageError: The name, the workflow's name, the expression, the zone, or the input is not usable.
    """
    check_name("schedule", schedule)
    check_name("workflow", spec.workflow)
    check_cron(spec.cron, spec.timezone)
    size = len(encode_json(spec.input))
    if size > MAX_INPUT_BYTES:
        raise UsageError(f"the input of schedule {schedule!r} has {size} bytes, more than {MAX_INPUT_BYTES}")


def _no_compensation(
    fn: Callable[..., Any], name: str | None, retry: RetryPolicy | None, timeout: float | timedelta | None
) -> Action[..., Any]:
    raise UsageError(f"an action of ours has no compensation {name or fn!r} (retry={retry}, timeout={timeout})")
