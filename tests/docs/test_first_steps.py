"""What README and docs tell people to type, typed; what they say one sees, seen."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import README, ROOT
from tests.docs.programs import command_lines, python_blocks
from tests.integration.command import Place, wait_for

PROGRAM, TESTS = [block for block in python_blocks(README) if block.is_program]
INVOICES = """

@app.event("invoice.paid", subject="invoice_id")
@dataclass(frozen=True)
class InvoicePaid:
    invoice_id: str


@app.workflow(on=InvoicePaid, id="invoice-{invoice_id}")
async def thank(invoice: InvoicePaid) -> str:
    return f"thanks for {invoice.invoice_id}"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder with the README's program, and ``dev`` running there as the README says."""
    place = Place(tmp_path_factory.mktemp("shop"))
    (place.folder / PROGRAM.file).write_text(PROGRAM.code)
    dev, *_ = steps()
    assert dev == ["dev", PROGRAM.file]
    with place.start(*dev):
        yield place


def steps() -> list[list[str]]:
    """The first four command lines of the README, each without the command's name."""
    return [shlex.split(line)[1:] for line in command_lines(README)[:4]]


def test_the_readmes_program_takes_an_event_and_shows_its_result(shop: Place) -> None:
    _, placed, packed, show = steps()
    assert (placed[0], packed[0], show[:2]) == ("publish", "publish", ["runs", "show"])
    for command in (placed, packed):
        assert shop.run(*command).code == 0
    shown = ""

    def completed() -> bool:
        nonlocal shown
        shown = shop.run(*show).out
        return "completed" in shown.partition("\n")[0]

    wait_for(completed, "the order is completed")
    assert '  result     "1Z"' in shown
    for piece in ("● run started", "✓ charge", "→ event order.packed", "◷ timer fired", "■ run completed"):
        assert piece in shown, shown


def test_undeclared_events_are_dead_letters_until_their_class_is_there(shop: Place) -> None:
    shop.ask("publish", "invoice.paid", "--subject", "i-1", "--data", '{"invoice_id": "i-1"}')

    def reasons() -> list[str]:
        return [letter["reason"] for letter in shop.ask("dead", "list")["items"]]

    wait_for(lambda: reasons() == ["undeclared"], "a dead letter")
    (shop.folder / PROGRAM.file).write_text(PROGRAM.code + INVOICES)
    wait_for(lambda: shop.run("runs", "show", "invoice-i-1").code == 0, "the letter was sent again by itself")
    assert not reasons()


def test_an_id_counts_once_and_a_second_event_starts_nothing(shop: Place) -> None:
    order = ("publish", "order.placed", "--subject", "o-2", "--data", '{"order_id": "o-2", "total": 1}')
    assert [shop.ask(*order, "--id", "evt-2")["duplicate"] for _ in range(2)] == [False, True]
    shop.ask(*order)
    wait_for(lambda: shop.ask("audit")["queued"] == 0, "both events are taken in")
    assert shop.ask("runs", "list", "--subject", "o-2")["total"] == 1


def test_the_readmes_tests_pass(tmp_path: Path) -> None:
    for block in (PROGRAM, TESTS):
        (tmp_path / block.file).write_text(block.code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "2 passed" in answer.stdout


def test_an_event_that_nobody_takes_in_can_be_seen(tmp_path: Path) -> None:
    place = Place(tmp_path, {"PORT": "1"})  # nobody listens there
    place.ask("publish", "order.placed", "--subject", "o-1", "--data", '{"order_id": "o-1", "total": 1}')
    health = place.run("health")
    assert (health.code, "no service answers" in health.err) == (1, True)
    assert place.ask("audit")["queued"] == 1
    show = place.run("runs", "show", "order-o-1")
    assert (show.code, "1 event waits in the stream: is a service running?" in show.err) == (1, True)


def test_a_retry_and_a_suspended_run_go_as_the_page_on_errors_shows(tmp_path: Path) -> None:
    (program,) = [block for block in python_blocks(ROOT / "docs" / "how-to" / "errors.md") if block.is_program]
    (tmp_path / program.file).write_text(program.code)
    place = Place(tmp_path, {"WORKER_COUNT": "1", "LOG_LEVEL": "debug", "LOG_FORMAT": "console"})
    with place.start("start", program.file) as service:
        events = [
            {"type": "order.placed", "subject": order, "data": {"order_id": order, "total": total}}
            for order, total in (("o-1", 4_200), ("o-2", 42_000))
        ]
        place.run("publish", "--file", "-", stdin="\n".join(map(json.dumps, events)).encode())

        def statuses() -> dict[str, str]:
            return {run["id"]: run["status"] for run in place.ask("runs", "list")["items"]}

        wait_for(lambda: statuses() == {"order-o-1": "completed", "order-o-2": "suspended"}, "one of each")
        first, second = (place.ask("runs", "show", f"order-{order}") for order in ("o-1", "o-2"))
        log = service.log.read_text()
    assert [each["kind"] for each in first["history"]] == ["started", "attempt", "done", "completed"]
    assert (first["attempts"], first["result"]) == (2, "payment-o-1")
    assert second["error"]["message"] == "42000 is above the limit"
    for piece in ("attempt failed", "kind=recoverable decision=retry", "attempt=2", "run completed", "run suspended"):
        assert piece in log, log
