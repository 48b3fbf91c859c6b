"""Commands against a real service on an embedded server: documents, exit codes, one line for each error."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import EXAMPLES, OUR_VARIABLES, Answer, Place, wait_for
from workflow_worker.cli.main import run_command

RUN_FIELDS = ["id", "workflow", "version", "status", "subject", "started_at", "updated_at", "attempts", "takeovers"]
LETTER_FIELDS = {"id", "reason", "event", "raw", "at"}
AUDIT_FIELDS = {
    "added", "ingested", "routed", "early", "duplicate", "dead", "deliveries", "recorded", "unclaimed", "fenced",
    "again", "takeovers", "balanced",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder in which the orders example runs, on the embedded server of that folder."""
    place = Place(tmp_path_factory.mktemp("shop"), {"WORKER_COUNT": "1", "ORDERS_STEP_MS": "1"})
    with place.start("start", str(EXAMPLES / "orders.py")):
        yield place


def test_a_run_is_started_by_its_workflows_name(shop: Place) -> None:
    data = json.dumps({"order_id": "by-hand"})
    arguments = ("runs", "start", "fulfil", "--data", data, "--subject", "by-hand", "--id", "mine")
    assert shop.ask(*arguments) == {"id": "mine", "workflow": "fulfil", "operation": "start", "existed": False}
    wait_for(lambda: shop.run("runs", "show", "fulfil:mine").code == 0, "the run")
    assert shop.run(*arguments).out == "fulfil:mine was started before: nothing added\n"
    assert shop.run("runs", "start", "fulfil", "--data", data, "--subject", "x").out.endswith(" is started\n")
    shop.run("dead", "drop", "--all", "--yes")  # what other tests of this folder left
    assert "subject missing: say --subject" in complaint(shop.run("runs", "start", "fulfil", "--data", data), 1)
    assert "is not started, see `dead show " in complaint(shop.run("runs", "start", "fulfill", "--data", data), 1)
    assert "2 dead letters, see `workflow-worker dead list`" in complaint(shop.run("runs", "show", "nobody"), 1)
    shop.run("dead", "drop", "--all", "--yes")
    complaint(shop.run("runs", "start", "fulfil", "--data", "{"), 2)
    assert "workflow name 'no name' is not usable" in complaint(shop.run("runs", "start", "no name"), 2)


def complaint(answer: Answer, code: int) -> str:
    """The one line on stderr of a command that refused."""
    assert answer.code == code, answer
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("workflow-worker: ")
    assert "Traceback" not in answer.err
    return lines[0]


def place_order(shop: Place, order: str, **fields: Any) -> str:
    data = json.dumps({"order_id": order} | fields)
    return shop.ask("publish", "order.placed", "--subject", order, "--id", f"evt-{order}", "--data", data)["id"]


def completed(shop: Place, order: str) -> dict[str, Any]:
    """Wait until the order's run has completed; the run."""
    found: dict[str, Any] = {}

    def look() -> bool:
        answer = shop.run("runs", "show", f"order-{order}", "--json")
        found.clear()
        found.update(answer.document if answer.code == 0 else {})
        return found.get("status") == "completed"

    wait_for(look, f"order {order} is completed")
    return found


def test_an_order_from_publish_to_its_timeline(shop: Place) -> None:
    assert place_order(shop, "o-1", customer="c-9", total=4200) == "evt-o-1"
    run = completed(shop, "o-1")
    assert list(run)[: len(RUN_FIELDS)] == RUN_FIELDS
    assert (run["workflow"], run["version"], run["subject"]) == ("fulfil", 1, "o-1")
    assert run["result"]["payment"] == "payment-o-1-c-9-4200"
    steps = [each for each in run["history"] if each["kind"] == "done"]
    assert [(each["action"], each["attempt"]) for each in steps] == [("reserve_stock", 1), ("charge", 1), ("ship", 1)]
    text = shop.run("runs", "show", "fulfil:order-o-1").out
    assert "✓ reserve_stock" in text
    assert "■ run completed" in text


