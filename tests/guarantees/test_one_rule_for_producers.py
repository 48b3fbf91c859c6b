"""What client, HTTP and command line accept is what ingest takes in; what would be a dead letter is refused at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.service import Service, eventually, started
from tests.guarantees.trial import Trial, service_of
from workflow_worker.client.client import Client
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import EventRejected, StoreFull, UsageError
from workflow_worker.model.run import RunStatus

MAX_BYTES = 20_000


def told(**changes: Any) -> dict[str, Any]:
    """A declared event as a producer writes it in JSON, with changes."""
    return {"id": "x", "type": "job.told", "subject": "nobody", "data": {"job": "nobody", "word": 1}} | changes


REFUSED: dict[str, dict[str, Any]] = {
    "empty type": told(type=""),
    "reserved type": told(type="wf.cancel"),
    "internal type": told(type="ww.anything"),
    "mark": told(type="#jobs"),
    "pattern": told(type="job.*"),
    "star inside": told(type="job*told"),
    "white space": told(type="job told"),
    "line break": told(type="job.told\n"),
    "control character": told(type="job\x00told"),
    "invisible": told(type="job.\N{ZERO WIDTH SPACE}told"),
    "long type": told(type="t" * 201),
    "long id": told(id="i" * 501),
    "long id in bytes": told(id="\N{PILE OF POO}" * 126),
    "long subject": told(subject="s" * 501),
    "long subject in bytes": told(subject="\N{EURO SIGN}" * 167),
    "long source": told(source="s" * 501),
    "long tenant": told(tenant="s" * 501),
    "big": told(data="x" * MAX_BYTES),
    "deep": told(data=json.loads("[" * 150 + "]" * 150)),
}
ACCEPTED: dict[str, dict[str, Any]] = {
    "longest type": told(type="job.more." + "t" * 191),
    "longest id": told(id="i" * 500),
    "longest id in bytes": told(id="\N{PILE OF POO}" * 125),
    "longest subject": told(subject="s" * 500),
    "longest subject in bytes": told(subject="\N{EURO SIGN}" * 166),
    "longest attributes": told(source="s" * 500, tenant="\N{EURO SIGN}" * 500, time="t" * 500, traceparent="p" * 500),
    "biggest": told(data="x" * (MAX_BYTES - 2)),
    "biggest with attributes": told(data="x" * (MAX_BYTES - 2), source="s" * 500, subject="s" * 500),
    "deepest": told(data=json.loads("[" * 100 + "]" * 100)),
    "separators": told(id="a:b{c}#*%d \n\x00", subject="a:b{c}#*%d \n\x00"),
    "number of many digits": told(data=10**400),
    "null": told(data=None),
}


@pytest.fixture
async def service(trial: Trial, tmp_path: Path) -> AsyncIterator[Service]:
    trial.variables["MAX_EVENT_BYTES"] = str(MAX_BYTES)
    made = service_of(trial, tmp_path, MAX_EVENT_BYTES=str(MAX_BYTES), WORKER_COUNT="1")
    with started(made):
        yield await made.ready()


def post(service: Service, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Publish over HTTP."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}/api/events",
        json.dumps(event).encode(),
        {"content-type": "application/cloudevents+json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


async def publish(client: Client, event: dict[str, Any]) -> str:
    """Publish with the client; the reason of a refusal, or nothing."""
    fields: dict[str, Any] = event | {"data": json.dumps(event["data"]).encode()}
    try:
        await client.publish(Event(**fields))
    except (UsageError, EventRejected) as error:
        return str(error) or "refused"
    return ""


async def test_what_would_be_a_dead_letter_is_refused_by_all_in_the_same_words(
    trial: Trial, service: Service, tmp_path: Path
) -> None:
    lines = tmp_path / "refused.jsonl"
    lines.write_text("".join(json.dumps(event) + "\n" for event in REFUSED.values()))
    reported = json.loads(service.cli("publish", "--file", str(lines), "--json", check=False))
    assert reported["published"] == 0
    by_cli = dict(zip(REFUSED, (problem["reason"] for problem in reported["problems"]), strict=True))
    async with trial.client() as client:
        for name, event in REFUSED.items():
            reason = await publish(client, event)
            assert reason, f"the client takes {name}"
            status, answer = await asyncio.to_thread(post, service, event)
            assert status == 400, (name, answer)
            if name != "empty type":  # a line without a type is told apart from one whose type cannot be used
                assert answer["error"] == by_cli[name] == reason, name
    assert (await trial.audit()).added == 0


async def test_what_is_accepted_is_no_dead_letter(trial: Trial, service: Service, tmp_path: Path) -> None:
    """The bounds themselves: one character or byte less than what is refused."""
    async with trial.client() as client:
        for name, given in ACCEPTED.items():
            event = given | {"id": name} if given["id"] == "x" else given
            assert await publish(client, event) == "", name
            status, answer = await asyncio.to_thread(post, service, event | {"id": f"{event['id'][:-1]}2"})
            assert status == 202, (name, answer)
        async with trial.store() as store:

            async def taken_in() -> bool:
                return (await store.audit()).ingested == 2 * len(ACCEPTED) and (await store.depth()).events == 0

            await eventually(taken_in, 10, "all taken in")
        letters = await client.dead_letters()
    reasons = {letter.reason for letter in letters} - {"undeclared"}  # of the type that no app declares
    assert not reasons


async def test_all_are_told_when_memory_is_scarce(trial: Trial, service: Service, tmp_path: Path) -> None:
    """What starts a run is refused, by whatever way it comes, and what a run waits for is taken."""
    await trial.ask("waiting", steps=("told:3",))
    await trial.at("waiting", RunStatus.WAITING)
    async with trial.raw() as raw, trial.client() as client:
        now = (await raw.time())[0] * 1000
        await raw.hset(trial.prefix + "stat", "full", now + 600_000)  # as a tick does above the mark
        start = {"id": "e1", "type": "job.asked", "subject": "j", "data": {"job": "j"}}
        with pytest.raises(StoreFull, match="MEMORY_HIGH_WATER"):
            await publish(client, start)
        with pytest.raises(StoreFull, match="MEMORY_HIGH_WATER"):
            await client.start("perform", Event("", "job.asked", "j", b'{"job": "j"}'), id="j")
        status, answer = await asyncio.to_thread(post, service, start)
        assert status == 503
        assert "MEMORY_HIGH_WATER" in answer["error"]
        lines = tmp_path / "events.jsonl"
        words = [told(id=f"w{n}", subject="waiting", data={"job": "waiting", "word": n}) for n in range(3)]
        lines.write_text("".join(json.dumps(event) + "\n" for event in (words[0], start)))
        said = service.cli("publish", "--file", str(lines), check=False, errors=True)
        assert "MEMORY_HIGH_WATER" in said
        assert "Traceback" not in said
        assert await publish(client, words[1]) == ""
        status, answer = await asyncio.to_thread(post, service, words[2])
        assert status == 202, answer
        assert await trial.completed("waiting") == {"waiting": [0, 1, 2]}
        assert await trial.view("j") is None
        await raw.hdel(trial.prefix + "stat", "full")
        status, answer = await asyncio.to_thread(post, service, start)
        assert status == 202, f"refused is not accepted: the id is as good as new, {answer}"
        await trial.completed("j")


HOSTILE_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\x00\xff\xfe",
    "half": b'{"type": "job.told", "data": {"job"',
    "not utf-8": b'{"type": "job.told", "subject": "\xff\xfe", "data": {}}',
    "surrogate": b'{"type": "job.told", "subject": "\\ud800", "data": {}}',
    "deep": b'{"type": "job.told", "data": ' + b"[" * 200_000,
    "deep and whole": b'{"type": "job.told", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep elsewhere": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "type": "job.told"}',
    "number": b'{"type": "job.told", "data": NaN}',
    "list": b'[{"type": "job.told"}]',
    "types": b'{"type": 7, "subject": {}, "data": 1}',
    "specversion": b'{"type": "job.told", "specversion": "' + b"9" * 100_000 + b'"}',
    "big": b'{"type": "job.told", "data": "' + b"x" * 1_000_000 + b'"}',
    "over the limit": b'{"type": "job.told", "data": "' + b"x" * 3_000_000 + b'"}',
}
HOSTILE_HEADERS: dict[str, dict[str, str]] = {
    "form": {"content-type": "application/x-www-form-urlencoded"},
    "text": {"content-type": "text/plain"},
    "none": {"content-type": ""},
    "another site": {"content-type": "application/json", "origin": "https://evil.example"},
    "another name": {"content-type": "application/json", "host": "evil.example"},
}


async def test_hostile_requests_are_refused_and_add_nothing(trial: Trial, service: Service) -> None:
    """Never an error of the server's own, and never a worse answer to the next one."""
    pids = [worker["pid"] for worker in service.workers()]

    def send(body: bytes, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
        try:
            connection.request("POST", "/api/events", body, headers)
            answer = connection.getresponse()
            assert "error" in json.loads(answer.read())
            return answer.status
        except (BrokenPipeError, ConnectionResetError):
            return 413  # refused before the body was read to its end
        finally:
            connection.close()

    for name, body in HOSTILE_BODIES.items():
        status = await asyncio.to_thread(send, body, {"content-type": "application/json"})
        assert status in (400, 413), (name, status)
    good = json.dumps(told()).encode()
    for name, headers in HOSTILE_HEADERS.items():
        status = await asyncio.to_thread(send, good, headers)
        assert status in (403, 415), (name, status)
    assert service.get("/api/health/worker")[0] == 200
    assert [worker["pid"] for worker in service.workers()] == pids
    assert (await trial.audit()).added == 0
    for line in service.log.read_text().splitlines():
        assert json.loads(line)["level"] not in ("error", "critical"), line


async def test_a_file_of_hostile_lines_keeps_no_good_line_out(trial: Trial, service: Service, tmp_path: Path) -> None:
    """Each bad line is reported with its number, in one line; what is good between them is published."""
    lines = tmp_path / "hostile.jsonl"
    bodies = [body for body in HOSTILE_BODIES.values() if body]
    good = [json.dumps(told(id=f"good-{number}")).encode() for number in range(len(bodies))]
    lines.write_bytes(b"".join(body + b"\n" + line + b"\n" for body, line in zip(bodies, good, strict=True)))
    reported = json.loads(service.cli("publish", "--file", str(lines), "--json", check=False))
    # A line may say more than we keep: what is no CloudEvent of version 1.0 is refused over HTTP only.
    lenient = {"specversion"}
    bad = [name for name, body in HOSTILE_BODIES.items() if body and name not in lenient]
    assert reported["published"] == len(good) + len(lenient)
    assert len(reported["problems"]) == len(bad)
    for name in ("deep and whole", "not utf-8"):
        data = tmp_path / "data"
        data.write_bytes(HOSTILE_BODIES[name])
        said = service.cli("publish", "job.told", "--subject", "s", "--data", f"@{data}", check=False, errors=True)
        assert said.count("Traceback") == 0, said
        assert "is not JSON" in said
