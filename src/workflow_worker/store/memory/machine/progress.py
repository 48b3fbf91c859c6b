"""How runs go on: sessions open, renew and close; their holders load, commit and hand back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workflow_worker.model.event import Mail
from workflow_worker.model.ids import RunRef, SessionId, emit_id
from workflow_worker.model.run import RunStatus
from workflow_worker.store.bounds import LOADED_AT_ONCE, check_commits, check_held
from workflow_worker.store.memory.machine import entries, leases
from workflow_worker.store.memory.machine.entries import Entry, mail_of
from workflow_worker.store.memory.machine.facts import Committed, SessionEnded
from workflow_worker.store.memory.machine.room import put
from workflow_worker.store.memory.machine.rules import Rule
from workflow_worker.store.memory.machine.state import PARKED, PER_CALL, Partition, RunState, SessionState, Wait
from workflow_worker.store.transitions import (
    CROWDED_ERROR,
    REJECT_START,
    Commit,
    CommitOutcome,
    CommitWord,
    Loaded,
    Mode,
    Renewed,
    SessionLost,
)

# ---------------------------------------------------------------------------------------------------------- sessions


def open_session(p: Partition, session: SessionId, now: int) -> str:
    """Begin a session; one that exists is left as it is. Returns the mark of this state, made with it."""
    p.state.sessions.setdefault(session, SessionState(_expiry(p, now)))
    p.state.epoch = p.state.epoch or f"{session}-{now}"
    return p.state.epoch


def close_session(p: Partition, session: SessionId, died: bool, now: int) -> bool:
    """Hand back up to 200 runs that the session holds: uncounted, or each a takeover when its worker `died`. True when
    the session is gone, else call again."""
    found = p.state.sessions.get(session)
    if found is None:
        return True
    for ref in list(found.held)[:PER_CALL]:
        if died:  # else a run that kills its worker does so for ever: reaping would come too late to count it
            leases.take_over(p, p.state.runs[ref], now)
        else:
            leases.give_up(p, p.state.runs[ref], now)
    if found.held:
        return False
    del p.state.sessions[session]
    p.tell(SessionEnded(session))
    return True


def renew(p: Partition, session: SessionId, known: Sequence[tuple[RunRef, int]], now: int) -> Renewed | SessionLost:
    """Push the expiry two thirds of LEASE_TTL ahead and compare what is held with what the worker knows.

    A session that is missing or being reaped is lost for good. The mark of an expiry goes: a late renewal that comes
    before the reaping saves the session.
    """
    found = p.state.sessions.get(session)
    if found is None or found.reaping:
        if p.on(Rule.RENEW_NEVER_CREATES):
            return SessionLost()
        found = p.state.sessions.setdefault(session, SessionState(0))
        found.reaping = False
    found.expiry, found.marked = _expiry(p, now), None
    pairs = {(ref, p.state.runs[ref].token) for ref in found.held}
    named = set(known)
    unknown = [(ref, p.state.runs[ref].token) for ref in found.held]
    if not p.on(Rule.RENEW_DIFFERENCE):
        unknown = []
    return Renewed(
        now=now,
        lost=tuple(pair for pair in known if pair not in pairs),
        unknown=tuple(pair for pair in unknown if pair not in named),
        mail=tuple(ref for ref in found.held if p.state.runs[ref].mailbox),
    )


def _expiry(p: Partition, now: int) -> int:
    return now + p.limits.lease_ttl_ms * 2 // 3


# -------------------------------------------------------------------------------------------------------------- runs


def load(p: Partition, session: SessionId, held: Sequence[tuple[RunRef, int]], now: int) -> list[Loaded | None]:
    """Histories and mailboxes of held runs, until there is enough; None for one that is gone, or whose owner and token
    are not these any more."""
    check_held(held)
    found: list[Loaded | None] = []
    read = 0
    for ref, token in held:
        if read >= LOADED_AT_ONCE:
            break
        run = p.state.runs.get(ref)
        if run is None or not _is_holder(run, session, token):
            found.append(None)
            continue
        found.append(_loaded(run, now))
        read += len(run.history) + len(run.mailbox)
    return found


def _loaded(run: RunState, now: int) -> Loaded:
    return Loaded(
        now=now,
        cid=run.cid,
        start=mail_of(run.start),
        created_at=run.began_at,
        records=tuple(run.history),
        mail=tuple(map(mail_of, run.mailbox)),
        waits=tuple(run.waits),
    )


def _is_holder(run: RunState, session: SessionId, token: int) -> bool:
    return run.held and run.owner == session and run.token == token


def hand_back(p: Partition, session: SessionId, ref: RunRef, token: int, delay_ms: int, now: int) -> bool:
    """Give a run up, uncounted: to ``ready``, or parked until a wake after `delay_ms`. False: the pair is not held."""
    run = p.state.runs.get(ref)
    if run is None or not _is_holder(run, session, token):
        return False
    if delay_ms <= 0:
        leases.give_up(p, run, now)
        return True
    leases.let_go(p, run)
    if p.on(Rule.TOKEN_RISES):
        leases.raise_token(p, run, now)
    run.owner = PARKED
    p.state.wakes[ref] = now + delay_ms
    return True


# ----------------------------------------------------------------------------------------------------------- commits


def commit(p: Partition, commits: Sequence[Commit], now: int) -> list[CommitOutcome]:
    """Write steps of several runs; each is whole or not at all, and succeeds or is refused on its own.

    Raises:
        ValueError: See `check_commits`.
    """
    check_commits(commits)
    return [_commit_one(p, item, now) for item in commits]


def _commit_one(p: Partition, item: Commit, now: int) -> CommitOutcome:
    run = p.state.runs.get(item.ref)
    if run is None:
        return CommitOutcome("gone", now=now)
    if run.cid == item.cid and p.on(Rule.COMMIT_ONCE):
        p.state.counts["again"] += 1
        return _present("again", run, item, now)
    refused = _refusal(p, run, item)
    if refused is not None:
        p.state.counts["fenced"] += refused == "fenced"
        return CommitOutcome(refused, now=now)
    starts_refused = any(entry == REJECT_START for entry, _ in item.rejects)
    mode, status = (Mode.END, RunStatus.FAILED) if starts_refused else (item.mode, item.status)
    if mode is not Mode.KEEP and len(run.mailbox) > item.taken and p.on(Rule.MAIL_RULE):
        return CommitOutcome("mail", True, tuple(map(mail_of, run.mailbox[item.taken :])), now)
    crowded = mode is not Mode.END and _is_crowded(p, run, item)
    if crowded:
        mode, status = Mode.RELEASE, RunStatus.SUSPENDED
    _write(p, run, item, status, now)
    if mode is not Mode.END:
        _change_waits(p, run, item, () if crowded else item.waits_added, now)
    _emit(p, run, item, now)
    if item.restart is not None:
        _begin_again(p, run, item, item.restart, now)
    if mode is Mode.RELEASE and run.mailbox and p.on(Rule.WAIT_KEEPS_LEASE) and not crowded:
        mode = Mode.KEEP  # a new wait found early events: they are mail now, and a release with mail is none
    if mode is Mode.KEEP:
        return _present("ok", run, item, now)
    run.start_rejected = starts_refused
    _rest(p, run, item, mode, now)
    if crowded:
        run.error = CROWDED_ERROR
        return CommitOutcome("fenced", now=now)
    return CommitOutcome("ok", now=now)


def _rest(p: Partition, run: RunState, item: Commit, mode: Mode, now: int) -> None:
    leases.let_go(p, run)
    p.state.wakes.pop(run.ref, None)
    if mode is Mode.END:
        leases.finish(p, run, now)
    elif item.wake is not None and run.status is not RunStatus.SUSPENDED:
        p.state.wakes[run.ref] = item.wake


def _is_crowded(p: Partition, run: RunState, item: Commit) -> bool:
    """Whether a new wait of this commit would be one too many for what it waits for: one event would make more copies
    than the server may be held up for. The run is suspended then, and says so."""
    most = p.limits.waits_cap
    return any(len(p.state.waits.get(wait, ())) >= most for wait in item.waits_added if wait not in run.waits)


def _refusal(p: Partition, run: RunState, item: Commit) -> CommitWord | None:
    """Owner and token fence; base and the named mail tell whether the caller's picture of the run is the store's."""
    if not (run.held and run.owner == item.session) and p.on(Rule.OWNER_CHECK):
        return "fenced"
    if run.token != item.token and p.on(Rule.TOKEN_CHECK):
        return "fenced"
    if run.cid != item.base and p.on(Rule.BASE_CHAIN):
        return "conflict"
    if item.taken and p.on(Rule.NAMED_MAIL):
        named = run.mailbox[item.taken - 1].id if item.taken <= len(run.mailbox) else None
        if named != item.last_taken:
            return "conflict"
    return None


def _present(word: CommitWord, run: RunState, item: Commit, now: int) -> CommitOutcome:
    held = _is_holder(run, item.session, item.token)
    return CommitOutcome(word, held, tuple(map(mail_of, run.mailbox)) if held else (), now)


def _write(p: Partition, run: RunState, item: Commit, status: RunStatus, now: int) -> None:
    """Records, the mail that they stand for, and the fields that people read. None leaves a field as it is."""
    p.tell(Committed(item, tuple(entry.id for entry in run.mailbox[: item.taken])))
    reasons = dict(item.rejects)
    for entry in run.mailbox[: item.taken]:
        if entry.id in reasons:
            p.bury(entries.without_via(entry.fields), f"rejected: {reasons[entry.id]}", now, run.ref)
    if REJECT_START in reasons:
        fields = entries.without_via(run.start.fields)
        p.bury(fields, f"rejected: {reasons[REJECT_START]}", now, run.ref, start=True)
    p.state.counts["recorded"] += min(item.taken, len(run.mailbox))
    del run.mailbox[: item.taken]
    run.history += item.records
    if item.records:
        run.strikes = 0
    run.cid, run.status, run.updated_at = item.cid, status, now
    run.attempts += item.attempts
    run.state = item.state if item.state is not None else run.state
    run.result = item.result if item.result is not None else run.result
    run.error = item.error if item.error is not None else run.error


def _begin_again(p: Partition, run: RunState, item: Commit, start: Mail, now: int) -> None:
    """Continue as new: the same run with another start event and only this commit's records behind it. What the commit
    emits is still the old history's; from now on emits count from 1 under the id of the new start event."""
    fields = (part if isinstance(part, bytes) else part.encode() for part in start.event.fields())
    run.start, run.began_at = Entry(start.entry, tuple(fields)), now if item.began_at is None else item.began_at
    if p.on(Rule.RESTART_CLEARS):
        run.history[:] = item.records
        run.attempts = run.strikes = run.emitted = 0


