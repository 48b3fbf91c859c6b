"""What a newcomer reads first: whole sentences in every list of commands, and words for every count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from workflow_worker.cli.audit import MEANING
from workflow_worker.cli.main import run_command
from workflow_worker.cli.output import counted
from workflow_worker.store.transitions import Audit


@dataclass(frozen=True)
class Told:
    """What a command wrote to stdout, and its exit code."""

    code: int
    out: str


Tell = Callable[..., Told]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tell:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Told:
        code = run_command(arguments)
        return Told(code, capsys.readouterr().out)

    return run


@pytest.mark.parametrize("group", ["", "runs", "dead", "schedules"])
def test_no_summary_of_a_command_is_cut(tell: Tell, group: str) -> None:
    told = tell(*group.split(), "--help")
    commands = told.out.partition("Commands:")[2].strip().splitlines()
    assert told.code == 0
    assert len(commands) >= 4
    assert all(line.endswith(".") and not line.endswith("...") for line in commands), told.out


def test_every_count_of_an_audit_is_explained() -> None:
    counts = {field.name for field in msgspec.structs.fields(Audit)} - {"balanced", "problems"}
    assert MEANING.keys() == counts


def test_an_app_without_workflows_is_told_so(tell: Tell, tmp_path: Path) -> None:
    (tmp_path / "begun.py").write_text('from workflow_worker import App\n\napp = App("begun")\n')
    told = tell("check", "begun.py")
    assert told.code == 0
    assert "begun declares no workflow" in told.out


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 workers"), (1, "1 worker"), (2, "2 workers"), (2_000, "2,000 workers")]
)
def test_counted(number: int, text: str) -> None:
    assert counted(number, "worker") == text
