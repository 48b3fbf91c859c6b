"""``python -m tests.mutation [NAME...]``: break one safeguard after the other and say who noticed.

Without names all mutations are tried and the table is written into ``RESULTS.md``, which takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutation.mutations import MUTATIONS, STORE, WORLDS, Killer, Mutation
from tests.mutation.trial import Copy, Unfit, Verdict

RESULTS = Path(__file__).parent / "RESULTS.md"

Row = tuple[Mutation, Verdict, Verdict | None]
"""A mutation, what its own tests said, and of those of the scripts what level 2 of the simulation said alone."""


def table(rows: Iterable[Row]) -> str:
    """The results as Markdown."""
    lines = [
        "# Mutations, and who noticed",
        "",
        "Written by `python -m tests.mutation`. Each line is a copy of the tree in which one safeguard is broken; the",
        "test named is the first that turned red, the seconds are those of all tests asked until then. The last column",
        "says how long 25 worlds of the simulation's level 2 took to notice it, asked alone.",
        "",
        "| mutation | what is broken | killed by | s | level 2 alone, s |",
        "|---|---|---|---|---|",
    ]
    for mutation, verdict, worlds in rows:
        alone = "" if worlds is None else f"{worlds.seconds:.1f}" if worlds.killed else "not noticed"
        by = f"`{verdict.test}`" if verdict.killed else "**nobody**"
        cells = (mutation.name, mutation.breaks, by.replace("|", chr(92) + "|"), f"{verdict.seconds:.1f}", alone)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def judge(copy: Copy, mutation: Mutation, killers: tuple[Killer, ...] = ()) -> Verdict:
    """What the tests say; a mutation that cannot be judged counts as unnoticed."""
    try:
        return copy.judge(mutation, killers)
    except Unfit as error:
        print(error)
        return Verdict("", 0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutations; 1 when one survived that should not."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutations, by name; all without any")
    names = parser.parse_args(arguments).names
    wanted = [each for each in MUTATIONS if not names or each.name in names]
    unknown = set(names) - {each.name for each in wanted}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    with TemporaryDirectory(prefix="ww-mutation-") as folder:
        copy = Copy(Path(folder))
        for mutation in wanted:
            verdict = judge(copy, mutation)
            worlds = judge(copy, mutation, (WORLDS,)) if mutation in STORE and not names else None
            rows.append((mutation, verdict, worlds))
            print(f"{verdict.seconds:6.1f} s  {mutation.name}: {verdict.test or 'survived'}", flush=True)
    if not names:
        RESULTS.write_text(table(rows), "utf-8")
    survived = [mutation.name for mutation, verdict, _ in rows if not verdict.killed]
    print(f"{len(rows)} mutations, survived: {', '.join(survived) or 'none'}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
