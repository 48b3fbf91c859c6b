"""A run's history, executed again from its first record: for paranoid tests, exported histories, questions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from workflow_worker.app.registry import App
from workflow_worker.model.command import Command, Suspend
from workflow_worker.model.event import Mail
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.record import Record, RunFailed, RunStarted, RunSuspended
from workflow_worker.runtime.execution import Execution

_REJECTED = f"{EventRejected.__module__}.{EventRejected.__qualname__}"


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """All that a replay needs: who the run is, what started it, and what was recorded since."""

    ref: RunRef
    version: int
    created_at: int
    start: Mail
    records: tuple[Record, ...]


class ReplayFailed(AssertionError):
    """A history does not fit the code any more; the message is the runtime's "expected / got" report."""


@contextmanager
def in_memory(app: App, run: RecordedRun) -> Generator[Execution]:
    """The run in memory before its first record; closed at the end.

    Raises:
        UsageError: The app has no such workflow in this version.
        EventRejected: The start event does not fit its class any more.
    """
    workflow, _ = split_run_ref(run.ref)
    definition = app.find_workflow(workflow, run.version)
    if definition is None:
        raise UsageError(f"app {app.name!r} has no workflow {workflow}@{run.version}, which run {run.ref} belongs to")
    execution = definition.execution(run.ref, run.start.event, run.created_at, app.events)
    try:
        yield execution
    finally:
        execution.close()


def replay(app: App, run: RecordedRun) -> list[Command]:
    """Execute the history again and compare it with the code; what the run asks for behind it.

    Raises:
        ReplayFailed: The code does something else than was recorded.
    """
    if _was_rejected(run):
        return []  # no code of it has ever run
    with in_memory(app, run) as execution:
        commands = execution.feed(run.records)
        outstanding = execution.outstanding()
    was_suspended = any(isinstance(record, RunSuspended) for record in run.records)
    for command in commands:
        if isinstance(command, Suspend) and not was_suspended:
            raise ReplayFailed(f"run {run.ref} does not replay: {command.failure}")
    return outstanding


def _was_rejected(run: RecordedRun) -> bool:
    """Whether the run ended at once, because its start event does not fit."""
    last = run.records[-1] if run.records else None
    started = all(isinstance(record, RunStarted) for record in run.records[:-1])
    return isinstance(last, RunFailed) and started and last.failure.type == _REJECTED


def waits_of(app: App, run: RecordedRun) -> tuple[tuple[type, ...], ...]:
    """The event classes of each ``wf.wait_for`` that the run is at, oldest first."""
    with in_memory(app, run) as execution:
        execution.feed(run.records)
        return execution.awaited_events


def describe_waits(app: App, run: RecordedRun) -> Sequence[str]:
    """Where each task of the run stands: its name and the author's lines."""
    with in_memory(app, run) as execution:
        execution.feed(run.records)
        return execution.stack()
