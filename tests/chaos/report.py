"""The report of a chaos run: what was not exercised, the tables, and the place in the page where they belong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from tests.chaos.app import POINTS, WAYS
from tests.chaos.faults import MEASURED, PRODUCER_POINTS, SHARES
from tests.chaos.run import Outcome
from tests.support.checker import VERDICTS
from tests.support.proxy import Cut

_POINTS = (*POINTS, *PRODUCER_POINTS)
_MUST_LOSE = ("publish", "ingest", "commit", "renew", "load", "tick", "open")
"""Scripts whose reply must have been lost at least once in a large run."""
LARGE = 10_000
"""From so many events on a run must have met every crash point in every way."""
BACK_WITHIN_S = 5.0
TAKEN_OVER_MARGIN_S = 1.0


def not_exercised(outcome: Outcome) -> list[str]:
    """What this run would have had to do to prove anything: a run in which nothing happened is no success."""
    missing = [f"fault: {kind}" for kind in _wanted_faults(outcome) if not outcome.faults[kind]]
    if outcome.events < outcome.scale.events:
        missing.append(f"only {outcome.events} of {outcome.scale.events} events were acknowledged")
    if outcome.verdict.looked_at["recorded steps"] < outcome.events // 2:
        missing.append("too few steps were recorded")
    if outcome.scale.faults and not outcome.repeats.repeated:
        missing.append("no attempt had to be repeated")
    if outcome.scale.faults and not outcome.duplicates:
        missing.append("no duplicate")
    if outcome.scale.armed and outcome.scale.events >= LARGE:
        points, ways = {point for point, _ in outcome.points}, {way for _, way in outcome.points}
        missing += [f"point: {point}" for point in _POINTS if point not in points]
        missing += [f"lost reply of {script}" for script in _MUST_LOSE if not _lost_replies(outcome, script)]
        missing += [f"way to die at a point: {way}" for way in WAYS if way not in ways]
        if not outcome.refused:
            missing.append("no zombie's commit had to be refused")
        if not all(spread.count for spread in outcome.takeover.values()):
            missing.append("no takeover was measured")
    return missing


def _wanted_faults(outcome: Outcome) -> Iterable[str]:
    """All kinds, but for what found nothing to hit, in runs that are too small to deal each several times."""
    small = outcome.scale.faults < 5 * len(SHARES)
    return [kind for kind in SHARES if outcome.scale.faults >= len(SHARES) and not (small and outcome.missed[kind])]


def too_slow(outcome: Outcome) -> list[str]:
    """Figures beyond what is promised."""
    limit_s = outcome.scale.lease_ms / 1000 + TAKEN_OVER_MARGIN_S
    slow = [
        f"consumption came back only after {spread.p99:.1f} s (p99) when {kind}"
        for kind, spread in outcome.back.items()
        if spread.p99 > BACK_WITHIN_S
    ]
    return slow + [
        f"taken over only after {spread.longest:.1f} s: {kind}"
        for kind, spread in outcome.takeover.items()
        if spread.longest > limit_s
    ]


def markdown(outcome: Outcome) -> str:
    """The tables of one run."""
    scale, repeats = outcome.scale, outcome.repeats
    product = scale.server.partition("-")[0].capitalize()
    verdicts = [(verdict, outcome.verdict.count(verdict)) for verdict in VERDICTS]
    figures = [
        ("events acknowledged", f"{outcome.events:,}"),
        ("events of the probe besides", f"{outcome.probes:,}"),
        ("runs looked at", f"{outcome.runs:,}"),
        ("steps recorded", f"{outcome.verdict.looked_at['recorded steps']:,}"),
        ("mail recorded", f"{outcome.verdict.looked_at['recorded mail']:,}"),
        ("faults", f"{outcome.faults_in_all:,}"),
        ("duplicates recognised", f"{outcome.duplicates:,}"),
        ("attempts begun", f"{repeats.attempts:,}"),
        ("of these again, after a fault", f"{repeats.repeated:,}"),
        ("of these in two processes at once", f"{repeats.overlapping:,}"),
        ("commits of zombies refused", f"{outcome.refused:,}"),
        ("runs cancelled by the operator", f"{outcome.cancels:,}"),
        ("runs resumed by the operator (MAX_TAKEOVERS deaths without a record)", f"{outcome.resumed:,}"),
        ("work under faults / until rest", f"{outcome.work_s:.0f} s / {outcome.rest_s:.0f} s"),
    ]
    spreads = {f"consumption back: {kind}": spread for kind, spread in outcome.back.items()}
    spreads |= {f"the same in the storm: {kind}": spread for kind, spread in outcome.back_in_storm.items()}
    spreads |= {f"taken over: {kind}": spread for kind, spread in outcome.takeover.items()}
    spreads |= {f"suspects taken over: {kind}": spread for kind, spread in outcome.suspects.items() if spread.count}
    points = [
        (f"`{point}`", *(str(outcome.points[point, way]) for way in WAYS), str(_hits(outcome, point)))
        for point in _POINTS
    ]
    scripts = [
        (f"`{script}`", *(str(outcome.cuts[script, cut]) for cut in Cut))
        for script in sorted({script for script, _ in outcome.cuts})
    ]
    return "\n\n".join(
        [
            f"### {product} {outcome.version}",
            f"`{command_of(outcome)}`; LEASE_TTL_MS={scale.lease_ms}, three workers in two services.",
            _table(("violations", "found"), verdicts),
            _table(("", ""), figures),
            _table(
                ("seconds", "p50", "p99", "longest", "measured"),
                [
                    (name, f"{s.p50:.2f}", f"{s.p99:.2f}", f"{s.longest:.2f}", str(s.count))
                    for name, s in spreads.items()
                ],
            ),
            _table(("fault", "times"), sorted(outcome.faults.items())),
            _table(("crash or pause point", *WAYS, "together"), points),
            _table(("connection cut: call of", *Cut), scripts),
        ]
    )


def _lost_replies(outcome: Outcome, script: str) -> int:
    return outcome.cuts[script, Cut.AFTER] + outcome.cuts[script, Cut.MID_REPLY]


def _hits(outcome: Outcome, point: str) -> int:
    return sum(count for (place, _), count in outcome.points.items() if place == point)


def command_of(outcome: Outcome) -> str:
    """How this run is made again."""
    scale = outcome.scale
    words = f"python -m tests.chaos --server {scale.server} --events {scale.events} --faults {scale.faults}"
    words += f" --seed {scale.seed} --seconds {scale.seconds:g} --lease-ms {scale.lease_ms}"
    if scale.measured is not None:
        words += f" --measured {scale.measured}"
    if scale.measure != MEASURED:
        words += "".join(f' --measure "{kind}"' for kind in scale.measure)
    return words if scale.armed else f"{words} --unarmed"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "|".join(["---", *["---:"] * (len(head) - 1)]) + "|"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def put_into_page(page: Path, server: str, text: str) -> None:
    """Write the tables of one server between its marks; a page that has no such marks gets the tables at its end."""
    begin, finish = f"<!-- chaos {server} -->", f"<!-- end of chaos {server} -->"
    section = f"{begin}\n\n{text}\n\n{finish}"
    old = page.read_text() if page.exists() else ""
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(finish)}", re.DOTALL)
    page.write_text(found.sub(lambda _: section, old) if found.search(old) else f"{old}\n{section}\n".lstrip())


def document(outcome: Outcome) -> bytes:
    """The same for programs: everything that was counted, and every finding."""
    points: Mapping[str, int] = {f"{point} {way}": count for (point, way), count in outcome.points.items()}
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "command": command_of(outcome),
                "version": outcome.version,
                "events": outcome.events,
                "probes": outcome.probes,
                "runs": outcome.runs,
                "looked_at": outcome.verdict.looked_at,
                "kinds": outcome.kinds,
                "faults": outcome.faults,
                "missed": outcome.missed,
                "points": points,
                "cuts": {f"{script}: {cut}": count for (script, cut), count in outcome.cuts.items()},
                "letters": outcome.letters,
                "back": outcome.back,
                "back_in_storm": outcome.back_in_storm,
                "takeover": outcome.takeover,
                "suspects": outcome.suspects,
                "repeats": outcome.repeats,
                "refused": outcome.refused,
                "findings": outcome.verdict.findings,
                "not_exercised": not_exercised(outcome),
                "too_slow": too_slow(outcome),
            }
        )
    )
