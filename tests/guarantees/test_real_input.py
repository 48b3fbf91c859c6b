"""Webhooks as GitHub sends them, and life cycles of issues: each event has one fate, a second time changes nothing.

The real files are not part of the project: WW_REAL_INPUT names the folder that holds them.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.guarantees.service import ROOT, Service, eventually, started
from tests.support.servers import RunningServer, free_port
from workflow_worker.client.client import Client
from workflow_worker.model.record import EventReceived, decode_record
from workflow_worker.model.settings import Settings
from workflow_worker.store.transitions import Audit, RunQuery

WEBHOOKS = ROOT / "examples" / "webhooks.py"
REAL = ("github-webhooks.jsonl.gz", "made-lifecycles.jsonl.gz")
MADE_CLOSED = 274
CHANGES = ("edited", "labeled", "assigned", "locked")

Delivery = dict[str, Any]


def lifecycle(number: int, chance: random.Random) -> list[Delivery]:
    """One issue or pull request: opened, some changes, in nine of ten cases closed."""
    kind = chance.choice(("issue", "pull_request"))
    name = "issues" if kind == "issue" else kind
    actions = ["opened", *chance.choices(CHANGES, k=chance.randrange(4))]
    if number % 10:
        actions.append("closed")
    repository = f"made/repo-{number % 7}"
    return [
        {
            "id": f"made-{number}-{place}",
            "source": "made",
            "type": f"github.{name}.{action}",
            "subject": f"{repository}#{number}",
            "data": {
                "action": action,
                kind: {"number": number, "title": f"made case {number}"},
                "repository": {"full_name": repository},
                "sender": {"login": "octocat"},
            },
        }
        for place, action in enumerate(actions)
    ]


def shuffled(cases: list[list[Delivery]], chance: random.Random) -> Iterator[Delivery]:
    """All deliveries, mixed between the cases, in order within each."""
    turns = [number for number, case in enumerate(cases) for _ in case]
    chance.shuffle(turns)
    sources = [iter(case) for case in cases]
    for turn in turns:
        yield next(sources[turn])


def dirt() -> list[Delivery]:
    """What a real stream has besides: repeats, gaps, strangers, things of no meaning here."""
    sender = {"sender": {"login": "octocat"}}

    def deliver(name: str, event_type: str, subject: str | None, data: Delivery) -> Delivery:
        event = {"id": f"dirt-{name}", "source": "made", "type": event_type, "data": data | sender}
        return event if subject is None else event | {"subject": subject}

    return [
        deliver("closed-first", "github.issues.closed", "made/late#1", {"action": "closed"}),
        deliver("opened-late", "github.issues.opened", "made/late#1", {"action": "opened"}),
        deliver("opened-again", "github.issues.opened", "made/late#1", {"action": "opened"}),
        deliver("never-opened", "github.issues.labeled", "made/late#2", {"action": "labeled"}),
        deliver("no-subject", "github.sponsorship.created", None, {"action": "created"}),
        deliver("push", "github.push", "made/late", {"ref": "refs/heads/main", "after": "1f" * 20}),
        deliver("bad-push", "github.push", "made/bad", {"ref": 7}),
        deliver("stranger", "gitlab.push", "made/late", {}),
        deliver("opened-where", "github.issues.opened", None, {"action": "opened"}),
    ]


def write(path: Path, events: list[Delivery]) -> None:
    """As one gzipped file of JSON lines."""
    path.write_bytes(gzip.compress("\n".join(json.dumps(event) for event in events).encode()))


class Trial:
    """A service that runs the webhooks example, and what became of the events that it was given."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.service = Service(server.url, free_port(), folder, app=WEBHOOKS)

    def publish(self, path: Path) -> tuple[int, int]:
        """Published and duplicate events; every line must be one."""
        answer = json.loads(self.service.cli("publish", "--file", str(path), "--json"))
        assert answer["bad"] == 0, answer
        return answer["published"], answer["duplicates"]

    async def settled(self) -> Audit:
        """Wait until all is taken in and recorded; the audit then."""
        async with self.client() as client:

            async def look() -> Audit | None:
                audit = await client.audit()
                assert audit.balanced, audit.problems
                return audit if not audit.queued and audit.deliveries == audit.recorded else None

            return await eventually(look, 40, "everything recorded")

    def client(self) -> Any:
        """A client of the service's server."""
        return Client.from_settings(Settings.from_mapping({"REDIS_URL": self.server.url}))

    async def closed(self) -> list[str]:
        """The subjects that were followed to their end."""
        async with self.client() as client:
            page = await client.runs(RunQuery(workflow="follow", limit=10_000))
        return [run.subject or "" for run in page.items if run.status.value == "completed"]

    async def fates(self, events: list[Delivery]) -> dict[str, list[str]]:
        """The ids of each fate, seen from outside: in runs, histories, letters and lists, not in counters."""
        fates: dict[str, list[str]] = {"routed": [], "early": [], "duplicate": [], "dead": []}
        received: set[str] = set()
        started_by_id: set[str] = set()
        not_seen_started: set[str] = set()
        async with self.client() as client:
            for run in (await client.runs(RunQuery(limit=10_000))).items:
                records = [decode_record(raw) for raw in await client.history(run.ref)]
                received |= {record.event.id for record in records if isinstance(record, EventReceived)}
                if run.workflow == "follow":
                    not_seen_started.add(run.subject or "")
                else:
                    started_by_id.add(run.id)
            dead = {letter.field("id") for letter in await client.dead_letters(10_000) if not letter.run}
        early = self._early()
        for event in {event["id"]: event for event in events}.values():
            event_id, subject = event["id"], event.get("subject", "")
            places = [event_id in dead, event_id in received or event_id in started_by_id, _names(event_id, early)]
            assert sum(places) <= 1, f"{event_id} has several fates: {places}"
            if places[0]:
                fates["dead"].append(event_id)
            elif places[1]:
                fates["routed"].append(event_id)
            elif places[2]:
                fates["early"].append(event_id)
            elif event["type"].endswith(".opened") and subject in not_seen_started:
                not_seen_started.discard(subject)  # the one that started the run is in no record of its own
                fates["routed"].append(event_id)
            else:
                fates["duplicate"].append(event_id)
        assert not not_seen_started, f"followed without a start: {not_seen_started}"
        return fates

    def _early(self) -> bytes:
        """All lists of early events, as the server keeps them."""
        raw: Any = redis.Redis(unix_socket_path=str(self.server.socket_path))
        with raw:
            lists: list[list[bytes]] = [raw.lrange(key, 0, -1) for key in raw.scan_iter("ww:{ww:0}:early:*")]
        return b" ".join(packed for found in lists for packed in found)