def test_an_id_counts_once(shop: Place) -> None:
    data = '{"order_id": "o-twice"}'
    publish = ("publish", "order.placed", "--subject", "o-twice", "--id", "evt-twice", "--data", data)
    assert shop.ask(*publish) == {"id": "evt-twice", "duplicate": False}
    assert shop.ask(*publish) == {"id": "evt-twice", "duplicate": True}


def test_a_delayed_event_comes_later(shop: Place) -> None:
    data = '{"order_id": "o-late"}'
    before = time.time()
    shop.ask("publish", "order.placed", "--subject", "o-late", "--data", data, "--delay", "2.5")
    begun = datetime.fromisoformat(completed(shop, "o-late")["started_at"]).timestamp()
    assert begun >= before + 2.5


def test_data_comes_from_a_file_or_from_stdin(shop: Place) -> None:
    (shop.folder / "order.json").write_text('{"order_id": "o-file"}')
    assert shop.run("publish", "order.placed", "--subject", "o-file", "--data", "@order.json").code == 0
    stdin = b'{"order_id": "o-stdin"}'
    assert shop.run("publish", "order.placed", "--subject", "o-stdin", "--data", "-", stdin=stdin).code == 0
    completed(shop, "o-file")
    completed(shop, "o-stdin")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_published_and_its_bad_lines_are_reported(shop: Place, packed: bool) -> None:
    orders = [f"o-{'packed' if packed else 'plain'}-{number}" for number in range(450)]
    lines = [
        json.dumps({"id": f"evt-{order}", "type": "order.placed", "subject": order, "data": {"order_id": order}})
        for order in orders
    ]
    lines[3:3] = ["no json"]
    lines.append('{"id": "x"}')
    text = "\n".join(lines).encode()
    file = shop.folder / "events.jsonl"
    file.write_bytes(gzip.compress(text) if packed else text)
    answer = shop.run("publish", "--file", "events.jsonl", "--json")
    assert answer.code == 1
    assert {name: answer.document[name] for name in ("published", "duplicates", "bad")} == {
        "published": 450, "duplicates": 0, "bad": 2,
    }  # fmt: skip
    assert [problem["line"] for problem in answer.document["problems"]] == [4, 452]
    assert [line.split(": ")[1] for line in answer.err.splitlines()] == ["events.jsonl:4", "events.jsonl:452"]
    again = shop.run("publish", "--file", "-", stdin="\n".join(lines[:3]).encode())
    assert (again.code, again.out) == (0, "0 published, 3 duplicates, 0 bad lines\n")
    wait_for(
        lambda: all(shop.run("runs", "show", f"order-{order}").code == 0 for order in (orders[0], orders[-1])),
        "all run",
    )


def test_runs_are_listed_by_what_one_asks_for(shop: Place) -> None:
    for order in ("o-list-1", "o-list-2"):
        place_order(shop, order)
        completed(shop, order)
    page = shop.ask("runs", "list", "--status", "completed", "--workflow", "fulfil", "--limit", "2")
    assert list(page) == ["items", "next", "total"]
    assert len(page["items"]) == 2
    assert page["total"] >= 2
    assert all(list(run) == RUN_FIELDS and run["status"] == "completed" for run in page["items"])
    (only,) = shop.ask("runs", "list", "--subject", "o-list-1")["items"]
    assert only["id"] == "order-o-list-1"
    assert shop.ask("runs", "list", "--workflow", "nothing")["items"] == []
    text = shop.run("runs", "list", "--subject", "o-list-1").out.splitlines()
    assert text[0].split()[:3] == ["ID", "WORKFLOW", "STATUS"]
    assert text[1].split()[:3] == ["order-o-list-1", "fulfil@1", "completed"]


