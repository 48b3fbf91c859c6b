"""``workflow-worker start`` and ``dev``: a service on this machine, in production and while one writes an app."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from workflow_worker.cli.options import AppArgument, chosen_app, read_settings
from workflow_worker.model.settings import Settings
from workflow_worker.service.artefact import cache_folder, is_artefact, open_artefact


def start(app: AppArgument = None) -> None:
    """Run an app in production. APP may be a file that `workflow-worker build` made.

    Runs WORKER_COUNT worker processes, replaces those that die, logs, and answers requests for health, metrics and
    scaling at HOST:PORT. SIGTERM or Ctrl-C drains: no new work is taken, and what is in progress is finished or
    handed back within SHUTDOWN_GRACE_MS; a second signal hurries. SIGTTIN adds a worker, SIGTTOU removes one.

    \b
    workflow-worker start dist/shop-1f2e3d4c5b6a.wwa
    REDIS_URL=redis://redis:6379/0 WORKER_COUNT=8 workflow-worker start shop.workflows:app
    """
    settings = read_settings()
    name = chosen_app(app, settings)
    folder: Path | None = None
    if is_artefact(name):
        opened = open_artefact(Path(name), cache_folder(os.environ))
        name, folder = opened.manifest.entry, opened.root
    _serve(settings, name, folder=folder)


def dev(app: AppArgument = None) -> None:
    """Run an app while you write it, with hot reload.

    Saving a Python file replaces the workers in less than a second; runs in flight continue with the new code. A
    syntax error is shown, and the old code keeps running. Without REDIS_URL, an embedded server keeps events and runs
    in .workflow-worker/ of this folder, also between one start and the next. There is one worker process unless
    WORKER_COUNT says otherwise.

    \b
    workflow-worker dev shop/workflows.py
    workflow-worker publish order.placed --subject o-1 --data '{"order_id": "o-1"}'
    """
    settings = read_settings()
    if "WORKER_COUNT" not in os.environ:
        settings = replace(settings, worker_count=1)
    _serve(settings, chosen_app(app, settings), reload=True)


def _serve(settings: Settings, app: str, *, folder: Path | None = None, reload: bool = False) -> None:
    # Here, because they bring FastAPI and uvicorn: half a second that no other command should wait for.
    from workflow_worker.service.service import WorkerService  # noqa: PLC0415 - see above
    from workflow_worker.web.server import WebServer  # noqa: PLC0415 - see above

    async def serve() -> None:
        service = WorkerService(settings, app, folder=folder, reload=reload)
        with WebServer(service):
            await service.run()

    asyncio.run(serve())
