"""Everything that `check` finds; each line says with which word."""
# ruff: noqa
# pyright: basic, reportUnusedCoroutine=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportUnusedExpression=false, reportReturnType=false

import asyncio
import os
import random as chance
import socket
import subprocess
import threading
import time as t
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from os import environ, getenv
from random import randint
from time import monotonic
from uuid import uuid4

import httpx

from workflow_worker import App, action

app = App("bad")


@app.event("started")
@dataclass
class Started:
    """A good event."""

    id: str


@app.event("strange")  # types
@dataclass
class Strange:
    """Of a type that is no data."""

    lock: dict[complex, threading.Lock] | int | str | bytes | Started | asyncio.Event


@app.action
async def step(number: int) -> int:
    return number + int(t.time())  # an action may read the clock


@app.action  # types
async def unstorable(value: Started | Strange) -> None: ...


def helper() -> float:
    return monotonic()  # clock


@app.workflow()
async def piece(number: int, what: object = None) -> None:
    """A child."""


@app.workflow()  # types
async def odd(fits: list[asyncio.Event] | set[asyncio.Event]) -> None:
    """Takes what has no JSON form."""


@app.workflow(on=Started)
async def bad(started: Started) -> None:
    t.time()  # clock
    datetime.now()  # clock
    datetime.utcnow()  # clock
    date.today()  # clock
    chance.random()  # random
    randint(1, 2)  # random
    uuid.uuid1()  # random
    uuid4()  # random
    os.urandom(3)  # random
    os.environ["HOME"]  # environment
    print(environ)  # environment
    getenv("HOME")  # environment
    open("file")  # io
    os.listdir(".")  # io
    socket.create_connection(("", 1))  # io
    httpx.get("http://x")  # io
    httpx.AsyncClient()  # io
    subprocess.run(["ls"])  # io
    t.sleep(1)  # blocking
    input()  # blocking
    threading.Thread(target=print).start()  # thread
    await asyncio.to_thread(print)  # thread
    helper()
    step(1)  # await
    step.fn(1)  # io
    piece(1)  # await
    print(action.attempt)  # attempt
    for each in {1, 2}:  # order
        print(each)
    print([each for each in set("ab")])  # order
    list({"a"} | set())  # order
    await asyncio.gather(*{step(1), step(2)})  # order
    await asyncio.wait({asyncio.create_task(step(1))})  # order
    asyncio.all_tasks()  # order
    hash("a")  # order
    asyncio.create_task(step(1), eager_start=True)  # loop
    import secrets

    secrets.token_hex()  # random
    await inner(started)


async def inner(started: Started) -> None:
    import time

    def deeper() -> float:
        return time.perf_counter()  # clock

    deeper()
