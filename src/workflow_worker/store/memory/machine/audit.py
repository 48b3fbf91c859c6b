"""The invariants that one look at the state can check: A (every event has one fate) and D (nothing is stranded)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.leases import is_valid
from workflow_worker.store.memory.machine.state import IDLE, PARKED, READY, Partition, RunState
from workflow_worker.store.transitions import Audit

_COUNTED = (
    *("added", "ingested", "routed", "early", "duplicate", "dead"),
    *("deliveries", "recorded", "unclaimed", "fenced", "again", "takeovers"),
)


def audit(p: Partition) -> Audit:
    """Count, and say in words which invariant does not hold. Read-only."""
    problems = (*_accounts(p), *_runs(p), *_references(p), *_sessions(p))
    return Audit(
        **{name: p.state.counts[name] for name in _COUNTED},
        queued=len(p.state.events),
        delayed=len(p.state.delayed),
        balanced=not problems,
        problems=problems,
    )


def _accounts(p: Partition) -> Iterator[str]:
    """A: what came in is queued or has exactly one fate; what was delivered is recorded or still mail."""
    s, n = p.state, p.state.counts
    if n["added"] != n["ingested"] + len(s.events):
        yield f"A: {n['added']} added, but {n['ingested']} ingested and {len(s.events)} queued"
    fates = n["routed"] + n["early"] + n["duplicate"] + n["dead"]
    if n["ingested"] != fates:
        yield f"A: {n['ingested']} ingested, but {fates} fates"
    waiting = sum(map(len, s.early.values()))
    if n["early"] + n["kept"] != waiting + n["claimed"] + n["unclaimed"]:
        gone = f"{n['claimed']} claimed, {n['unclaimed']} unclaimed"
        yield f"A: {n['early']} early and {n['kept']} kept, but {waiting} waiting, {gone}"
    mails = sum(len(run.mailbox) for run in s.runs.values())
    if n["deliveries"] != n["recorded"] + mails:
        yield f"A: {n['deliveries']} deliveries, but {n['recorded']} recorded and {mails} in mailboxes"


def _runs(p: Partition) -> Iterator[str]:
    valid = Counter(ref for ref, token in p.state.ready.values() if is_valid(p, ref, token))
    for ref, run in p.state.runs.items():
        if valid[ref] != (run.owner == READY):
            yield f"D: {ref} has {valid[ref]} valid ready entries, owner {run.owner!r}"
        problem = _ended(p, run) if run.status.ended else _live(p, run)
        if problem:
            yield f"{problem}: {ref}"


def _references(p: Partition) -> Iterator[str]:
    """D and F: what points at a run points at a live one, and wakes belong to runs that nobody holds."""
    for subject, refs in p.state.subjects.items():
        for ref in refs:
            if not _is_live(p, ref):
                yield f"subject {subject!r} lists {ref}, which is not live"
    for ref in p.state.wakes:
        if not _is_live(p, ref):
            yield f"F: a wake is left of {ref}"
        elif p.state.runs[ref].owner not in (IDLE, PARKED):
            yield f"D: {ref} has a wake beside its owner {p.state.runs[ref].owner!r}"
    for wait, refs in p.state.waits.items():
        for ref in refs:
            if not _is_live(p, ref) or wait not in p.state.runs[ref].waits:
                yield f"F: a wait for {wait} is left of {ref}"


def _is_live(p: Partition, ref: RunRef) -> bool:
    run = p.state.runs.get(ref)
    return run is not None and not run.status.ended


def _ended(p: Partition, run: RunState) -> str:
    if run.owner != IDLE or run.waits:
        return "an ended run has an owner or waits"
    if run.mailbox:
        return "B: an ended run has mail that it did not record"
    return "" if run.ref in p.state.ended else "F: retention does not know an ended run"


def _live(p: Partition, run: RunState) -> str:
    if run.held:
        session = p.state.sessions.get(run.owner)
        return "" if session is not None and run.ref in session.held else "D: the owner's session does not hold the run"
    if run.owner == PARKED and run.ref not in p.state.wakes:
        return "D: parked without a wake"
    if run.status is RunStatus.SUSPENDED:
        return "" if run.owner == IDLE else "a suspended run has an owner"
    if run.owner == IDLE and run.mailbox:
        return "D: mail, but nobody is told"
    if run.subject is not None and run.ref not in p.state.subjects.get(run.subject, ()):
        return "A: a live run is missing among its subject's"
    return ""


def _sessions(p: Partition) -> Iterator[str]:
    for name, session in p.state.sessions.items():
        for ref in session.held:
            run = p.state.runs.get(ref)
            if run is None or run.owner != name:
                yield f"D: session {name} holds {ref}, which is not its"
