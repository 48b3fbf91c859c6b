"""``python -m tests.simulation.real_worker SEED [LAST] [-v]``: replay seeds and say what they broke."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.real_worker.world import simulate


def main() -> int:
    """Run seeds from the command line; 1 when one of them broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.real_worker", description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, nargs="?", help="seeds up to this one, not included")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every request and fact")
    given = parser.parse_args()
    began, counts, broken = time.perf_counter(), Counter[str](), 0
    last = given.last or given.first + 1
    for seed in range(given.first, last):
        outcome = simulate(seed, verbose=given.verbose)
        counts.update(outcome.counts)
        if outcome.violation:
            broken += 1
            print(f"seed {seed}: {outcome.violation}", flush=True)
    took = time.perf_counter() - began
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{last - given.first} seeds, {broken} broken, {(last - given.first) / took:.1f} seeds/s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
