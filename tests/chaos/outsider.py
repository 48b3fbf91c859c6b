"""What anybody can see from outside: runs, histories, dead letters and counters, through the client and the commands.

The commands ``runs show``, ``runs list``, ``dead list`` and ``audit`` are asked too, and must say the same; the client
is only faster when there are tens of thousands of runs. Records are read here by their documented form (an array whose
first element is the tag), not with the product's own decoder.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from tests.support.checker_facts import Promise, Seen, SeenLetter, SeenRun, Step
from workflow_worker import Client
from workflow_worker.model.exceptions import NotFound

_AT_ONCE = 50
_COMMAND_WITHIN_S = 60


class Nonce(msgspec.Struct):
    """What an action of `app.py` returned; its filling is left out."""

    nonce: str
    token: int


class Disagreement(AssertionError):
    """A command says something else than the client."""


async def look(client: Client, promises: Sequence[Promise], workers: Iterable[str], unsure: int) -> Seen:
    """Everything that the checker needs; `unsure` events were sent and never acknowledged."""
    refs = sorted({ref for promise in promises for ref in promise.runs})
    runs: dict[str, SeenRun] = {}
    todo = iter(refs)

    async def ask() -> None:
        for ref in todo:
            found = await _run(client, ref)
            if found is not None:
                runs[ref] = found

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(ask())
    return Seen(
        runs=runs,
        letters=tuple(await _letters(client)),
        audit=msgspec.to_builtins(await client.audit()),
        workers=frozenset(workers),
        total=(await client.runs()).total,
        unsure=unsure,
    )


async def _run(client: Client, ref: str) -> SeenRun | None:
    try:
        view = await client.run(ref)
    except NotFound:
        return None
    records = [cast("list[Any]", msgspec.msgpack.decode(raw)) for raw in await client.history(ref)]
    return SeenRun(
        ref=view.ref,
        status=view.status.value,
        owner=view.owner,
        token=view.token,
        mails=view.mails,
        takeovers=view.takeovers,
        resumed=sum(record[0] == "resumed" for record in records),
        steps=tuple(_step(record) for record in records if record[0] == "done"),
        events=tuple(record[3][0] for record in records if record[0] == "event"),
    )


def _step(record: list[Any]) -> Step:
    _, _, number, action, _, result, attempts, *_ = record
    found = msgspec.msgpack.decode(result, type=Nonce)
    return Step(number, action, found.nonce, found.token, attempts)


async def _letters(client: Client) -> list[SeenLetter]:
    found: list[SeenLetter] = []
    after = ""
    while page := await client.dead_letters(500, after):
        after = page[-1].id
        found += [SeenLetter(letter.field("id") or letter.id, letter.reason, letter.run) for letter in page]
    return found


def command(url: str, *words: str) -> dict[str, Any]:
    """The document that a command of ``workflow-worker`` prints with ``--json``.

    Raises:
        AssertionError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "workflow_worker", *words, "--json"],
        env={**os.environ, "REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=_COMMAND_WITHIN_S,
        check=False,
    )
    assert done.returncode in (0, 1), f"{words}: {done.stderr}"
    assert done.stdout, f"{words}: {done.stderr}"
    return json.loads(done.stdout)


def compare_with_commands(url: str, seen: Seen, sample: Sequence[str]) -> int:
    """Ask the commands for a sample of the runs, for the list, the letters and the audit.

    Returns:
        How many documents were compared.

    Raises:
        Disagreement: One says something else than what was seen through the client.
    """
    compared = 0
    for ref in sample:
        document, run = command(url, "runs", "show", ref), seen.runs[ref]
        steps = [(each["step"], each["action"]) for each in document["history"] if each["kind"] == "done"]
        mail = [each["detail"].split(" ")[1] for each in document["history"] if each["kind"] == "event"]
        theirs = (document["status"], document["token"], document["takeovers"], steps, mail)
        ours = (
            run.status,
            run.token,
            run.takeovers,
            [(step.number, step.action) for step in run.steps],
            list(run.events),
        )
        _agree(f"runs show {ref}", theirs, ours)
        compared += 1
    listed = command(url, "runs", "list", "--limit", "1")
    _agree("runs list", listed["total"], seen.total)
    letters = command(url, "dead", "list", "--limit", "10000")["items"]
    reasons = [letter.reason for letter in seen.letters][:10_000]
    _agree("dead list", [letter["reason"] for letter in letters], reasons)
    audit = command(url, "audit")
    _agree("audit", (audit["balanced"], audit["added"]), (seen.audit["balanced"], seen.audit["added"]))
    return compared + 3


def _agree(what: str, theirs: object, ours: object) -> None:
    if theirs != ours:
        raise Disagreement(f"{what} says {theirs}, the client said {ours}")
