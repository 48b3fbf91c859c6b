"""The page about tests: its app and its tests, run as an author would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.docs.programs import python_blocks

PAGE = ROOT / "docs" / "how-to" / "testing.md"


def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    programs = {block.file: block.code for block in python_blocks(PAGE) if block.is_program}
    assert set(programs) == {"shop.py", "test_shop.py"}
    for name, code in programs.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "2 passed" in answer.stdout
