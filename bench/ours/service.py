"""Our worker processes as a service starts them, without the web server: ``python -m bench.ours.service``.

The environment says the rest, as for ``workflow-worker start``: REDIS_URL, WORKER_COUNT, BATCH_SIZE … With
BENCH_PROFILE each worker process writes a profile (see `bench.profiling`).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from workflow_worker.model.settings import Settings
from workflow_worker.service.process import CHILD_MODULE
from workflow_worker.service.service import WorkerService

PROFILE_VARIABLE = "BENCH_PROFILE"
_PROFILED_CHILD = "bench.ours.profiled_child"


def main() -> None:
    """Supervise workers until SIGTERM."""
    app = str(Path(__file__).with_name("app.py"))
    module = _PROFILED_CHILD if PROFILE_VARIABLE in os.environ else CHILD_MODULE
    service = WorkerService(Settings.from_mapping(os.environ), app, module=module)
    asyncio.run(service.run())  # its loop must know process groups, which uvloop does not


if __name__ == "__main__":
    main()
