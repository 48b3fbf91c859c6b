"""Figures of a chaos run, from the actions' own lines and the nemesis' diary: pure functions."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import REDIS_FAULTS, Happened
from tests.support.checker_facts import Armed, Effect, Seen

_S = 1_000_000_000
_NEVER = 1 << 63


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds: how many were measured, median, 99th percentile, longest."""

    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of these."""
        found = sorted(values)
        if not found:
            return cls(0, 0, 0, 0)
        return cls(len(found), found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)], found[-1])

    def __str__(self) -> str:
        return f"{self.p50:.2f} / {self.p99:.2f} / {self.longest:.2f} s ({self.count})"


@dataclass(frozen=True, slots=True)
class Probed:
    """One event of the probe: its run, when it was first sent and when it was acknowledged (monotonic, in ns)."""

    run: str
    sent: int
    acknowledged: int


class News:
    """What has been appended to the effects file since this was made, a piece at a time."""

    def __init__(self, effects: Path) -> None:
        self._effects = effects
        self._at = effects.stat().st_size if effects.exists() else 0

    def begun(self) -> list[str]:
        """The runs of which an attempt has begun since the last call."""
        with self._effects.open("rb") as lines:
            lines.seek(self._at)
            text = lines.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        return [line.split()[1].decode() for line in whole.splitlines() if line.startswith(b"begin ")]


def consumption_back(
    effects: Sequence[Effect], happened: Sequence[Happened], probed: Sequence[Probed], *, calm: bool
) -> dict[str, Spread]:
    """After each fault that had Redis down: seconds from the moment when the server answered its operator again until
    consumption was seen to be back.

    In a calm that is when the first event that was acknowledged from then on had its effect. In a storm that event may
    fall to a worker that the next fault kills, and be taken over later: there it is the effect of any event that was
    acknowledged from then on, and where another such fault was still going on, "then" is the end of that one.

    Args:
        effects: What the actions did.
        happened: What the nemesis did.
        probed: The events of the probe, in the order in which they were acknowledged.
        calm: Only faults that came alone, or only those that others came with.
    """
    began: dict[str, int] = {}
    for effect in effects:
        if effect.word == "begin":
            began.setdefault(effect.run, effect.at)
    acknowledged = [probe.acknowledged for probe in probed]
    effective = [began.get(probe.run, _NEVER) for probe in probed]
    if not calm:
        effective = list(itertools.accumulate(reversed(effective), min))[::-1]
    down = sorted((each.began, each.ended) for each in happened if each.kind in REDIS_FAULTS)
    found = defaultdict[str, list[float]](list)
    for fault in happened:
        if fault.calm is not calm or fault.kind not in REDIS_FAULTS:
            continue
        ended = fault.ended
        for other_began, other_ended in down if not calm else ():
            if other_began <= ended:
                ended = max(ended, other_ended)
        place = bisect.bisect_right(acknowledged, ended)
        if place < len(probed) and effective[place] != _NEVER:
            found[fault.kind].append(max(0, effective[place] - ended) / _S)
    return {kind: Spread.of(values) for kind, values in sorted(found.items())}


def takeovers(
    effects: Sequence[Effect],
    happened: Sequence[Happened],
    kinds: Sequence[str],
    waited: AbstractSet[str],
    max_takeovers: int,
) -> tuple[Spread, Spread]:
    """After each worker that such a fault killed alone: seconds until each attempt that it had begun was begun
    elsewhere, of ordinary runs and of suspects.

    A suspect lost its `max_takeovers`-th holder, and is executed alone: one after the other, while others take turns
    with them. Runs that `waited` for a person, because still more workers had died with them, are left out.
    """
    deaths = {pid: each.began for each in happened if each.calm and each.kind in kinds for pid in each.pids}
    open_at_death: dict[tuple[str, int], tuple[int, int]] = {}
    ended = {effect.nonce for effect in effects if effect.word != "begin"}
    holders = defaultdict[tuple[str, int], set[int]](set)
    ordinary, suspects = list[float](), list[float]()
    for effect in effects:
        if effect.word != "begin" or effect.run in waited:
            continue
        step = (effect.run, effect.step)
        waiting = open_at_death.pop(step, None)
        if waiting is not None and effect.pid != waiting[0] and effect.at > waiting[1]:
            waits = suspects if len(holders[step]) >= max_takeovers else ordinary
            waits.append((effect.at - waiting[1]) / _S)
        holders[step].add(effect.pid)
        if effect.pid in deaths and effect.nonce not in ended and effect.at <= deaths[effect.pid]:
            open_at_death[step] = (effect.pid, deaths[effect.pid])
    return Spread.of(ordinary), Spread.of(suspects)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Attempts beyond the planned ones, and attempts of one step that were under way in two processes at once."""

    attempts: int
    repeated: int
    overlapping: int


def repeats(effects: Sequence[Effect]) -> Repeats:
    """How often work was done again, which is promised only to be rare."""
    begun = Counter[tuple[str, int, int]]()
    spans = defaultdict[tuple[str, int], list[tuple[int, int, int]]](list)
    ends = {effect.nonce: effect.at for effect in effects if effect.word == "end"}
    for effect in effects:
        if effect.word == "begin":
            begun[effect.run, effect.step, effect.attempt] += 1
            if effect.nonce in ends:
                spans[effect.run, effect.step].append((effect.at, ends[effect.nonce], effect.pid))
    overlapping = 0
    for attempts in spans.values():
        attempts.sort()
        for (_, ended, pid), (began, _, other) in itertools.pairwise(attempts):
            overlapping += began < ended and pid != other
    return Repeats(sum(begun.values()), sum(times - 1 for times in begun.values()), overlapping)


def points_hit(
    armed: Sequence[Armed], deaths: Mapping[int, int], ours: set[int], paused: Mapping[int, int]
) -> Counter[tuple[str, str]]:
    """How often each crash or pause point was hit, by point and way.

    Args:
        armed: What worker processes said of themselves.
        deaths: Exit codes of worker processes by their ids, as the services logged them.
        ours: Processes that the nemesis killed.
        paused: Processes that were found stopped, though nobody had stopped them.
    """
    hit = Counter[tuple[str, str]]()
    for each in armed:
        code = deaths.get(each.pid)
        if each.way == "stop":
            hit[each.point, each.way] += paused.get(each.pid, 0)
        elif each.way == "exit":
            hit[each.point, each.way] += code == 86
        else:
            hit[each.point, each.way] += code == -9 and each.pid not in ours
    return +hit


def refused(seen: Seen) -> int:
    """Commits of zombies that were refused."""
    return int(str(seen.audit.get("fenced", 0)))
