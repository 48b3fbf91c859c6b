"""What workflow code must not call is refused while it calls it, with the replacement; nobody else is touched."""

from __future__ import annotations

import asyncio
import datetime
import importlib
import logging
import os
import random
import secrets
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workflow_worker import App, wf
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv

app = App("guarded")
DO: dict[str, Callable[[], Any]] = {
    "time.time": lambda: time.time(),
    "time.monotonic": lambda: time.monotonic(),
    "time.sleep": lambda: time.sleep(0),
    "random.random": lambda: random.random(),
    "random.choice": lambda: random.choice([1, 2]),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "os.urandom": lambda: os.urandom(4),
    "random._urandom": lambda: secrets.token_hex(4),
    "open": lambda: Path(__file__).read_text(),
    "os.listdir": lambda: os.listdir("."),
    "socket.socket": lambda: socket.socket(),
    "subprocess.Popen": lambda: subprocess.run(["true"], check=False),
    "sqlite3.connect": lambda: sqlite3.connect(":memory:"),
    "tempfile.mkdtemp": lambda: tempfile.mkdtemp(),
    "threading.Thread.start": lambda: threading.Thread(target=print).start(),
    "datetime.datetime.now": lambda: datetime.datetime.now(datetime.UTC),
    "datetime.date.today": lambda: datetime.date.today(),
}
ADVICE = {
    "time.time": "wf.now()",
    "time.sleep": "await asyncio.sleep",
    "random.choice": "wf.random()",
    "uuid.uuid4": "wf.uuid4()",
    "open": "in an action",
    "datetime.datetime.now": "wf.now()",
    "threading.Thread.start": "sync action",
}


@app.event("go", subject="what")
@dataclass(frozen=True)
class Go:
    what: str


@app.action
async def in_an_action(what: str) -> str:
    return str(bool(DO[what]) and type(DO[what]()).__name__)


@app.action
def in_a_thread(what: str) -> str:
    return str(bool(DO[what]) and type(DO[what]()).__name__)


@app.workflow(on=Go, id="in-workflow-{what}")
async def cheat(go: Go) -> str:
    DO[go.what]()
    return "not refused"


@app.workflow(on=Go, id="allowed-{what}")
async def behave(go: Go) -> str:
    logging.getLogger("author").warning("workflow code may log: %s", go.what)
    warnings.warn("and warn", UserWarning, stacklevel=1)
    importlib.import_module("wave")  # a first import reads files

    await asyncio.sleep(1)
    if go.what in ("subprocess.Popen", "threading.Thread.start"):
        return "left out"
    return (await in_an_action(go.what)) + (await in_a_thread(go.what))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", DO)
async def test_a_call_is_refused_in_workflow_code_only(what: str) -> None:
    async with TestEnv(app) as env:
        await env.publish(Go(what))
        await env.advance(10)
        refused, allowed = env.run(cheat, f"in-workflow-{what}"), env.run(behave, f"allowed-{what}")
        assert refused.status is RunStatus.SUSPENDED
        assert what in str(refused.failure)
        assert ADVICE.get(what, "instead: ") in str(refused.failure)
        assert "not refused" not in (await allowed.result())
        assert DO[what]() is not None or what in ("time.sleep", "threading.Thread.start")


async def test_the_replacements_are_not_refused() -> None:
    other = App("fine")

    @other.event("go")
    @dataclass(frozen=True)
    class Start:
        n: int

    @other.workflow(on=Start)
    async def fine(start: Start) -> str:
        await asyncio.sleep(1)
        return f"{wf.now()} {wf.time()} {wf.uuid4()} {wf.random().random()} {random.Random(start.n).random()}"

    async with TestEnv(other, paranoid=True) as env:
        run = await env.publish(Start(1))
        await env.advance(2)
        assert "2030-01-01" in await run.result()
