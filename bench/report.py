"""Tables: for the terminal, and ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from rich.console import Console
from rich.table import Table

from bench.figures import FIGURES
from bench.ours.contestants import OURS
from bench.results import Line, Results

_COMPARED = (
    "publish",
    "callers",
    "noop_1",
    "noop_2",
    "workflows",
    "latency_p50",
    "latency_p99",
    "finish_p50",
    "start_up",
    "server_us",
    "queued_bytes",
)


def terminal(results: Results) -> str:
    """The run as tables for people at a terminal."""
    table = Table(caption=f"{results.server}, persistence {results.persistence}, median of {results.repetitions}")
    table.add_column("")
    measured = [line for line in results.lines if line.runs]
    for line in measured:
        table.add_column(line.name, justify="right")
    for name, figure in _rows(measured):
        table.add_row(figure, *(_cell(line, name) for line in measured))
    out = StringIO()
    console = Console(file=out, width=150)
    console.print(table)
    for sentence in _comparisons(results):
        console.print(f"  {sentence}", markup=False, highlight=False)
    for line in results.lines:
        if line.trouble:
            console.print(f"  {line.name}: {line.trouble}", markup=False, highlight=False)
    console.print(
        f"  {results.machine}; load average before {results.other_load:.1f}; took {results.took_s:.0f} s",
        markup=False,
        highlight=False,
    )
    return out.getvalue()


def document(results: Results, chart: str) -> str:
    """The run as a page of the documentation; `chart` is the name of the picture beside it."""
    measured = [line for line in results.lines if line.runs]
    parts = [
        "# Benchmarks",
        "Written by the harness (`python -m bench --write-docs`); not edited by hand.",
        f"- **Machine:** {results.machine}; load average before the run {results.other_load:.1f}.\n"
        f"- **Server:** {results.server}, loopback TCP, persistence"
        f" {results.persistence}.\n- **Command:** `{results.command}` on {results.begun} UTC, {results.took_s:.0f} s."
        f"\n- **Figures:** median of {results.repetitions}; in brackets the ratio to the yardstick that ran before it.",
        f"![Ours beside the peers, and what each of them does not promise]({chart})",
        *_tables(measured),
        "## Ours beside the best peer of the same run",
        "\n".join(f"- {sentence}" for sentence in _comparisons(results)) or "No peer was measured in this run.",
        "## How to read this",
        _READING,
        "## Settings, and what is not the same",
        _markdown(
            ["", "what", "settings", "what it does not promise and we do"],
            [[line.name, line.title, line.settings, _promises(line)] for line in results.lines],
        ),
    ]
    trouble = [f"- {line.name}: {line.trouble.splitlines()[0]}" for line in results.lines if line.trouble]
    if trouble:
        parts += ["## Not run, or not to the end", "\n".join(trouble)]
    parts += ["## Workloads", _workloads(results)]
    return "\n\n".join(parts) + "\n"


def _tables(measured: list[Line]) -> list[str]:
    """Ours with everything; the peers with what is measured of a peer, task queues and engines apart."""
    ours = [line for line in measured if line.name in OURS]
    peers = [line for line in measured if line.name not in OURS]
    queues = [line for line in peers if "noop_1" in line.medians]
    engines = [line for line in peers if "noop_1" not in line.medians]
    found: list[str] = []
    for title, lines in (("Ours", ours), ("Task queues", queues), ("Engines of durable workflows", engines)):
        if lines:
            shown = ours[:1] + lines if lines is not ours else lines
            present = {name for line in lines for name in line.medians}
            found += [f"## {title}", _markdown(["", *(line.name for line in shown)], _document_rows(shown, present))]
    return found


def _promises(line: Line) -> str:
    lacks = ". ".join(text[:1].upper() + text[1:] for text in line.lacks)
    return " ".join(part for part in (f"{lacks}." if lacks else "", line.note) if part) or "–"


_READING = """\
- Machines differ, and the same shared machine differs by a factor of two from day to day. An absolute figure means
  little beside one taken elsewhere; the ratio to the yardstick and the ratio to a peer *of the same run* mean more.
- Workers, publisher and server share the cores of one machine. With two cores, two worker processes and the server
  compete, so the second process shows less than it would on a machine with cores to spare.