def test_a_dead_letter_is_listed_shown_sent_again_and_dropped(shop: Place) -> None:
    for number in (1, 2):
        shop.ask("publish", "order.unheard-of", "--subject", "o-1", "--id", f"dead-{number}", "--data", '{"n": 1}')

    def letters() -> list[dict[str, Any]]:
        found = shop.ask("dead", "list")["items"]
        return [letter for letter in found if (letter["event"]["id"] or "").startswith("dead-")]

    wait_for(lambda: len(letters()) == 2, "two dead letters")
    first, second = letters()
    assert set(first) >= LETTER_FIELDS
    assert (first["event"]["type"], first["event"]["data"]) == ("order.unheard-of", {"n": 1})
    assert ["type", "order.unheard-of"] in first["raw"]
    assert shop.ask("dead", "show", first["id"])["reason"] == first["reason"]
    assert shop.ask("dead", "drop", first["id"])["outcome"] == "ok"
    assert first["id"] in complaint(shop.run("dead", "show", first["id"]), 1)
    assert shop.ask("dead", "redrive", second["id"])["outcome"] == "ok"
    complaint(shop.run("dead", "redrive", second["id"]), 1)
    wait_for(lambda: len(letters()) == 1, "the one that was sent again is refused again")


def test_many_dead_letters_go_at_once_and_the_log_of_acts_says_who(shop: Place) -> None:
    for number in range(3):
        shop.ask("publish", "order.many", "--id", f"many-{number}", "--data", "{}")

    def left() -> int:
        return sum(letter["event"]["type"] == "order.many" for letter in shop.ask("dead", "list")["items"])

    wait_for(lambda: left() == 3, "three dead letters")
    page = shop.ask("dead", "list", "--limit", "1")
    assert shop.ask("dead", "list", "--after", page["next"])["items"][0]["id"] > page["items"][0]["id"]
    complaint(shop.run("dead", "drop"), 2)
    complaint(shop.run("dead", "drop", "1-1", "--type", "order.many"), 2)
    assert "36h" in complaint(shop.run("dead", "drop", "--all", "--older", "soon"), 2)
    complaint(shop.run("dead", "drop", "--all", "--older", "7d"), 1)
    choice = ("dead", "drop", "--all", "--reason", "undecl", "--type", "order.many")
    asked = shop.run(*choice, stdin=b"n\n")
    assert ("Delete 3 dead letters" in asked.err, asked.code, left()) == (True, 130, 3)
    assert shop.ask(*choice, "--yes", "--by", "ann@desk")["dropped"] == 3
    assert left() == 0
    [act] = shop.ask("operators", "--limit", "1")["items"]
    assert (act["by"], act["act"], act["note"]) == ("ann@desk", "drop letters", "3")
    assert "ann@desk" in shop.run("operators").out.splitlines()[1]


def test_runs_are_listed_page_by_page(shop: Place) -> None:
    for number in range(3):
        place_order(shop, f"o-page-{number}")
        completed(shop, f"o-page-{number}")
    everything = shop.ask("runs", "list", "--workflow", "fulfil", "--limit", "1000000")
    assert (len(everything["items"]), everything["next"]) == (everything["total"], None)
    first = shop.ask("runs", "list", "--workflow", "fulfil", "--limit", "2")
    rest = shop.ask("runs", "list", "--workflow", "fulfil", "--limit", "1000000", "--after", first["next"])
    assert first["items"] + rest["items"] == everything["items"]
    assert "--after fulfil:" in shop.run("runs", "list", "--limit", "1").out
    complaint(shop.run("runs", "list", "--after", "no-such-run"), 1)


def test_the_audit_balances(shop: Place) -> None:
    place_order(shop, "o-audit")
    completed(shop, "o-audit")
    audit = shop.ask("audit")
    assert set(audit) >= AUDIT_FIELDS
    assert audit["balanced"] is True
    assert "balanced" in shop.run("audit").out


def test_health_and_scale_speak_to_the_service(shop: Place) -> None:
    report = shop.ask("health")
    assert len(report) == 10
    assert report["status"] == "healthy"
    assert "healthy" in shop.run("health").out
    assert shop.run("scale", "2").code == 0
    wait_for(lambda: shop.run("health", "--json").document["workerCount"] == 2, "two workers")
    assert shop.run("scale", "1", "--json").code == 0
    wait_for(lambda: shop.run("health", "--json").document["workerCount"] == 1, "one worker")


