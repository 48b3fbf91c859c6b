"""`registration`: what the store must know of an app, from its declarations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from workflow_worker.app.events import EventCatalogue
from workflow_worker.app.workflows import WorkflowDefinition
from workflow_worker.model.ids import start_type
from workflow_worker.model.internal import LOCK, LOCK_WORKFLOW, START, TICK
from workflow_worker.model.schedules import KEEPER_WORKFLOW, SET, TOLD
from workflow_worker.store.transitions import Registration, Route, StartRoute

_MARK_LENGTH = 16


def registration(events: EventCatalogue, workflows: Iterable[WorkflowDefinition]) -> Registration:
    """Routes of all declared types and prefixes; `mark` changes when anything in them does.

    An event belongs to one class, the one declared for its type or else for the longest prefix of it, and starts the
    workflows `on` that class: a catch-all for ``github.*`` does not get what ``github.push`` has a class for. Of
    several versions of a workflow the highest is started; all are known.
    """
    all_versions = tuple(workflows)
    newest: dict[str, WorkflowDefinition] = {}
    for workflow in all_versions:
        known = newest.get(workflow.name)
        if known is None or workflow.version > known.version:
            newest[workflow.name] = workflow
    starts: dict[str, dict[str, StartRoute]] = {event_type: {} for event_type in events.types}
    for workflow in newest.values():
        if workflow.event is None:
            continue
        route = StartRoute(workflow.name, workflow.version, workflow.template, workflow.restart)
        for event_type in workflow.event.types:
            starts[event_type][workflow.name] = route
    routes = {
        event_type: Route(
            needs_subject=definition.subject is not None
            or any("subject" in route.template for route in starts[event_type].values()),
            starts=tuple(route for _, route in sorted(starts[event_type].items())),
        )
        for event_type, definition in sorted(events.types.items())
    }
    knows = tuple(sorted(workflow.label for workflow in all_versions))
    if newest:
        # Addressed by runs to runs: a child starts in its newest version, also under the id of one that has ended.
        children = tuple(StartRoute(each.name, each.version, restart=True) for _, each in sorted(newest.items()))
        ticks = tuple(StartRoute(each.name, each.version) for _, each in sorted(newest.items()))
        routes |= {start_type(each.name): _own_route(each) for _, each in sorted(newest.items())}
        routes |= {
            START: Route(False, children),
            TICK: Route(False, ticks),
            LOCK: Route(False, (StartRoute(LOCK_WORKFLOW, 1, restart=True),)),
            SET: Route(False, (StartRoute(KEEPER_WORKFLOW, 1, restart=True),)),
            TOLD: Route(False),
        }
        knows = (*knows, f"{LOCK_WORKFLOW}@1", f"{KEEPER_WORKFLOW}@1")
    content = msgspec.json.encode([list(routes.items()), knows])
    return Registration(hashlib.sha256(content).hexdigest()[:_MARK_LENGTH], routes, knows)


def _own_route(workflow: WorkflowDefinition) -> Route:
    """Of the event type by which anybody starts this workflow: by name, with its input."""
    has_subject = workflow.event is not None and workflow.event.subject is not None
    start = StartRoute(workflow.name, workflow.version, workflow.template, workflow.restart)
    return Route(has_subject or workflow.needs_subject, (start,))
