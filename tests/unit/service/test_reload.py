"""What the author saves is what runs, also twice in one second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from workflow_worker.service.reload import forget_bytecode

SECOND = 1_700_000_000


def save(file: Path, number: int) -> None:
    """Save code of the same size in the same second as all others."""
    file.write_text(f"print({number})\n")
    os.utime(file, (SECOND, SECOND))


def run(file: Path) -> str:
    """What a new process prints that imports the file."""
    command = [sys.executable, "-c", f"import {file.stem}"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=file.parent, env=env, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def test_bytecode_of_a_saved_file_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "fast_saves.py"
    save(file, 1)
    assert run(file) == "1"
    save(file, 2)
    assert run(file) == "1", "why this is needed: Python compares size and second only"
    forget_bytecode([str(file), str(tmp_path / "deleted.py")])
    assert run(file) == "2"
