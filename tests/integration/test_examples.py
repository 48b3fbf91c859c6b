"""The examples do what their texts say, and the one in the package is the one to read."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import EXAMPLES, ROOT, Place, wait_for

ALL = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("example", ALL, ids=lambda path: path.stem)
def test_an_example_is_short_and_has_no_findings(tmp_path: Path, example: Path) -> None:
    code = [line for line in example.read_text().splitlines() if line.strip()]
    assert len(code) < (120 if example.stem == "shop" else 80)  # a whole application
    answer = Place(tmp_path).run("check", str(example))
    assert answer.code == 0, answer


def test_the_demo_runs_the_orders_example() -> None:
    # Examples are not part of the installed package, so the demo has a copy of its own.
    packaged = ROOT / "src" / "workflow_worker" / "cli" / "demo_app.py"
    assert packaged.read_text() == (EXAMPLES / "orders.py").read_text()


def test_orders_leave_their_traces(tmp_path: Path) -> None:
    place = Place(tmp_path, {"WORKER_COUNT": "1", "ORDERS_STEP_MS": "1", "ORDERS_EFFECTS": str(tmp_path / "effects")})
    with place.start("start", str(EXAMPLES / "orders.py")):
        place.ask("publish", "order.placed", "--id", "e-7", "--subject", "o-7", "--data", '{"order_id": "o-7"}')
        wait_for(lambda: place.ask("runs", "list", "--status", "completed")["total"] == 1, "the order is completed")
    lines = [line.split() for line in (tmp_path / "effects").read_text().splitlines()]
    assert [(order, step, attempt) for order, step, _, attempt in lines] == [
        ("o-7", "reserve_stock", "1"),
        ("o-7", "charge", "1"),
        ("o-7", "ship", "1"),
    ]
    assert len({key for _, _, key, _ in lines}) == 3


class Approvals:
    """The approval example in a folder of its own, with requests that are patient for parts of a second."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def request(self, name: str, **spans: float) -> None:
        data = {"request_id": name, "what": "2 laptops", "approver": "ann", "manager": "max"} | spans
        self.place.ask("publish", "approval.requested", "--subject", name, "--data", json.dumps(data))

    def decide(self, name: str, approved: bool, by: str) -> None:
        data = json.dumps({"approved": approved, "by": by})
        self.place.ask("publish", "approval.decided", "--subject", name, "--data", data)

    def reach(self, name: str, **expected: str) -> dict[str, Any]:
        """Wait until the run shows all of this; the run."""
        found: dict[str, Any] = {}

        def look() -> bool:
            answer = self.place.run("runs", "show", f"approval-{name}", "--json")
            found.update(answer.document if answer.code == 0 else {})
            shown: dict[str, Any] = {"run": found.get("status")}
            shown.update(found.get("state") or {})
            return all(shown.get(key) == value for key, value in expected.items())

        wait_for(look, f"{name}: {expected}")
        return found


def told(run: dict[str, Any]) -> int:
    """How many messages went out."""
    return sum(each["kind"] == "done" and each["action"] == "tell" for each in run["history"])


def test_an_approval_is_given_declined_reminded_escalated_and_given_up(tmp_path: Path) -> None:
    place = Place(tmp_path, {"WORKER_COUNT": "1"})
    approvals = Approvals(place)
    hurry = {"remind_after_s": 0.2, "escalate_after_s": 0.2}
    with place.start("start", str(EXAMPLES / "approval.py")):
        for name in ("yes", "no"):
            approvals.request(name)
            approvals.reach(name, status="asked", run="waiting")
        approvals.decide("yes", True, "ann")
        approvals.decide("no", False, "ann")
        assert approvals.reach("yes", run="completed")["result"] == {"approved_by": "ann"}
        assert "ann declined" in approvals.reach("no", run="failed")["error"]["message"]

        approvals.request("manager", remind_after_s=0.2, escalate_after_s=600)
        approvals.reach("manager", status="escalated", run="waiting")
        approvals.decide("manager", True, "max")
        run = approvals.reach("manager", run="completed")
        assert (run["result"], told(run)) == ({"approved_by": "max"}, 3)

        approvals.request("silence", **hurry)
        run = approvals.reach("silence", run="failed")
        assert "nobody decided" in run["error"]["message"]
        assert told(run) == 3


def deliveries() -> list[dict[str, Any]]:
    """Life cycles of 40 issues and pull requests, and much that has no meaning for the example."""
    found: list[dict[str, Any]] = []

    def deliver(event_type: str, subject: str | None, data: dict[str, Any]) -> None:
        event = {"id": f"d-{len(found)}", "type": f"github.{event_type}", "subject": subject, "data": data}
        found.append(event if subject else {key: value for key, value in event.items() if key != "subject"})

    sender = {"sender": {"login": "octocat"}}
    for step in ("labeled", "opened", "assigned", "closed"):
        for number in range(40):
            if step == "closed" and number % 10 == 0:
                continue
            kind = "issues" if number % 2 else "pull_request"
            deliver(f"{kind}.{step}", f"octo/repo#{number}", {"action": step} | sender)
    for number in range(5):
        deliver("push", "octo/repo", {"ref": "refs/heads/main", "after": f"{number:040x}"} | sender)
    deliver("star.created", "octo/repo", {"action": "created"})
    deliver("fork", "octo/repo", {"forkee": {}})
    deliver("sponsorship.created", None, {"action": "created"})
    deliver("issues.labeled", "octo/repo#999", {"action": "labeled"} | sender)
    deliver("push", "octo/other", {"ref": 7})
    return found


def test_webhooks_lose_nothing_and_each_issue_is_followed_to_its_end(tmp_path: Path) -> None:
    place = Place(tmp_path, {"WORKER_COUNT": "1", "CONCURRENCY_LIMIT": "50"})
    events = deliveries()
    lines = "\n".join(json.dumps(event) for event in events)
    (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with place.start("start", str(EXAMPLES / "webhooks.py")):
        done = place.ask("publish", "--file", "events.jsonl.gz")
        assert (done["published"], done["duplicates"], done["bad"]) == (len(events), 0, 0)

        def statuses(workflow: str) -> Counter[str]:
            return Counter(run["status"] for run in place.ask("runs", "list", "--workflow", workflow)["items"])

        wait_for(lambda: statuses("follow") == {"completed": 36, "waiting": 4}, "36 of 40 are closed")
        wait_for(lambda: statuses("build") == {"completed": 5, "failed": 1}, "each push was handled")
        wait_for(lambda: statuses("note") == {"completed": 3}, "the rest is noted")
        run = place.ask("runs", "show", "follow:octo/repo#11")
        assert run["result"] == {
            "seen": {"opened": 1, "labeled": 1, "assigned": 1, "closed": 1},
            "opened_by": "octocat",
        }
        (letter,) = place.ask("dead", "list")["items"]
        assert letter["event"]["data"] == {"ref": 7}

        again = place.ask("publish", "--file", "events.jsonl.gz")
        assert (again["published"], again["duplicates"]) == (0, len(events))
        audit = place.ask("audit")
        assert audit["balanced"] is True
        assert audit["ingested"] == len(events)
