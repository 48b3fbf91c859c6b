"""An external job that reports nothing by itself: submit it, look again, ever more patiently, give up in time.

workflow-worker dev examples/polling.py
workflow-worker publish video.uploaded --subject v-1 --data '{"video_id": "v-1"}'
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from workflow_worker import App, action, wf

app = App("polling")

Status = Literal["queued", "running", "done", "broken"]


@app.event("video.uploaded", subject="video_id")
@dataclass(frozen=True, slots=True)
class Uploaded:
    """There is something to convert. How patient to be is part of it."""

    video_id: str
    first_look_s: float = 5
    longest_pause_s: float = timedelta(minutes=10).total_seconds()
    give_up_after_s: float = timedelta(hours=6).total_seconds()


@app.action
async def submit(video_id: str) -> str:
    """Start the conversion; the idempotency key makes a repeated attempt the same job."""
    return f"job-{video_id}-{len(action.idempotency_key)}"


@app.action
async def look(job: str) -> Status:
    """Ask how far it is."""
    action.log.info("looking", job=job)
    return "done"


@app.workflow(on=Uploaded, id="convert-{video_id}")
async def convert(uploaded: Uploaded) -> str:
    """A look is an action, a pause is a durable timer: an hour of waiting costs nothing."""
    job, pause = await submit(uploaded.video_id), uploaded.first_look_s
    try:
        async with asyncio.timeout(uploaded.give_up_after_s):
            while True:
                await asyncio.sleep(pause)
                status = await look(job)
                wf.state(job=job, status=status, looked_at=wf.now().isoformat())
                if status == "done":
                    return job
                if status == "broken":
                    raise wf.Failed(f"{job} is broken")
                pause = min(pause * 2, uploaded.longest_pause_s)
    except TimeoutError:
        raise wf.Failed(f"{job} was not done in time") from None