- The contestants do not do the same. A queue's no-op is: take a message, call a function, acknowledge. Ours is: detect
  a repeat, create a run, lease it under a fencing token, execute a workflow, commit its end with its history under that
  token, keep it to be looked at. The completions of the queues are counted when the function is called, before they
  are acknowledged; ours when the commit is on the server.
- A no-op shows the price of the machinery and nothing else. An action that waits 10 ms for a service hides most of it.
- Every contestant runs at the best settings that we know for it; defaults are often far slower, ours included: the
  line with defaults shows it."""


def _workloads(results: Results) -> str:
    sizes = results.sizes
    return f"""\
- *Yardstick*: `XREADGROUP COUNT 10` + `XACK` of {sizes["noop"]:,} entries, redis-py asyncio with hiredis on uvloop.
- *No-op*: {sizes["noop"]:,} events of about 64 bytes (a third of that for all peers but BullMQ on Node)
  queued first, then one (two) worker processes started; rate from
  the first to the last completion. Server CPU, commands (those that scripts call included), round trips (reads from
  sockets), worker CPU and memory are taken from the run with one process; queued bytes before it. *Cores busy* is the
  processor time of workers and server for an event, times the rate.
- *Publish one by one*: {sizes["callers"]:,} events from 100 callers in one process, each waits for its answer.
- *Idle latency*: {sizes["latency"]:,} events, each 5–20 ms after the one before has begun; publish → start of the
  action.
- *Start-up*: one event queued, then the worker program started: until its action starts; median of {sizes["starts"]}.
  Ours starts a service, which starts the worker.
- *Three steps*: {sizes["workflows"]:,} workflows of three no-op actions in a row, each result recorded, queued first.
  Engines: {sizes["engine"]:,}, driven by their own clients; their memory is that of client, worker and server, with
  what processes share counted once.  *Start → finish*: one at a time, idle; ours from
  publishing to the result read back by the publisher.
- *Waiting runs*: {sizes["waiting"]:,} runs at rest until an event comes, held by no worker: server memory for each.
- *Timers*: {sizes["timers"]:,} runs sleep until the same instant, held by no worker: from that instant until all have
  ended. A lone one sleeps 0.3 s: from when it is due to the start of an action.
- *As work grows*: processor time for an event at the head of a backlog of {sizes["backlog"]:,}, beside one of at most
  1,000; and that again while {sizes["crowd"]:,} runs wait. Measured once."""


def _rows(lines: Iterable[Line]) -> list[tuple[str, str]]:
    present = {name for line in lines for name in line.medians}
    return [(name, figure.title) for name, figure in FIGURES.items() if name in present]


def _cell(line: Line, name: str) -> str:
    value = line.medians.get(name)
    if value is None:
        return "–"
    ratio = line.to_yardstick(name)
    return FIGURES[name].written(value) + (f" ({ratio:.2f})" if ratio is not None else "")


def _document_rows(lines: list[Line], present: set[str]) -> list[list[str]]:
    rows = [[title, *(_cell(line, name) for line in lines)] for name, title in _rows(lines) if name in present]
    if "noop_1" not in present:
        return rows
    spread = [f"{low:,.0f}–{high:,.0f}" if high else "–" for low, high in map(_noop_spread, lines)]
    return [*rows, ["spread of no-op, 1 process", *spread]]


def _noop_spread(line: Line) -> tuple[float, float]:
    return line.spread("noop_1") if "noop_1" in line.medians else (0.0, 0.0)


def _comparisons(results: Results) -> list[str]:
    best = next((line for line in results.lines if line.name in OURS and line.runs), None)
    if best is None:
        return []
    sentences: list[str] = []
    for name in _COMPARED:
        peer = results.best_peer(name, OURS)
        mine = best.medians.get(name)
        if peer is None or not mine:
            continue
        figure = FIGURES[name]
        ratio = mine / peer[1]
        sentences.append(
            f"{figure.title}: {figure.written(mine)} beside {figure.written(peer[1])} of {peer[0]}, × {ratio:.2f}"
            f" ({'more' if figure.more_is_better else 'less'} is better)"
        )
    return sentences


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    align = ["---", *("---:" for _ in head[1:])] if rows and len(head) != 4 else ["---"] * len(head)
    lines = [head, align, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
