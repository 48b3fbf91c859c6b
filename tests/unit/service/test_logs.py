"""Log lines: which fact is worth one at which level, what it holds, and what it never holds."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from workflow_worker.model import facts
from workflow_worker.model.facts import AttemptEnded, AttemptLogged, EventProcessed, Fact, RunRested, StoreLost
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.model.settings import Settings
from workflow_worker.service import facts as service_facts
from workflow_worker.service.facts import HealthChanged, MetricsReported, ProcessEnded, ServiceFact
from workflow_worker.service.lines import DEBUG, ERROR, INFO, WARNING, level_of, line_of
from workflow_worker.service.logs import LogSubscriber

FAILURE = describe(ValueError("no"), ErrorKind.RECOVERABLE)


def lines_of(*written: Fact | ServiceFact, console: bool = False, **variables: str) -> list[str]:
    lines: list[bytes] = []
    settings = Settings.from_mapping(variables)
    subscriber = LogSubscriber(settings, "w-1", lines.append, console=console)
    for fact in written:
        subscriber(fact)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines) or console
    return [line.decode() for line in lines]


def attempt(decision: str = "", failed: bool = True) -> AttemptEnded:
    return AttemptEnded("w-1", "r:1", "charge", 3, 2, 12.34, FAILURE if failed else None, decision, 4_000, "rule 7")


@pytest.mark.parametrize(
    ("fact", "level"),
    [
        (EventProcessed("w", "r:1", "e", "t", "s", 1.0, "succeeded"), DEBUG),
        (EventProcessed("w", "r:1", "e", "t", "s", 1.0, "failed"), WARNING),
        (attempt(failed=False), DEBUG),
        (attempt("retry"), WARNING),
        (attempt("raise"), WARNING),
        (attempt("park"), ERROR),
        (RunRested("w", "r:1", "completed", 3, 1.0), DEBUG),
        (RunRested("w", "r:1", "failed", 3, 1.0, FAILURE), WARNING),
        (RunRested("w", "r:1", "suspended", 3, 1.0, FAILURE), ERROR),
        (StoreLost("w", "connection refused", 5), ERROR),
        (AttemptLogged("w", "r:1", "charge", 1, "warning", "careful", {}), WARNING),
        (ProcessEnded("w", 0, 1, 0, True), DEBUG),
        (ProcessEnded("w", 0, 1, -15, True), DEBUG),
        (ProcessEnded("w", 0, 1, -9, False), WARNING),
        (ProcessEnded("w", 0, 1, 2, False, "no such module"), ERROR),
        (HealthChanged("healthy", "degraded", ("w: draining",)), WARNING),
        (HealthChanged("degraded", "unhealthy", ()), ERROR),
        (HealthChanged("degraded", "healthy", ()), INFO),
    ],
)
def test_level(fact: Fact | ServiceFact, level: int) -> None:
    assert level_of(fact) == level


@pytest.mark.parametrize("name", ["level", "timestamp", "event", "self", "method_name"])
def test_an_authors_field_may_have_any_name(name: str) -> None:
    (line,) = lines_of(AttemptLogged("w", "r:1", "a", 1, "info", "stock is low", {name: 3}))
    written = json.loads(line)
    assert (written[f"{name}_"], written["level"], written["event"]) == (3, "info", "stock is low")


@pytest.mark.parametrize("kind", [*facts.Fact.__args__, *service_facts.ServiceFact.__args__])
def test_every_kind_of_fact_has_a_line(kind: type[Any]) -> None:
    blank: dict[str, Any] = {"failure": FAILURE, "fields": {}, "numbers": {}, "reasons": (), "files": (), "stack": ""}
    fact = kind(**{name: blank.get(name, 0) for name in kind.__slots__})
    words, fields = line_of(fact)
    assert isinstance(words, str | int)
    assert "failure" not in fields
    assert level_of(fact) in (DEBUG, INFO, WARNING, ERROR)


def test_a_failed_attempt_in_full() -> None:
    (line,) = lines_of(attempt("retry"))
    found = json.loads(line)
    assert list(found)[:3] == ["timestamp", "level", "event"]
    del found["timestamp"]
    assert found == {
        "level": "warning",
        "event": "attempt failed",
        "worker": "w-1",
        "run": "r:1",
        "action": "charge",
        "step": 3,
        "attempt": 2,
        "took_ms": 12.3,
        "error": "ValueError: no",
        "kind": "recoverable",
        "decision": "retry",
        "retry_in_ms": 4_000,
        "rule": "rule 7",
    }


def test_nothing_below_the_level_is_written() -> None:
    assert not lines_of(attempt("retry"), LOG_LEVEL="error")
    assert not lines_of(EventProcessed("w", "r:1", "e", "t", "s", 1.0, "succeeded"))
    assert len(lines_of(EventProcessed("w", "r:1", "e", "t", "s", 1.0, "succeeded"), LOG_LEVEL="debug")) == 1


def test_metrics_are_fields_of_the_line() -> None:
    assert json.loads(lines_of(MetricsReported({"events_processed": 3, "p99_ms": 1.5}))[0])["events_processed"] == 3


@pytest.mark.parametrize("console", [False, True])
def test_no_secret_and_no_terminal_command_in_any_line(console: bool) -> None:
    url, token = "redis://u:hun%40ter2@h:1/0", "s3cr3t-t0ken"
    text = f"cannot reach {url} (hun@ter2) with {token}\x1b[31m\nsecond line"
    written = lines_of(
        StoreLost("w", text, 1),
        AttemptLogged("w", "r:1", "a", 1, "error", text, {"nested": {"a": [text, object()]}, "event": 1}),
        console=console,
        REDIS_URL=url,
        API_TOKEN=token,
    )
    assert len(written) == 2
    for line in written:
        assert "***" in line
        for secret in ("hun%40ter2", "hun@ter2", token, "\x1b[31m"):
            assert secret not in line
        assert line.count("\n") == 1


def test_loggers_of_the_standard_library_end_in_the_same_log(capfd: pytest.CaptureFixture[str]) -> None:
    from workflow_worker.service.logs import configure_logs

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    lines: list[bytes] = []
    try:
        configure_logs(Settings.from_mapping({"LOG_FORMAT": "json"}), worker="w-1", write=lines.append)
        configure_logs(Settings.from_mapping({"LOG_FORMAT": "json"}), worker="w-2", write=lines.append)
        logging.getLogger("shop").info("order %s", "o-1")
        logging.getLogger("shop").debug("not at info")
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("shop").exception("failed")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = (json.loads(line) for line in lines)
    assert (first["event"], first["logger"], first["worker"], first["level"]) == ("order o-1", "shop", "w-2", "info")
    assert second["exception"].endswith("ValueError: no")
    assert capfd.readouterr().err == ""
