"""What a person does: cancel, resume, redrive, drop. Each answers ``already`` or ``gone`` when repeated, and what was
done is kept in `State.acts`."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.model.ids import CANCEL_TYPE, CommitId, RunRef
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine import entries, leases
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.memory.machine.facts import Hint
from workflow_worker.store.memory.machine.routing import find_route
from workflow_worker.store.memory.machine.rules import Rule
from workflow_worker.store.memory.machine.state import DeadEntry, Partition, RunState, format_id, parse_id
from workflow_worker.store.transitions import OperatorAct, OperatorWord

_NOTED_ONCE_MS = 60_000


def cancel(p: Partition, ref: RunRef, by: str, reason: str, now: int) -> OperatorWord:
    """Put a cancel request into the mailbox, behind the mail that is there; one per run, and no cap holds it off.

    The holder gets a hint. A run that no session holds goes to ``ready`` under a new token: a park ends, and a
    suspended run is ``running`` again.
    """
    run = p.state.runs.get(ref)
    if run is None:
        return "gone"
    if run.status.ended or run.cancel_requested:
        return "already"
    run.cancel_requested = True
    p.state.acts.append(OperatorAct(now, by, "cancel", ref, reason))
    entry_id = format_id(p.next_id(now))
    data = msgspec.json.encode({"by": by, "reason": reason})
    fields = tuple(
        part if isinstance(part, bytes) else part.encode() for part in Event(entry_id, CANCEL_TYPE, data=data).fields()
    )
    run.mailbox.append(Entry(entry_id, fields))
    p.state.counts["deliveries"] += 1
    if run.held:
        p.tell(Hint(run.owner, ref))
        return "ok"
    if run.status is RunStatus.SUSPENDED:
        if not p.on(Rule.CANCEL_WAKES):
            return "ok"
        run.status, run.error, run.strikes = RunStatus.RUNNING, None, 0
    _to_ready(p, run, now)
    return "ok"


def resume(p: Partition, ref: RunRef, record: bytes, by: str, now: int) -> OperatorWord:
    """Let a suspended run go on: `record` is appended under a fresh commit id, strikes start anew.

    The fresh id is what makes every cached copy of the run unfit: whoever leases it loads it.
    """
    run = p.state.runs.get(ref)
    if run is None:
        return "gone"
    if run.status is not RunStatus.SUSPENDED:
        return "already"
    p.state.acts.append(OperatorAct(now, by, "resume", ref))
    run.status, run.error, run.strikes = RunStatus.RUNNING, None, 0
    run.history.append(record)
    run.updated_at = now
    _to_ready(p, run, now)
    run.cid = CommitId(f"operator/{run.token}")
    return "ok"


def _to_ready(p: Partition, run: RunState, now: int) -> None:
    leases.let_go(p, run)
    leases.raise_token(p, run, now)
    leases.make_ready(p, run, now)


def redrive(p: Partition, dead_id: str, by: str, now: int) -> OperatorWord:
    """Send a dead letter again, as a new entry; a run's copy goes to that run alone. The letter stays, marked."""
    letter = _letter(p, dead_id)
    if letter is None:
        return "gone"
    if letter.redriven_at is not None:
        return "already"
    p.state.acts.append(OperatorAct(now, by, "redrive", dead_id))
    send_again(p, letter, now)
    return "ok"


def send_again(p: Partition, letter: DeadEntry, now: int) -> None:
    """The letter's fields as an entry of ours: its id needs no look into the seen ids."""
    letter.redriven_at = now
    via = "redrive" if letter.run is None else f"{'start' if letter.start else 'copy'} {letter.run}"
    p.add((entries.VIA, via.encode(), *letter.fields), now)


def drop(p: Partition, dead_id: str, by: str, now: int) -> OperatorWord:
    """Delete a dead letter for good; repeated it is ``gone``."""
    if _letter(p, dead_id) is None:
        return "gone"
    del p.state.dead[parse_id(dead_id)]
    p.state.acts.append(OperatorAct(now, by, "drop", dead_id))
    return "ok"


def drop_letters(
    p: Partition, reason_prefix: str, type: str | None, before_ms: int | None, limit: int, by: str, now: int
) -> int:
    """Delete up to `limit` letters that wait and fit, oldest first; returns how many went."""
    found = [
        dead_id
        for dead_id, letter in p.state.dead.items()
        if letter.redriven_at is None
        and letter.reason.startswith(reason_prefix)
        and (before_ms is None or letter.at < before_ms)
        and (type is None or entries.field(letter.fields, b"type") == type.encode())
    ][: max(0, limit)]
    for dead_id in found:
        del p.state.dead[dead_id]
    if found:
        looked_for = f"reason {reason_prefix!r}, type {type!r}, before {before_ms}"
        p.state.acts.append(OperatorAct(now, by, "drop letters", looked_for, str(len(found))))
    return len(found)


def note(p: Partition, act: OperatorAct) -> OperatorWord:
    """What a person did by events. The same line once more within a minute is the repetition of a lost answer."""
    newest = p.state.acts[-1] if p.state.acts else None
    if newest is not None and act.at - newest.at <= _NOTED_ONCE_MS and replace(newest, at=act.at) == act:
        return "already"
    p.state.acts.append(act)
    return "ok"


def _letter(p: Partition, dead_id: str) -> DeadEntry | None:
    try:
        return p.state.dead.get(parse_id(dead_id))
    except ValueError:
        return None


def sweep_undeclared(p: Partition, now: int, limit: int) -> int:
    """Redrive up to `limit` dead letters ``undeclared`` whose type is declared now, from where the last call stopped.

    `register` starts the search, `tick` goes on with it. Returns how many entries were looked at.
    """
    s, looked = p.state, 0
    if s.sweep is None:
        return 0
    for dead_id in [dead_id for dead_id in s.dead if s.sweep < dead_id]:
        if looked == limit:
            return looked
        looked, s.sweep = looked + 1, dead_id
        letter = s.dead[dead_id]
        if letter.reason == "undeclared" and letter.redriven_at is None and _is_declared(p, letter):
            send_again(p, letter, now)
    s.sweep = None
    return looked


def _is_declared(p: Partition, letter: DeadEntry) -> bool:
    event_type = entries.field(letter.fields, b"type") or b""
    return find_route(p.state.routes, event_type.decode()) is not None
