"""The least that composes a service: what `test_service.py` starts in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys

from workflow_worker.model.exceptions import WorkflowWorkerError
from workflow_worker.model.settings import Settings
from workflow_worker.service.service import WorkerService
from workflow_worker.web.server import WebServer


def main() -> int:
    """``python -m tests.integration.service_main APP [reload]``; settings come from the environment."""
    try:
        service = WorkerService(Settings.from_mapping(os.environ), sys.argv[1], reload="reload" in sys.argv[2:])
        with WebServer(service) as web:
            print(f"port {web.port}", flush=True)
            asyncio.run(service.run())
    except WorkflowWorkerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
