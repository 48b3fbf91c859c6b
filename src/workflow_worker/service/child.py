"""A worker process: what `process.py` starts. Loads the author's app and runs one `WorkflowWorker` until it drains.

SIGTERM drains, a second one hurries; SIGINT is the service's to handle; SIGQUIT writes the stacks of all threads to
stderr. A worker whose service is gone drains by itself: it reads the end of a pipe that only the service holds open.
Exit codes: 0 drained, 1 failed, 2 refused to start (the reason stands on the board). A spare (`spare.py`) is such a
process that stops before the author's code until it is told to go on.

Nothing of web, command line or pydantic may be imported here: every worker process would pay for it in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from workflow_worker import __version__
from workflow_worker.client.opening import store_opener
from workflow_worker.model.exceptions import ConfigurationError, UsageError
from workflow_worker.model.facts import (
    Fact,
    PartStalled,
    RunStuck,
    StoreBack,
    StoreFilling,
    StoreLost,
    StoreRelieved,
    StoreReplaced,
    WorkerStarted,
)
from workflow_worker.model.settings import Settings
from workflow_worker.model.vitals import WorkerPhase
from workflow_worker.service.board import OUTAGE_EVERY_MS, Board, Row, Topic
from workflow_worker.service.facts import CodeSuspected, NothingToRun
from workflow_worker.service.leaving import leave, leave_within
from workflow_worker.service.loader import load_app
from workflow_worker.service.logs import LogSubscriber, configure_logs
from workflow_worker.service.process import EXIT_REFUSED, SPARE_TITLE, TITLE, monotonic_ms, worker_name
from workflow_worker.service.suspicions import suspicions
from workflow_worker.worker import guards
from workflow_worker.worker.clocks import watch_clocks
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.reality import real_environment
from workflow_worker.worker.standstill import StoodStill
from workflow_worker.worker.watchdog import Watchdog
from workflow_worker.worker.worker import WorkflowWorker

_ORPHAN_MARGIN_S = 5.0
_STALLED_WITHIN_S = 10.0
"""A worker that ends because a part stands still is ended by force if that part holds up its end too."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the service hands over on the command line; descriptors are inherited."""

    app: str
    folder: Path | None
    slot: int | None
    row: int | None
    """None in a spare: read from the descriptor `waiting` when it shall become a worker."""
    waiting: int | None
    board: int
    parent: int


_ONCE_EVERY_MS: dict[type[Fact | NothingToRun | CodeSuspected], tuple[Topic, int]] = {
    CodeSuspected: (Topic.CODE_SUSPECTED, 5_000),
    NothingToRun: (Topic.NOTHING_TO_RUN, 5_000),
    StoreLost: (Topic.STORE_LOST, OUTAGE_EVERY_MS),
    StoreBack: (Topic.STORE_BACK, OUTAGE_EVERY_MS),
    StoreReplaced: (Topic.STORE_REPLACED, 60_000),
    StoreFilling: (Topic.STORE_FILLING, 60_000),
    StoreRelieved: (Topic.STORE_RELIEVED, 60_000),
}
"""What all workers notice together and one of them says for all."""


class BoardSubscriber:
    """Puts session and namespace on the board, and passes facts on; of the store only what no other worker has said."""

    def __init__(self, board: Board, row: Row, onward: LogSubscriber) -> None:
        self._board = board
        self._row = row
        self._onward = onward

    def __call__(self, fact: Fact | NothingToRun | CodeSuspected) -> None:
        topic = _ONCE_EVERY_MS.get(type(fact))
        if topic is not None and not self._board.may_speak(topic[0], monotonic_ms(), topic[1]):
            return
        match fact:
            case WorkerStarted():
                self._row.session = fact.session
                self._board.epoch = fact.epoch
            case PartStalled():
                leave_within(_STALLED_WITHIN_S)
            case _:
                pass
        self._onward(fact)


