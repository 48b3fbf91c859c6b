"""What people look at; no decision rests on it."""

from __future__ import annotations

from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.memory.machine import entries
from workflow_worker.store.memory.machine.leases import is_valid
from workflow_worker.store.memory.machine.state import DeadEntry, Partition, RunState, StreamId, format_id, parse_id
from workflow_worker.store.transitions import Depth, Recorded, RunPage, RunQuery


def view_run(p: Partition, ref: RunRef) -> RunView | None:
    """One run without its history."""
    run = p.state.runs.get(ref)
    return None if run is None else _view(p, run)


def view_runs(p: Partition, query: RunQuery) -> RunPage:
    """Runs that fit the query, newest first; of one millisecond the last name first."""
    last = None
    if query.after:
        seen = p.state.runs.get(RunRef(query.after))
        if seen is None:
            return RunPage((), 0)
        last = seen.created_at, seen.ref
    fitting = [
        run
        for run in p.state.runs.values()
        if query.status in (None, run.status)
        and query.workflow in (None, run.workflow)
        and query.subject in (None, run.subject)
        and (last is None or (run.created_at, run.ref) < last)
    ]
    fitting.sort(key=lambda run: (run.created_at, run.ref), reverse=True)
    items = tuple(_view(p, run) for run in fitting[: query.limit])
    return RunPage(items, len(fitting) if last is None else len(items))


def find_runs(p: Partition, run_id: str) -> list[RunRef]:
    """The runs of any workflow that have this id, by name."""
    return sorted(run.ref for run in p.state.runs.values() if run.id == run_id)


def recorded(p: Partition, ref: RunRef) -> Recorded | None:
    """The run's history with what began it."""
    run = p.state.runs.get(ref)
    if run is None:
        return None
    return Recorded(run.version, run.began_at, entries.mail_of(run.start), tuple(run.history))


def start_event(p: Partition, ref: RunRef) -> tuple[str, ...] | None:
    """The fields of the run's start event as their producer gave them, flat."""
    run = p.state.runs.get(ref)
    return None if run is None else tuple(part.decode() for part in entries.without_via(run.start.fields))


def dead_letters(p: Partition, limit: int, after: str) -> list[DeadLetter]:
    """Dead letters, oldest first, that were not redriven."""
    last = parse_id(after) if after else (0, 0)
    waiting = [item for item in p.state.dead.items() if item[0] > last and item[1].redriven_at is None]
    return [_letter(*item) for item in waiting[:limit]]


def dead_letter(p: Partition, dead_id: str) -> DeadLetter | None:
    """One dead letter, also when it was redriven."""
    try:
        key = parse_id(dead_id)
    except ValueError:
        return None
    found = p.state.dead.get(key)
    return None if found is None else _letter(key, found)


def depth(p: Partition) -> Depth:
    """How much waits; of ``ready`` only the entries that still mean something."""
    s = p.state
    return Depth(
        events=len(s.events),
        ready=sum(is_valid(p, ref, token) for ref, token in s.ready.values()),
        delayed=len(s.delayed),
        dead=sum(letter.redriven_at is None for letter in s.dead.values()),
        sessions=len(s.sessions),
        suspended=sum(run.status is RunStatus.SUSPENDED for run in s.runs.values()),
    )


def _view(p: Partition, run: RunState) -> RunView:
    return RunView(
        ref=run.ref,
        workflow=run.workflow,
        id=run.id,
        version=run.version,
        status=run.status,
        subject=run.subject,
        started_at=run.created_at,
        updated_at=run.updated_at,
        attempts=run.attempts,
        takeovers=run.takeovers,
        owner=run.owner,
        token=run.token,
        mails=len(run.mailbox),
        records=len(run.history),
        state=run.state,
        result=run.result,
        error=run.error,
        wake=p.state.wakes.get(run.ref),
        waits=tuple(run.waits),
    )


def _letter(dead_id: StreamId, letter: DeadEntry) -> DeadLetter:
    return DeadLetter(
        id=format_id(dead_id),
        reason=letter.reason,
        at=letter.at,
        raw=letter.fields,
        run=letter.run or "",
        redriven=letter.redriven_at is not None,
    )
