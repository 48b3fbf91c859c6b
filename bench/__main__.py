"""``python -m bench``: measure everything in one run and print it."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.chart import chart
from bench.contestants import ONCE, Contestant, Workload
from bench.environments import NotInstalled, prepared
from bench.machine import this_machine
from bench.ours.contestants import ours
from bench.peers.registry import PEERS
from bench.report import document, terminal
from bench.results import Line, Results
from bench.scenarios import measure
from bench.server import running_server
from bench.stage import QUICK, TINY, Bench, Sizes
from bench.yardstick import yardstick

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
CHART = DOCUMENT.with_suffix(".svg")
_NOT_RUN = "not run: "


def main() -> int:
    """Measure, print, save; 1 when ours or an installed peer could not be measured."""
    # A run that is asked to end must not leave servers and workers behind: unwind as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _options()
    if options.render:
        return _write(Results.load(options.render))
    contestants, lines = _contestants(options.peers, options.only)
    sizes = TINY if options.tiny else QUICK if options.quick else Sizes()
    begun = time.monotonic()
    with running_server(options.aof) as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = Results(
            begun=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
            machine=this_machine(),
            server=server.version,
            persistence="append-only file, synced each second" if options.aof else "off",
            repetitions=options.repeat,
            sizes=asdict(sizes),
            lines=lines,
            other_load=os.getloadavg()[0],
        )
        bench = Bench(server, Path(folder), sizes, _say)
        for repetition in range(options.repeat):
            for contestant in contestants:
                _say(f"{repetition + 1}/{options.repeat} {contestant.name} …")
                line = next(line for line in lines if line.name == contestant.name)
                _measure_once(bench, contestant, line, () if repetition == 0 else ONCE)
            # Saved each time: `--render` makes the document of a run that was interrupted later.
            results.repetitions, results.took_s = repetition + 1, time.monotonic() - begun
            saved = results.save()
            _say(f"{repetition + 1}/{options.repeat} saved after {results.took_s:.0f} s: {saved}")
    print(terminal(results))
    print(f"\n{results.save()}")
    if options.write_docs:
        _write(results)
    return int(any(line.trouble and not line.trouble.startswith(_NOT_RUN) for line in lines))


def _write(results: Results) -> int:
    CHART.write_text(chart(results))
    DOCUMENT.write_text(document(results, CHART.name))
    print(DOCUMENT)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller workloads, once: a look, not a figure")
    parser.add_argument("--tiny", action="store_true", help="a few hundred events, once: does everything work?")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="repetitions (3; 1 with --quick and --tiny)")
    parser.add_argument("--aof", action="store_true", help="append-only file on, for everybody")
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCUMENT.name} and {CHART.name}")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write them from a saved run, and measure nothing")
    parser.add_argument("--only", default="", metavar="NAMES", help="of ourselves only these lines, comma-separated")
    parser.add_argument(
        "--peers",
        default=os.environ.get("PEERS", ",".join(PEERS)),
        metavar="NAMES",
        help=f"comma-separated, of {', '.join(PEERS)}; empty for none (also as variable PEERS)",
    )
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.quick or options.tiny else 3)
    options.peers = _names(options.peers)
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    options.only = _names(options.only)
    return options


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _contestants(peers: Sequence[str], only: Sequence[str]) -> tuple[list[Contestant], list[Line]]:
    contestants = [contestant for contestant in ours() if not only or contestant.name in only]
    lines = [_line(contestant) for contestant in contestants]
    for name in peers:
        try:
            _say(f"environment of {name} …")
            contestant = prepared(PEERS[name])
        except NotInstalled as error:
            _say(f"{name} {_NOT_RUN}{error}")
            peer = PEERS[name]
            lines.append(Line(name, peer.title, peer.settings, peer.lacks, peer.note, trouble=f"{_NOT_RUN}{error}"))
        else:
            contestants.append(contestant)
            lines.append(_line(contestant))
    return contestants, lines


def _line(contestant: Contestant) -> Line:
    return Line(contestant.name, contestant.title, contestant.settings, contestant.lacks, contestant.note)


def _measure_once(bench: Bench, contestant: Contestant, line: Line, leave_out: Collection[Workload]) -> None:
    # What broke once is not tried again: it may cost its whole time limit.
    left = {workload for workload in contestant.workloads - set(leave_out) if workload.name not in line.broken}
    if not left:
        return
    bench.clear()
    bare = yardstick(bench.server.url, bench.sizes.noop)
    found, broken = measure(bench, contestant, contestant.workloads - left)
    line.broken += [workload.name for workload in broken]
    line.trouble = "; ".join(
        filter(None, [line.trouble, *(f"{workload.name.lower()}: {why}" for workload, why in broken.items())])
    )
    if found:
        line.runs.append({"yardstick": bare, **found})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
