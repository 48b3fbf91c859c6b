"""Temporal's development server: workflows of three no-op activities, one worker in the callers' process."""

# Runs in its peer's environment, which the type checker of this project does not see.
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.peers.engine import drive, free_port, listens, running, until

QUEUE = "bench"
CALLERS = 32
READY_WITHIN_S = 30.0
WITHIN = timedelta(seconds=20)


@activity.defn
async def step(number: int) -> int:
    """One recorded no-op."""
    return number


@workflow.defn(sandboxed=False)
class ThreeSteps:
    """Three activities in a row, each fed with the result before."""

    @workflow.run
    async def run(self, number: int) -> int:
        """The workflow."""
        for _ in range(3):
            number = await workflow.execute_activity(step, number, start_to_close_timeout=WITHIN)
        return number


async def connected(address: str) -> Client:
    """A client of the server, which listens some time before it answers.

    Raises:
        TimeoutError: It does not answer.
    """
    async with asyncio.timeout(READY_WITHIN_S):
        while True:
            try:
                return await Client.connect(address)
            except RuntimeError:  # what its client raises for a connection that is refused or not served yet
                await asyncio.sleep(0.1)


async def main(address: str) -> None:
    """``workflows N``: see `drive`."""
    client = await connected(address)
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[ThreeSteps],
        activities=[step],
        max_concurrent_activities=200,
        max_concurrent_workflow_tasks=200,
        max_cached_workflows=2_000,
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        await drive(
            lambda number: client.execute_workflow(ThreeSteps.run, number, id=str(uuid.uuid4()), task_queue=QUEUE),
            CALLERS,
        )


if __name__ == "__main__":
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = [str(Path(os.environ["BENCH_HOME"]) / "bin" / "temporal"), "server", "start-dev", "--headless"]
        server += ["--ip", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        with running(server, Path(folder) / "log"):
            until(lambda: listens(port), "Temporal's development server came up")
            asyncio.run(main(f"127.0.0.1:{port}"))