def limits_of(settings: Settings) -> WorkerLimits:
    """What a worker must know of the settings. Its grace ends before the service's, which kills at the end of it; what
    is left between the two is for closing, with a fifth to spare."""
    grace_ms = max(0, settings.shutdown_grace_ms * 85 // 100 - 1_000)
    return WorkerLimits(
        batch_size=settings.batch_size,
        concurrency_limit=settings.concurrency_limit,
        poll_interval_ms=settings.poll_interval_ms,
        max_retries=settings.max_retries,
        lease_ttl_ms=settings.lease_ttl_ms,
        stall_limit_ms=settings.stall_limit_ms,
        shutdown_grace_ms=grace_ms,
        closing_ms=min(4_000, (settings.shutdown_grace_ms - grace_ms) * 8 // 10),
        memory_high_water=settings.memory_high_water,
        max_takeovers=settings.max_takeovers,
        history_warn_records=settings.history_warn_records,
        detail=settings.log_level == "debug",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one worker; returns the exit code."""
    given = _parse(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=False)
    for descriptor in (given.board, given.parent):
        os.set_inheritable(descriptor, False)  # not for the processes that actions start
    board = Board(given.board)
    settings = Settings.from_mapping(os.environ)
    name = worker_name(os.getpid())
    logs = configure_logs(settings, worker=name)
    number = _told_row(given.waiting) if given.waiting is not None else given.row
    if number is None:
        return 0
    row = board.row(number)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        code = runner.run(_work(given, settings, name, BoardSubscriber(board, row, logs), row, board.epoch))
    except BaseException as error:  # noqa: BLE001 - the process ends by it, but not before what `leave` does
        code = _failed(row, logs, error)
    return leave(runner, code)


def _failed(row: Row, logs: LogSubscriber, error: BaseException) -> int:
    """The exit code for what ended the worker; what an operator or a new process can put right needs no traceback."""
    wrong = _first(error, (ConfigurationError, UsageError))  # at the start, or a password that was changed
    if wrong is not None:
        return _refuse(row, logs, wrong)
    stood = _first(error, (StoodStill,))
    if stood is not None:
        row.last_words = str(stood)
    else:
        traceback.print_exception(error)
    return 1


def _first(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """The first error of these kinds in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for each in inner if (found := _first(each, kinds)) is not None), None)
    return error if isinstance(error, kinds) else None


def _refuse(row: Row, logs: LogSubscriber, error: BaseException) -> int:
    if error.__cause__ is not None:
        logs.author_error(error.__cause__)
    row.last_words = str(error)
    return EXIT_REFUSED


async def _work(given: Arguments, settings: Settings, name: str, emit: BoardSubscriber, row: Row, epoch: str) -> int:
    guards.install()  # before the author's modules, whose `from time import time` must get ours
    app = load_app(given.app, given.folder).app
    if not app.workflows:
        emit(NothingToRun(given.app))
    watch_clocks(app)
    findings = suspicions(app)
    if findings:
        emit(CodeSuspected(given.app, findings))
    signs = row.write_signs()
    signs.started_at = monotonic_ms()
    worker = WorkflowWorker(
        app=app,
        open_store=store_opener(settings),
        limits=limits_of(settings),
        environment=real_environment(os.environ.get("WW_FAULT")),
        emit=emit,
        signs=signs,
        name=name,
        release=__version__,
        epoch=epoch,
    )
    loop = asyncio.get_running_loop()
    asked = False

    def drain() -> None:
        nonlocal asked
        worker.drain(hurry=asked)
        asked = True

    loop.add_signal_handler(signal.SIGTERM, drain)
    _watch_parent(given.parent, loop, drain, settings.shutdown_grace_ms / 1000)
    # What the imports made stays for ever; the collector need not look at it again and again. A batch of runs makes
    # tens of thousands of objects that die by reference count: at the default threshold of 700 the collector looked at
    # them 30 times a batch, a fifth of the worker's time (measured: 11,700 → 14,300 no-op events/s).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    limit_ms = settings.yield_limit_ms
    watchdog = Watchdog(limit_ms / 1000, lambda run, stack: emit(RunStuck(name, run, limit_ms, stack)))
    watchdog.start()
    try:
        await worker.run()
    finally:
        watchdog.stop()
    signs.phase = WorkerPhase.STOPPED
    return 0


def _told_row(waiting: int) -> int | None:
    """Wait until the service needs this spare: the row of the worker that it becomes; None: the service has ended."""
    told = os.read(waiting, 16)  # one write, far below PIPE_BUF: whole or nothing, pipe(7)
    os.close(waiting)
    if not told:
        return None
    _take_title()
    return int(told)


def _take_title() -> None:
    """Make ``ps`` show a worker: write our arguments where the kernel reads them, proc(5) `arg_start` and `mem`.

    Where there is no such file, or it is not ours to write, the process goes on being shown as a spare.
    """
    with contextlib.suppress(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:
        arguments = Path("/proc/self/cmdline").read_bytes()
        start = int(Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()[45])
        memory.seek(start + arguments.index(SPARE_TITLE.encode()))
        memory.write(TITLE.encode())


def _watch_parent(parent: int, loop: asyncio.AbstractEventLoop, drain: Callable[[], None], grace_s: float) -> None:
    """Drain when the service is gone; end by force when that does not succeed, for nobody else would."""

    def watch() -> None:
        os.read(parent, 1)  # nobody writes: this returns when the last writer, the service, is gone
        with contextlib.suppress(RuntimeError):  # the loop is closed: we were about to end anyway
            loop.call_soon_threadsafe(drain)
        time.sleep(grace_s + _ORPHAN_MARGIN_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _parse(arguments: list[str]) -> Arguments:
    parser = argparse.ArgumentParser(prog=TITLE, description="Started by the service; not a command for people.")
    parser.add_argument("title")
    for name in ("app", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("board", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("slot", "row", "waiting"):
        parser.add_argument(f"--{name}", type=int)
    found = vars(parser.parse_args(arguments))
    folder = found.pop("folder")
    return Arguments(folder=Path(folder) if folder else None, **{k: v for k, v in found.items() if k != "title"})


if __name__ == "__main__":
    sys.exit(main())
