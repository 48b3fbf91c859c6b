"""``python -m tests.simulation [--level 2] --seed N [--count M] [--dense]``: replay seeds and say what they broke."""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.simulation.real_server import Reality
from tests.simulation.world import Outcome, simulate
from tests.support.servers import SERVERS, RunningServer, server_binary
from workflow_worker.store.memory.machine.rules import Rule


@dataclass(frozen=True)
class Given:
    """What the command line says."""

    first: int
    count: int
    level: int
    server: str
    dense: bool
    verbose: bool
    off: frozenset[str]
    shrink: bool


def read_arguments(arguments: list[str] | None = None) -> Given:
    """The command line as values."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=1, help="so many seeds, from this one on")
    parser.add_argument(
        "--level", type=int, choices=(1, 2), default=1, help="1: the memory machine, 2: the real scripts"
    )
    parser.add_argument("--server", choices=[each.name for each in SERVERS], default=SERVERS[0].name)
    parser.add_argument("--dense", action="store_true", help="many failovers, a part of them aimed")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every transition")
    parser.add_argument("--off", default="", help=f"rules switched off, by name: {', '.join(Rule.__members__)}")
    parser.add_argument("--shrink", action="store_true", help="leave out the faults that a violation does not need")
    given = parser.parse_args(arguments)
    off = frozenset(Rule[name] for name in given.off.split(",") if name)
    return Given(given.seed, given.count, given.level, given.server, given.dense, given.verbose, off, given.shrink)


@contextmanager
def reality_of(given: Given) -> Generator[Reality | None]:
    """A real server for level 2, nothing for level 1."""
    if given.level == 1:
        yield None
        return
    with TemporaryDirectory() as folder, RunningServer(server_binary(given.server), Path(folder)) as server:
        reality = Reality(server.socket_path, given.server)
        try:
            yield reality
        finally:
            reality.close()


def shrink(broken: Outcome, replay: Callable[[frozenset[int]], Outcome], faults: int) -> tuple[Outcome, frozenset[int]]:
    """Leave out one fault after the other as long as some promise stays broken."""
    spared = frozenset[int]()
    for number in reversed(range(faults)):
        outcome = replay(spared | {number})
        if outcome.violation:
            broken, spared = outcome, spared | {number}
    return broken, spared


def main() -> int:
    """Run seeds from the command line; 1 when one of them broke a promise."""
    given = read_arguments()
    began, counts, broken, trace = time.perf_counter(), Counter[str](), 0, 0
    with reality_of(given) as reality:
        for seed in range(given.first, given.first + given.count):

            def replay(spared: frozenset[int], seed: int = seed) -> Outcome:
                return simulate(
                    *(seed, given.off), dense=given.dense, verbose=given.verbose, reality=reality, spared=spared
                )

            outcome = replay(frozenset())
            counts.update(outcome.counts)
            trace = zlib.crc32(outcome.trace.to_bytes(4, "big"), trace)
            if outcome.violation:
                broken += 1
                print(f"seed {seed}: {outcome.violation}\n{outcome.story}")
            if outcome.violation and given.shrink:
                smaller, spared = shrink(outcome, replay, outcome.faults)
                print(f"\nwithout the faults {sorted(spared)}: {smaller.violation}\n{smaller.story}")
    took = time.perf_counter() - began
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{given.count} seeds, {broken} broken, {given.count / took:.1f} seeds/s, trace {trace:08x}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
