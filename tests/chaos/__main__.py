"""``python -m tests.chaos``: one chaos run, its verdict, and its tables for docs/reliability.md.

Exit codes: 0 nothing found, 1 a promise was broken or a figure missed, 2 the run proves nothing (not exercised).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.arena import Scale
from tests.chaos.faults import MEASURED
from tests.chaos.report import document, markdown, not_exercised, put_into_page, too_slow
from tests.chaos.run import Outcome, run
from tests.support.servers import SERVERS


def main() -> int:
    """Run, report, judge."""
    given = _parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us: no process of ours is left behind
    scale = Scale(
        server=given.server,
        events=given.events,
        faults=given.faults,
        seed=given.seed,
        seconds=given.seconds,
        lease_ms=given.lease_ms,
        slow=given.events >= 10_000,
        armed=not given.unarmed,
        measured=given.measured,
        measure=tuple(given.measure or MEASURED),
        rest_within_s=given.rest_within_s,
    )
    folder = given.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    outcome = asyncio.run(run(scale, folder))
    (folder / "outcome.json").write_bytes(document(outcome))
    print(markdown(outcome))
    print(f"\n{time.monotonic() - began:.0f} s in all; evidence in {folder}")
    if given.report is not None:
        put_into_page(given.report, given.server, markdown(outcome))
    return _judge(outcome)


def _judge(outcome: Outcome) -> int:
    for finding in outcome.verdict.findings[:50]:
        print(f"FOUND {finding.verdict}: {finding.what}")
    for slow in too_slow(outcome):
        print(f"SLOW {slow}")
    for missing in not_exercised(outcome):
        print(f"NOT EXERCISED {missing}")
    if outcome.verdict.findings or too_slow(outcome):
        return 1
    return 2 if not_exercised(outcome) else 0


def _parse() -> argparse.Namespace:
    usual = Scale()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Workflows under injected faults.")
    parser.add_argument("--server", choices=[server.name for server in SERVERS], default=usual.server)
    parser.add_argument("--events", type=int, default=usual.events)
    parser.add_argument("--faults", type=int, default=usual.faults)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="over which events and faults are spread")
    parser.add_argument("--lease-ms", type=int, default=usual.lease_ms)
    parser.add_argument("--rest-within-s", type=float, default=usual.rest_within_s, help="until everything has ended")
    parser.add_argument("--measured", type=int, help="faults that come alone and are measured; by default a 20th")
    parser.add_argument(
        "--measure", choices=sorted(set(MEASURED)), action="append", help="only these kinds; may be repeated"
    )
    parser.add_argument("--unarmed", action="store_true", help="no worker dies at a point of its own")
    parser.add_argument("--report", type=Path, help="page to put the tables into, such as docs/reliability.md")
    parser.add_argument("--folder", type=Path, help="where everything is kept; by default a new one below /tmp")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
