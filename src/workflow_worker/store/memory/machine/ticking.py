"""What time does: dead sessions are reaped, wakes and delayed events come due, ids and ended runs are forgotten.

One call moves at most `limit` things, in this order: sessions, wakes, early events, delayed events, the search for
undeclared dead letters, retention. `full` says that the budget was used up: call again at once.
"""

from __future__ import annotations

from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.memory.machine import entries, leases
from workflow_worker.store.memory.machine.facts import SessionEnded, Unclaimed
from workflow_worker.store.memory.machine.operations import sweep_undeclared
from workflow_worker.store.memory.machine.state import FULL_MS, IDLE, PARKED, PER_CALL, Partition, SessionState
from workflow_worker.store.transitions import Ticked


def tick(p: Partition, limit: int, now: int) -> Ticked:
    """Move what is due; any number of workers may call it at any time. A limit above 200 counts as 200."""
    limit = max(1, min(limit, PER_CALL))
    _rotate_seen(p, now)
    _watch_memory(p, now)
    left = limit
    for step in (_reap_sessions, _wake_runs, _expire_early, _send_delayed, _sweep, _retire):
        left -= step(p, now, left)
    due = [*p.state.wakes.values(), *p.state.early_due.values(), *(at for at, _ in p.state.delayed.values())]
    return Ticked(now, limit - left, left <= 0, min(due, default=None), p.memory, _next_session(p, now))


def _next_session(p: Partition, now: int) -> int | None:
    living = [each for each in p.state.sessions.values() if not each.reaping]
    third = p.limits.lease_ttl_ms // 3
    due = [each.expiry for each in living] + [each.marked + third for each in living if each.marked is not None]
    return min((at for at in due if at > now), default=None)


def _watch_memory(p: Partition, now: int) -> None:
    """Above the high-water mark nothing new is begun for a while; what is running needs the rest to come to its end.
    The mark runs out by itself, so that a namespace without workers is not closed for good."""
    water = p.limits.memory_high_water
    if p.memory is not None:
        p.state.full_until = now + FULL_MS if 0 < water <= p.memory else 0


def _rotate_seen(p: Partition, now: int) -> None:
    """An id is remembered for one to two windows. A clock that jumped back begins the window anew."""
    s = p.state
    if s.rotated_at is None or s.rotated_at > now:
        s.rotated_at = now
    elif now - s.rotated_at >= p.limits.dedup_window_ms:
        s.seen_old, s.seen_new, s.rotated_at = s.seen_new, set(), now


# ---------------------------------------------------------------------------------------------------------- sessions


def _reap_sessions(p: Partition, now: int, limit: int) -> int:
    """A session past its expiry is marked, and reaped a third of LEASE_TTL later unless it renews; reaping is final
    from its first piece on.

    Two steps, because a server that was frozen finds every session expired at its first tick. Clock jumps: an expiry
    further ahead than LEASE_TTL is cut to that, a mark in the future is made anew.
    """
    ttl, moved = p.limits.lease_ttl_ms, 0
    for name, session in list(p.state.sessions.items()):
        if not session.reaping:
            session.expiry = min(session.expiry, now + ttl)
            if session.expiry > now:
                continue
            if session.marked is None or session.marked > now:
                session.marked = now
            if now - session.marked < ttl // 3:
                continue
        if moved >= limit:
            break
        if not session.reaping:
            session.reaping = True
            p.tell(SessionEnded(name))
        moved += _reap(p, name, session, now, limit - moved)
    return moved


def _reap(p: Partition, name: SessionId, session: SessionState, now: int, limit: int) -> int:
    refs = list(session.held)[:limit]
    for ref in refs:
        leases.take_over(p, p.state.runs[ref], now)
    if not session.held:
        del p.state.sessions[name]
    return max(1, len(refs))


# -------------------------------------------------------------------------------------------------------------- due


def _wake_runs(p: Partition, now: int, limit: int) -> int:
    """Due runs that nobody holds go to ``ready``. Any other wake is dropped: the holder fires its timers itself, a
    ready run has its entry, a suspended or ended one has none."""
    due = _due(p.state.wakes, now, limit)
    for ref in due:
        del p.state.wakes[ref]
        run = p.state.runs.get(ref)
        if run is not None and run.owner in (IDLE, PARKED) and not run.status.ended:
            leases.make_ready(p, run, now)
    return len(due)


def _due(times: dict[RunRef, int], now: int, limit: int) -> list[RunRef]:
    found = sorted((at, ref) for ref, at in times.items() if at <= now)
    return [ref for _, ref in found[: max(0, limit)]]


def _expire_early(p: Partition, now: int, limit: int) -> int:
    """An early event past its deadline is dead ``unclaimed``; one that a waiting run had just goes."""
    s, moved = p.state, 0
    for subject in [subject for subject, at in s.early_due.items() if at <= now]:
        kept = s.early[subject]
        overdue = [item for item in kept if item.deadline <= now][: max(0, limit - moved)]
        for item in overdue:
            kept.remove(item)
            s.counts["unclaimed"] += 1
            if not item.to:
                p.bury(entries.without_via(item.entry.fields), "unclaimed", now)
            p.tell(Unclaimed(subject, item.entry.id))
        moved += len(overdue)
        if kept:
            s.early_due[subject] = min(item.deadline for item in kept)
        else:
            del s.early[subject], s.early_due[subject]
    return moved


def _send_delayed(p: Partition, now: int, limit: int) -> int:
    found = sorted((at, delayed_id) for delayed_id, (at, _) in p.state.delayed.items() if at <= now)[: max(0, limit)]
    for _, delayed_id in found:
        p.add(p.state.delayed.pop(delayed_id)[1], now)
    return len(found)


def _sweep(p: Partition, now: int, limit: int) -> int:
    return sweep_undeclared(p, now, max(0, limit))


def _retire(p: Partition, now: int, limit: int) -> int:
    """Ended runs go when they are too old or too many, the oldest first; redriven dead letters when too old."""
    s, oldest = p.state, now - p.limits.retention_ms
    excess = len(s.ended) - p.limits.retention_runs
    gone = 0
    if excess > 0 or any(at <= oldest for at in s.ended.values()):
        for at, ref in sorted((at, ref) for ref, at in s.ended.items())[: max(0, limit)]:
            if at > oldest and gone >= excess:
                break
            leases.purge(p, ref)
            gone += 1
    for dead_id in [
        i for i, letter in s.dead.items() if letter.redriven_at is not None and letter.redriven_at <= oldest
    ]:
        if gone >= limit:
            break
        del s.dead[dead_id]
        gone += 1
    return gone