def _names(event_id: str, packed: bytes) -> bool:
    """Whether the id is in there, and not only as the beginning of a longer one."""
    return re.search(re.escape(event_id.encode()) + rb"(?![0-9])", packed) is not None


async def everything_has_one_fate(trial: Trial, paths: list[Path], closed: int) -> dict[str, list[str]]:
    """Publish the files, twice; what must hold after each time."""
    events = [json.loads(line) for path in paths for line in gzip.decompress(path.read_bytes()).splitlines()]
    ids = {event["id"] for event in events}
    published = [trial.publish(path) for path in paths]
    assert sum(new for new, _ in published) == len(ids)
    first = await trial.settled()
    assert first.added == first.ingested == len(ids)
    assert first.routed + first.early + first.duplicate + first.dead == len(ids)
    made = [subject for subject in await trial.closed() if subject.startswith("made/repo-")]
    assert len(made) == closed
    fates = await trial.fates(events)
    counts = {name: len(found) for name, found in fates.items()}
    # What was early and was claimed since is in a history by now.
    claimed = first.early - counts["early"]
    assert claimed >= 0
    assert counts == {
        "routed": first.routed + claimed,
        "early": counts["early"],
        "duplicate": first.duplicate,
        "dead": first.dead,
    }

    again = [trial.publish(path) for path in paths]
    assert again == [(0, new + repeated) for new, repeated in published]
    second = await trial.settled()
    assert (second.added, second.routed, second.early, second.dead) == (
        first.added,
        first.routed,
        first.early,
        first.dead,
    )
    assert (second.deliveries, second.recorded) == (first.deliveries, first.recorded)
    assert await trial.fates(events) == fates
    return fates


async def test_every_event_has_one_fate_and_a_second_time_changes_nothing(
    durable_server: RunningServer, tmp_path: Path
) -> None:
    chance = random.Random(4)
    cases = [lifecycle(number, chance) for number in range(1, 121)]
    made, rest = tmp_path / "made.jsonl.gz", tmp_path / "rest.jsonl.gz"
    write(made, list(shuffled(cases, chance)))
    write(rest, [*dirt(), dirt()[0]])
    trial = Trial(durable_server, tmp_path)
    with started(trial.service):
        await trial.service.ready()
        fates = await everything_has_one_fate(trial, [rest, made], closed=108)
        assert fates["early"] == ["dirt-never-opened"]
        assert fates["dead"] == ["dirt-stranger", "dirt-opened-where"]
        assert "made/late#1" in await trial.closed()
        async with trial.client() as client:
            reasons = Counter(letter.reason.partition(":")[0] for letter in await client.dead_letters())
        assert reasons == {"undeclared": 1, "subject missing": 1, "rejected": 1}


@pytest.mark.timeout(150)
@pytest.mark.skipif(
    "WW_REAL_INPUT" not in os.environ, reason=f"WW_REAL_INPUT names no folder with {' and '.join(REAL)}"
)
async def test_real_webhooks_and_made_lifecycles(durable_server: RunningServer, tmp_path: Path) -> None:
    folder = Path(os.environ["WW_REAL_INPUT"])
    trial = Trial(durable_server, tmp_path)
    with started(trial.service):
        await trial.service.ready()
        fates = await everything_has_one_fate(trial, [folder / name for name in REAL], closed=MADE_CLOSED)
        assert fates["dead"] == []
