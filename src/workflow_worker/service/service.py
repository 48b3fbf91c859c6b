"""`WorkerService`: one server's workers, from the first start to the last hand back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Coroutine, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow_worker.client.opening import OpenStore, store_opener
from workflow_worker.model.exceptions import ConfigurationError, Refused, StoreUnavailable, UsageError
from workflow_worker.model.settings import Settings, without_password
from workflow_worker.service.board import OUTAGE_EVERY_MS, Board, Topic
from workflow_worker.service.crew import Crew
from workflow_worker.service.embedding import EmbeddedWatch
from workflow_worker.service.facts import (
    EmitAny,
    HealthChanged,
    MetricsReported,
    Reloaded,
    ReloadRefused,
    ServerQuestioned,
    ServiceDraining,
    ServiceStarted,
    ServiceStopped,
)
from workflow_worker.service.fitness import FitnessWatch
from workflow_worker.service.health import Health, HealthLimits, Observed, health_report, judge
from workflow_worker.service.loader import app_file
from workflow_worker.service.logs import configure_logs
from workflow_worker.service.metrics import Numbers, metrics_line
from workflow_worker.service.process import CHILD_MODULE, Launcher, environment_of_workers, monotonic_ms
from workflow_worker.service.reload import forget_bytecode, saved_files
from workflow_worker.service.scaling import check_count
from workflow_worker.service.signals import handling_signals
from workflow_worker.service.sources import watched_folder
from workflow_worker.service.spare import Reserve
from workflow_worker.service.storewatch import StoreWatch
from workflow_worker.service.views import WorkerView, worker_views
from workflow_worker.store.protocol import Store
from workflow_worker.worker.part import end_all

_LOOK_EVERY_S = 1.0


class WorkerService:
    """Supervises WORKER_COUNT worker processes.

    `run` belongs on the main thread of a process. `health`, `report`, `numbers`, `workers` and `request_scale` may be
    called from any thread and at any time: they read shared memory, and ask neither workers nor Redis.

    Args:
        settings: As read from the environment; without `redis_url` an embedded server is used.
        app: The author's app, ``package.module[:attribute]`` or ``path/file.py[:attribute]``.
        folder: Where a module is imported from; by default the working folder.
        emit: Gets every fact; by default the log of this process.
        reload: Development: replace the workers whenever a Python file is saved below the folder that the app is
            imported from, and wait for better code instead of ending when the app cannot be imported.
        data_folder: In it the embedded server makes its ``.workflow-worker``; by default the working folder.
        inherited: Environment of the worker processes, apart from our own variables; by default this process's.
        open_store: Instead of a connection to `redis_url`, and
        module: instead of a real worker process: for tests.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        *,
        folder: Path | None = None,
        emit: EmitAny | None = None,
        reload: bool = False,
        data_folder: Path = Path(),
        inherited: Mapping[str, str] | None = None,
        open_store: OpenStore | None = None,
        module: str = CHILD_MODULE,
    ) -> None:
        self.settings = settings
        self.web_address = ""
        """Where the web server answers, for the log; set by the web server, before `run`."""
        self._app = app
        self._folder = folder
        self._emit = emit or configure_logs(settings)
        self._reload = reload
        self._data_folder = data_folder
        self._inherited = dict(os.environ if inherited is None else inherited)
        self._open_store = open_store
        self._module = module
        self._limits = HealthLimits.of(settings)
        self._board = Board()
        self._crew: Crew | None = None
        self._opener: OpenStore | None = open_store
        self._store: StoreWatch | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops = 0
        self._failure: Exception | None = None
        self._last_status = "starting"

    # ------------------------------------------------------------------------------------------------ from any thread

    def health(self) -> Health:
        """The judgement of this moment."""
        return judge(self._observed(), self._limits, monotonic_ms())

    def report(self) -> dict[str, str | int]:
        """The ten fields of the health report."""
        numbers = self.numbers()
        return health_report(numbers.health, numbers.totals, time.time_ns() // 1_000_000)

    def numbers(self) -> Numbers:
        """One snapshot of everything that is counted."""
        crew, store = self._crew, self._store
        return Numbers(
            totals=self._board.totals(),
            health=self.health(),
            restarts=crew.restarts if crew is not None else 0,
            depth=store.depth if store is not None else None,
        )

    def workers(self) -> list[WorkerView]:
        """All worker processes that live, also those that drain."""
        return [] if self._crew is None else worker_views(self._crew, self._limits, monotonic_ms())

    def request_scale(self, count: int) -> int:
        """Want so many workers from now on; returns how many were wanted before.

        Raises:
            UsageError: Below 1 or above 256.
            Refused: The service has not started yet, or is draining.
        """
        check_count(count)
        crew, loop = self._crew, self._loop
        if crew is None or loop is None or not crew.wanted:
            raise Refused("the service is starting or draining and cannot be scaled now")
        before = crew.wanted
        loop.call_soon_threadsafe(crew.scale, count)
        return before

    async def open_store(self) -> Store:
        """A connection of the caller's own, on the caller's loop.

        Raises:
            StoreUnavailable: The service does not know its server yet.
        """
        if self._opener is None:
            raise StoreUnavailable("the service is starting")
        return await self._opener()

    # ---------------------------------------------------------------------------------------------------- on its loop

    async def run(self) -> None:
        """Supervise until a signal, or `stop`, has drained the service; then everything is handed back.

        Raises:
            ConfigurationError: A setting, the app or the server must be changed before this can work.
            UsageError: There is no such app.
        """
        self._loop = asyncio.get_running_loop()
        if self._folder is None:
            app_file(self._app)
        try:
            with handling_signals(self.stop, self._scale_by), _parent_pipe() as parent:
                if self.settings.redis_url is not None:
                    await self._serve(self.settings, parent, None)
                else:
                    async with EmbeddedWatch(self._data_folder, self._emit) as server:
                        await self._serve(replace(self.settings, redis_url=server.url), parent, server)
        finally:
            self._board.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Drain; called again, hurry; called a third time, kill. What signals and callers on the loop use."""
        self._stops += 1
        crew = self._crew
        if self._stops <= 2:
            self._emit(ServiceDraining(hurry=self._stops > 1))
        if crew is None:
            return
        match self._stops:
            case 1:
                crew.drain()
            case 2:
                crew.hurry()
            case _:
                crew.kill("the service was asked to end three times")

    async def _serve(self, settings: Settings, parent: int, server: EmbeddedWatch | None) -> None:
        self._opener = self._open_store or store_opener(settings, name="workflow-worker-service")
        checked = self._open_store or store_opener(
            settings, name="workflow-worker-service", check=True, warn=lambda why: self._emit(ServerQuestioned(why))
        )
        store = self._store = StoreWatch(checked, self._emit, self._may_report_outage)
        launcher = Launcher(self._app, self._folder, self._environment(settings), self._board, parent, self._module)
        reserve = Reserve(launcher) if self._reload else None
        crew = self._crew = Crew(
            launcher.start if reserve is None else reserve.start,
            self._board,
            self._emit,
            wanted=0 if self._stops else settings.worker_count,
            grace_ms=settings.shutdown_grace_ms,
            stall_limit_ms=settings.stall_limit_ms,
            close_session=store.close_session,
            on_death=self._judge,
            patient=self._reload,
        )
        # First the server, then the workers: one that evicts must not see a single event.
        await store.look()
        address = without_password(settings.redis_url or "")
        self._emit(ServiceStarted(self._app, settings.worker_count, address, settings.namespace, self.web_address))
        parts = [store.run(), self._look(crew), self._judge_regularly(), self._report_regularly()]
        if reserve is not None:
            parts += [self._renew_on_save(crew), reserve.keep()]
        if server is not None:
            parts.append(server.keep_running())
        elif self._open_store is None:
            quiet = store_opener(settings, name="workflow-worker-check", check=True, warn=lambda _: None)
            parts.append(FitnessWatch(quiet, self._emit).run(settings.health_check_interval_ms / 1000))
        try:
            async with asyncio.TaskGroup() as tasks:
                minding = [tasks.create_task(self._mind(part)) for part in parts]
                try:
                    await crew.run()
                except ConfigurationError as refusal:
                    self._failure = refusal
                finally:
                    await end_all(minding)
        finally:
            await store.aclose()
        self._emit(ServiceStopped())

    async def _mind(self, part: Coroutine[Any, Any, None]) -> None:
        """Run one of the service's own loops; if it fails, the workers drain before the error goes on."""
        try:
            await part
        except Exception as error:  # noqa: BLE001 - whatever it is: first no worker may be left alone
            self._failure = self._failure or error
            if self._crew is not None:
                self._crew.drain()

    async def _look(self, crew: Crew) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await crew.look()

    async def _judge_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.settings.health_check_interval_ms / 1000)
            self._judge()

    def _judge(self) -> None:
        """Report a change of the judgement; while draining there is nothing to judge."""
        if self._crew is None or not self._crew.wanted:
            return
        health = self.health()
        if self._last_status == "starting" and any("starting" in worker.reasons for worker in health.workers):
            return  # not yet worth a warning; if it stays so, it will be unhealthy
        if health.status.value != self._last_status:
            self._emit(HealthChanged(self._last_status, health.status.value, health.reasons))
            self._last_status = health.status.value

    async def _report_regularly(self) -> None:
        before, reported_at = self._board.totals(), monotonic_ms()
        while True:
            await asyncio.sleep(self.settings.metrics_reporting_interval_ms / 1000)
            numbers, now = self.numbers(), monotonic_ms()
            self._emit(MetricsReported(metrics_line(numbers, before, now - reported_at)))
            before, reported_at = numbers.totals, now

    async def _renew_on_save(self, crew: Crew) -> None:
        """The newest code wins: a replacement that is under way is given up for the next one."""
        folder = self._folder or watched_folder(app_file(self._app))
        current: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            async for files in saved_files(folder):
                if current is not None:
                    current.cancel()
                forget_bytecode(files)
                current = tasks.create_task(self._renew(crew, files))

    async def _renew(self, crew: Crew, files: tuple[str, ...]) -> None:
        began_at = monotonic_ms()
        refusal = await crew.replace_all()
        if refusal is None:
            self._emit(Reloaded(files, monotonic_ms() - began_at))
        else:
            self._emit(ReloadRefused(files, refusal))

    def _scale_by(self, difference: int) -> None:
        crew = self._crew
        if crew is not None and crew.wanted:
            with contextlib.suppress(UsageError):  # a signal has nobody to tell that 0 or 257 are not possible
                crew.scale(crew.wanted + difference)

    def _observed(self) -> list[Observed]:
        if self._crew is not None:
            return self._crew.observed()
        return [Observed(f"slot {number}", None, 0) for number in range(self.settings.worker_count)]

    def _may_report_outage(self) -> bool:
        return self._board.may_speak(Topic.STORE_LOST, monotonic_ms(), OUTAGE_EVERY_MS)

    def _environment(self, settings: Settings) -> dict[str, str]:
        """One hash seed for all workers, also later ones, so that no set of texts orders differently after a restart.

        Random, because a known seed invites keys that collide; PYTHONHASHSEED of our own environment goes first, for
        an operator who wants the same on all servers.
        """
        variables = environment_of_workers(self._inherited, settings)
        variables.setdefault("PYTHONHASHSEED", str(secrets.randbelow(2**32)))
        return variables


@contextlib.contextmanager
def _parent_pipe() -> Generator[int]:
    """The reading end of a pipe whose writing end only this process has: it ends when we do, however."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)