def test_what_is_not_there_or_refused_is_exit_code_1(shop: Place) -> None:
    place_order(shop, "o-ended")
    completed(shop, "o-ended")
    assert "order-none" in complaint(shop.run("runs", "show", "order-none"), 1)
    complaint(shop.run("runs", "cancel", "order-none"), 1)
    complaint(shop.run("runs", "resume", "order-o-ended"), 1)
    complaint(shop.run("runs", "cancel", "order-o-ended"), 1)
    complaint(shop.run("dead", "show", "1-1"), 1)
    complaint(shop.run("publish", "--file", "none.jsonl"), 1)
    assert "HOST and PORT" in complaint(shop.run("health", PORT="1"), 1)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("publish", "order.placed"), {}),
        (("publish", "order.placed", "--data", "{"), {}),
        (("publish", "order.placed", "--data", "{}", "--delay", "-1"), {}),
        (("publish", "order.placed", "--file", "x"), {}),
        (("publish",), {}),
        (("runs", "list", "--status", "sleeping"), {}),
        (("runs", "list", "--limit", "0"), {}),
        (("runs", "list", "--no-such-option"), {}),
        (("scale", "0"), {}),
        (("scale", "many"), {}),
        (("perform",), {}),
        (("runs", "list"), {"BATCH_SIZE": "0"}),
        (("runs", "list"), {"REDIS_URL": "http://example.org"}),
        (("start",), {}),
        (("start", "nowhere.py"), {}),
        (("start", "no.such.module:app"), {}),
        (("check", "json:dumps"), {}),
        (("build",), {}),
    ],
)
def test_usage_and_settings_are_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in OUR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "PORT": environment.get("PORT", "0")}.items():
        monkeypatch.setenv(name, value)
    code = run_command(arguments)  # in this process: only what the entry point does besides is not seen
    written = capsys.readouterr()
    complaint(Answer(code, written.out, written.err), 2)
    assert list(tmp_path.iterdir()) == [], "a refused command starts no server"


def test_a_reader_that_goes_away_is_no_accident(shop: Place) -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "workflow_worker", "runs", "list"],
        cwd=shop.folder,
        env=shop.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    with listing.stderr as errors:
        assert errors.read() == b""
    assert listing.wait(20) in (0, 1)


def test_help_explains_every_command_with_an_example(tmp_path: Path) -> None:
    place = Place(tmp_path)
    overview = place.run("--help").out
    commands = ["demo", "dev", "build", "start", "scale", "publish", "runs", "dead", "audit", "check", "health"]
    assert all(command in overview for command in commands)
    for command in ("build", "start", "dev", "publish", "scale", "health", "audit", "check"):
        text = place.run(command, "--help").out
        assert f"workflow-worker {command}" in text.split("Options", 1)[0].split("\n", 2)[2], command
    assert place.run("--version").out.startswith("workflow-worker ")


def test_an_unreachable_server_is_one_line(tmp_path: Path) -> None:
    answer = Place(tmp_path, {"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}).run("runs", "list")
    assert "REDIS_URL" in complaint(answer, 1)
    assert "secret" not in answer.err


def test_ctrl_c_ends_a_command_quietly(shop: Place) -> None:

    waiting = subprocess.Popen(
        [sys.executable, "-m", "workflow_worker", "publish", "--file", "-"],
        cwd=shop.folder,
        env=shop.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert waiting.stdin is not None
    waiting.stdin.write(
        b'{"id": "evt-live", "type": "order.placed", "subject": "o-live", "data": {"order_id":"o-live"}}\n'
    )
    waiting.stdin.flush()
    completed(shop, "o-live")
    waiting.send_signal(signal.SIGINT)
    _, errors = waiting.communicate(timeout=20)
    assert (waiting.returncode, errors) == (130, b"")