def _change_waits(p: Partition, run: RunState, item: Commit, added: Sequence[Wait], now: int) -> None:
    for wait in added:
        _add_wait(p, run, wait, now)
    for wait in item.waits_removed:
        leases.remove_wait(p, run, wait)


def _add_wait(p: Partition, run: RunState, wait: Wait, now: int) -> None:
    """Wait for another subject's events; those that came before are copied, oldest first, and remember who had them."""
    if wait in run.waits:
        return
    run.waits[wait] = None
    p.state.waits.setdefault(wait, {})[run.ref] = None
    if not p.on(Rule.WAIT_LOOKS_EARLY):
        return
    event_type, subject = wait
    for kept in p.state.early.get(subject, ()):
        if kept.type == event_type and run.ref not in kept.to:
            kept.to.add(run.ref)
            put(p, run, kept.entry, now)


def _emit(p: Partition, run: RunState, item: Commit, now: int) -> None:
    """Follow-up events, each once in the life of the run, however often the step is done again.

    Their id holds the id of the start event: the next incarnation of the run emits its own.
    """
    for emit in item.emits:
        if emit.number <= run.emitted and p.on(Rule.EMIT_ONCE):
            continue
        run.emitted = max(run.emitted, emit.number)
        start_id = entries.event_id_of(run.start) if p.on(Rule.EMIT_NAMES_START) else "start"
        named = msgspec.structs.replace(emit.event, id=emit_id(run.ref, start_id, emit.number))
        fields = entries.encode(named, "emit", emit.workflow, emit.run)
        if emit.delay_ms > 0:
            p.state.delayed[p.next_id(now)] = (now + emit.delay_ms, fields)
        else:
            p.add(fields, now)
