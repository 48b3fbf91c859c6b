"""The independent checker: from promises, effects and what an outsider sees to a verdict.

It shares no code with the store or the worker, asks neither of them how they decide, and reads no key. Each finding
names the promise that was broken and the evidence. `test_checker.py` shows that each of them can be found.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.checker_facts import Effects, Promise, Seen, SeenRun

VERDICTS = ("lost", "doubled", "reordered", "stale", "torn", "stuck", "unforeseen", "leftover")
"""
lost        an acknowledged event without its effect
doubled     an effect recorded twice: a step, a mail, a run; or one step with two idempotency keys
reordered   mail or steps of one run in another order than they were published or called
stale       a record under an older token than one before it
torn        counters that do not add up; a result recorded that no attempt ever returned
stuck       a run that neither ended nor rests by right
unforeseen  an end, a step or a dead letter that the workload does not lead to
leftover    keys of ended runs after their retention
"""

ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    verdict: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """All findings, and how much was looked at: nothing found in nothing would be no proof."""

    findings: tuple[Finding, ...]
    looked_at: Counter[str] = field(default_factory=Counter[str])

    @property
    def good(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def count(self, verdict: str) -> int:
        """Findings of one kind."""
        return sum(finding.verdict == verdict for finding in self.findings)

    def __str__(self) -> str:
        shown = [f"{finding.verdict}: {finding.what}" for finding in self.findings[:20]]
        return f"{len(self.findings)} findings; " + "; ".join(shown) if shown else "nothing found"


def check(promises: Sequence[Promise], effects: Effects, seen: Seen) -> Verdict:
    """Judge a run of chaos that has come to rest.

    Args:
        promises: Of all acknowledged events.
        effects: What the actions did.
        seen: What the public API shows.
    """
    findings: list[Finding] = []
    looked_at = Counter[str](events=len(promises), effects=len(effects.effects), runs=len(seen.runs))
    for law in _LAWS:
        findings += law(promises, effects, seen)
    looked_at["recorded steps"] = sum(len(run.steps) for run in seen.runs.values())
    looked_at["recorded mail"] = sum(len(run.events) for run in seen.runs.values())
    return Verdict(tuple(findings), looked_at)


def check_leftovers(keys: Iterable[str], ended: Iterable[str]) -> list[Finding]:
    """Keys of runs that ended longer ago than their retention: there must be none.

    Args:
        keys: All keys of the namespace.
        ended: Full names of the runs that had ended.
    """
    gone = set(ended)
    found: list[Finding] = []
    for key in keys:
        _, _, rest = key.partition("}:")
        family, _, ref = rest.partition(":")
        if family in ("run", "history", "mailbox") and ref in gone:
            found.append(Finding("leftover", key))
    return found


# -------------------------------------------------------------------------------------------------------- the laws


def _every_start_has_its_run(promises: Sequence[Promise], _: Effects, seen: Seen) -> Iterator[Finding]:
    for promise in promises:
        if promise.fate != "starts":
            continue
        for ref in promise.runs:
            run = seen.runs.get(ref)
            if run is None:
                yield Finding("lost", f"event {promise.id} ({promise.kind}) was acknowledged, there is no run {ref}")
            elif run.status not in ENDED:
                yield from _unended(run, seen)
            else:
                yield from _as_planned(promise, run)


def _as_planned(promise: Promise, run: SeenRun) -> Iterator[Finding]:
    if run.status not in promise.ends:
        yield Finding("unforeseen", f"{run.ref} ended as {run.status}, planned was {' or '.join(promise.ends)}")
    recorded = Counter(step.action for step in run.steps)
    for action, least in promise.steps.items():
        if recorded[action] < least:
            yield Finding("lost", f"{run.ref} ended with {recorded[action]} of {least} steps {action}")
    most = Counter(promise.steps) + Counter(promise.optional)
    for action, count in recorded.items():
        if count > most[action]:
            yield Finding("doubled", f"{run.ref} recorded {count} steps {action}, planned were {most[action]}")


def _unended(run: SeenRun, seen: Seen) -> Iterator[Finding]:
    if run.status == "suspended":
        yield Finding("unforeseen", f"{run.ref} is suspended")
    elif run.status == "running" and not _is_held(run, seen):
        yield Finding("stuck", f"{run.ref} is running and nobody alive holds it (owner {run.owner or 'none'})")
    else:
        yield Finding("stuck", f"{run.ref} is {run.status} with {run.mails} mails, owner {run.owner or 'none'}")


def _is_held(run: SeenRun, seen: Seen) -> bool:
    return any(run.owner.startswith(f"{worker}.") for worker in seen.workers)


def _every_mail_is_recorded_in_order(promises: Sequence[Promise], _: Effects, seen: Seen) -> Iterator[Finding]:
    order = {promise.id: promise.order for promise in promises if promise.fate == "mail"}
    for promise in promises:
        if promise.fate != "mail":
            continue
        for ref in promise.runs:
            run = seen.runs.get(ref)
            if run is None or promise.id not in run.events:
                yield Finding("lost", f"event {promise.id} ({promise.kind}) is not in the history of {ref}")
    for run in seen.runs.values():
        for event_id, times in Counter(run.events).items():
            if times > 1:
                yield Finding("doubled", f"{run.ref} recorded event {event_id} {times} times")
        places = [order[event_id] for event_id in run.events if order.get(event_id)]
        for before, after in itertools.pairwise(places):
            if after < before:
                yield Finding("reordered", f"{run.ref} recorded mail {after} behind mail {before}")


def _every_bad_event_is_a_letter(promises: Sequence[Promise], _: Effects, seen: Seen) -> Iterator[Finding]:
    letters = defaultdict[str, list[str]](list)
    for letter in seen.letters:
        letters[letter.event_id].append(letter.reason)
    planned = {promise.id for promise in promises if promise.fate == "dead"}
    for promise in promises:
        if promise.fate != "dead":
            continue
        reasons = letters[promise.id]
        if not reasons:
            yield Finding("lost", f"event {promise.id} ({promise.kind}) is no dead letter and was not wanted elsewhere")
        elif len(reasons) > 1:
            yield Finding("doubled", f"event {promise.id} is {len(reasons)} dead letters: {'; '.join(reasons)}")
        elif not reasons[0]:
            yield Finding("unforeseen", f"the dead letter of event {promise.id} has no reason")
    good = {promise.id for promise in promises} - planned
    for letter in seen.letters:
        if letter.event_id in good:
            yield Finding("unforeseen", f"event {letter.event_id} is a dead letter ({letter.reason}) of {letter.run}")


def _nothing_starts_twice(_: Sequence[Promise], __: Effects, seen: Seen) -> Iterator[Finding]:
    if seen.total is not None and seen.total > len(seen.runs) + seen.unsure:
        yield Finding(
            "doubled", f"there are {seen.total} runs, {len(seen.runs)} known ones and at most {seen.unsure} others"
        )


def _every_step_is_recorded_once(_: Sequence[Promise], __: Effects, seen: Seen) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for run in seen.runs.values():
        for number, times in Counter(step.number for step in run.steps).items():
            if times > 1:
                yield Finding("doubled", f"{run.ref} recorded step {number} {times} times")
        for step in run.steps:
            other = owners.setdefault(step.nonce, f"{run.ref} step {step.number}")
            if other != f"{run.ref} step {step.number}":
                yield Finding("doubled", f"one attempt is the result of {other} and of {run.ref} step {step.number}")


def _tokens_rise(_: Sequence[Promise], __: Effects, seen: Seen) -> Iterator[Finding]:
    for run in seen.runs.values():
        highest = 0
        for step in run.steps:
            if step.token < highest:
                yield Finding(
                    "stale", f"{run.ref} recorded step {step.number} under token {step.token}, behind one of {highest}"
                )
            highest = max(highest, step.token)
        if run.token < highest:
            yield Finding("stale", f"{run.ref} has token {run.token}, and a record under {highest}")


def _steps_follow_each_other(promises: Sequence[Promise], _: Effects, seen: Seen) -> Iterator[Finding]:
    for promise in promises:
        if promise.fate != "starts" or not promise.sequential:
            continue
        for ref in promise.runs:
            numbers = [step.number for step in seen.runs[ref].steps] if ref in seen.runs else []
            if numbers != sorted(numbers):
                yield Finding("reordered", f"{ref} recorded its steps as {numbers}")


def _what_is_recorded_was_done(_: Sequence[Promise], effects: Effects, seen: Seen) -> Iterator[Finding]:
    done = {effect.nonce: effect for effect in effects.effects if effect.word == "end"}
    for run in seen.runs.values():
        for step in run.steps:
            effect = done.get(step.nonce)
            if effect is None:
                yield Finding("torn", f"{run.ref} step {step.number} has a result that no attempt returned")
            elif (effect.run, effect.step, effect.token) != (run.ref, step.number, step.token):
                yield Finding(
                    "torn",
                    f"{run.ref} step {step.number} has the result of {effect.run} step {effect.step},"
                    f" token {effect.token}",
                )


def _one_key_per_step(_: Sequence[Promise], effects: Effects, __: Seen) -> Iterator[Finding]:
    keys: dict[tuple[str, int], str] = {}
    steps: dict[str, tuple[str, int]] = {}
    for effect in effects.effects:
        step = (effect.run, effect.step)
        if keys.setdefault(step, effect.key) != effect.key:
            yield Finding("doubled", f"{effect.run} step {effect.step} saw two keys: {keys[step]} and {effect.key}")
        if steps.setdefault(effect.key, step) != step:
            yield Finding("doubled", f"key {effect.key} belongs to two steps: {steps[effect.key]} and {step}")


def _nothing_recorded_is_done_again(_: Sequence[Promise], effects: Effects, seen: Seen) -> Iterator[Finding]:
    """A later lease reads the history first, so it must not begin a step that an earlier lease has recorded."""
    recorded = {(run.ref, step.number): step.token for run in seen.runs.values() for step in run.steps}
    holders: dict[tuple[str, int], int] = {}
    for effect in effects.effects:
        if effect.word != "begin":
            continue
        if effect.token > recorded.get((effect.run, effect.step), effect.token):
            yield Finding(
                "doubled",
                f"{effect.run} step {effect.step} was begun under token {effect.token}, after its record under"
                f" {recorded[effect.run, effect.step]}",
            )
        if holders.setdefault((effect.run, effect.token), effect.pid) != effect.pid:
            yield Finding("stale", f"{effect.run}: two workers acted under token {effect.token}")


def _counters_add_up(_: Sequence[Promise], __: Effects, seen: Seen) -> Iterator[Finding]:
    if seen.audit.get("balanced") is not True:
        yield Finding("torn", f"the audit does not balance: {seen.audit.get('problems')}")


_LAWS: tuple[Callable[[Sequence[Promise], Effects, Seen], Iterable[Finding]], ...] = (
    _every_start_has_its_run,
    _every_mail_is_recorded_in_order,
    _every_bad_event_is_a_letter,
    _nothing_starts_twice,
    _every_step_is_recorded_once,
    _tokens_rise,
    _steps_follow_each_other,
    _what_is_recorded_was_done,
    _one_key_per_step,
    _nothing_recorded_is_done_again,
    _counters_add_up,
)
