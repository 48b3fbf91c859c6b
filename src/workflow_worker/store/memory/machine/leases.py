"""The small parts that many transitions share: tokens, leases, ``ready``, and what ends with a run."""

from __future__ import annotations

from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.entries import mail_of
from workflow_worker.store.memory.machine.facts import Ended, GivenUp, Leased, Purged, TokenRaised, Work
from workflow_worker.store.memory.machine.rules import Rule
from workflow_worker.store.memory.machine.state import IDLE, READY, Partition, RunState, Wait
from workflow_worker.store.transitions import POISON_ERROR, LeasedRun


def raise_token(p: Partition, run: RunState, now: int) -> None:
    """A new fencing token: above the run's own, above all of the partition, and not below the clock.

    So it rises across a failover that lost the last ones, a clock that jumped back, and a run that was purged.
    """
    highest = p.state.highest_token if p.on(Rule.HIGHEST_TOKEN) else 0
    run.token = max(run.token + 1, highest + 1, now * 1000)
    p.state.highest_token = max(p.state.highest_token, run.token)
    p.tell(TokenRaised(run.ref, run.token))


def let_go(p: Partition, run: RunState) -> None:
    """Take the run out of its holder's hands; its owner is empty afterwards."""
    if run.held:
        session = p.state.sessions.get(run.owner)
        if session is not None:
            session.held.pop(run.ref, None)
        p.tell(GivenUp(run.ref))
    run.owner = IDLE


def lease(p: Partition, run: RunState, session: SessionId, number: int, now: int) -> None:
    """Give the run to a session. Its entry in ``ready`` goes stale by the new token; its wake goes, because the
    holder fires its timers itself."""
    let_go(p, run)
    raise_token(p, run, now)
    run.owner = session
    p.state.sessions[session].held[run.ref] = number
    if p.on(Rule.LEASE_ENDS_WAKE):
        p.state.wakes.pop(run.ref, None)
    p.tell(Leased(run.ref, session, run.token))


def make_ready(p: Partition, run: RunState, now: int) -> None:
    """Put the run into ``ready`` under its present token; its wake goes. A suspended run stays where it is."""
    p.state.wakes.pop(run.ref, None)
    if run.status is RunStatus.SUSPENDED:
        run.owner = IDLE
        return
    run.owner = READY
    p.state.ready[p.next_id(now)] = (run.ref, run.token)
    p.tell(Work())


def give_up(p: Partition, run: RunState, now: int) -> None:
    """A holder's run goes back to ``ready`` under a new token."""
    let_go(p, run)
    if p.on(Rule.TOKEN_RISES):
        raise_token(p, run, now)
    make_ready(p, run, now)


def take_over(p: Partition, run: RunState, now: int) -> None:
    """A run of a dead worker goes to ``ready``; one whose holders die again and again without a record is a poison
    pill and suspended."""
    run.takeovers += 1
    run.strikes += 1
    p.state.counts["takeovers"] += 1
    if run.strikes > p.limits.max_takeovers:
        run.status, run.error, run.updated_at = RunStatus.SUSPENDED, POISON_ERROR, now
    give_up(p, run, now)


def is_valid(p: Partition, ref: RunRef, token: int) -> bool:
    """Whether an entry of ``ready`` still means something."""
    run = p.state.runs.get(ref)
    return run is not None and run.owner == READY and run.token == token


def leased_view(run: RunState) -> LeasedRun:
    """What the holder is told of its run."""
    return LeasedRun(
        ref=run.ref,
        token=run.token,
        cid=run.cid,
        version=run.version,
        created_at=run.began_at,
        strikes=run.strikes,
        start=None if run.cid else mail_of(run.start),
        mail=tuple(map(mail_of, run.mailbox)),
    )


def remove_wait(p: Partition, run: RunState, wait: Wait) -> None:
    """The run waits for this no more."""
    run.waits.pop(wait, None)
    waiting = p.state.waits.get(wait)
    if waiting is not None:
        waiting.pop(run.ref, None)
        if not waiting:
            del p.state.waits[wait]


def finish(p: Partition, run: RunState, now: int) -> None:
    """The rules of any end: the run leaves its subject, its waits and its wake, and retention counts it."""
    if run.subject is not None and run.subject in p.state.subjects:
        p.state.subjects[run.subject].pop(run.ref, None)
        if not p.state.subjects[run.subject]:
            del p.state.subjects[run.subject]
    for wait in list(run.waits):
        remove_wait(p, run, wait)
    p.state.wakes.pop(run.ref, None)
    p.state.ended.pop(run.ref, None)
    p.state.ended[run.ref] = now
    p.tell(Ended(run.ref))


def purge(p: Partition, ref: RunRef) -> None:
    """Every key of an ended run goes (invariant F); its dead letters stay, they are a person's business."""
    p.state.runs.pop(ref, None)
    p.state.ended.pop(ref, None)
    p.tell(Purged(ref))
