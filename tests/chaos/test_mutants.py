"""The whole chain can fail: a product from which one safeguard was taken is found out by a chaos run of a minute.

The mutated copy of the package lies in a folder of its own and comes first on the path of all processes of the run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import workflow_worker
from tests.guarantees.service import ROOT

_LUA = Path("workflow_worker") / "store" / "redis" / "lua"


@dataclass(frozen=True, slots=True)
class Mutant:
    """In some Lua files, text that stands there once becomes another; a run of chaos must give one of `verdicts`."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    verdicts: frozenset[str]


MUTANTS = (
    Mutant(
        "neither fence nor chain of commits",
        (
            ("commit", "  if not held then\n", "  if not run[1] then\n"),
            ("commit", "if (run[3] or '') ~= ARGV[at + 2] then return tell('conflict', 0) end", ""),
        ),
        frozenset({"doubled", "stale", "torn", "reordered", "stuck", "lost", "unforeseen"}),
    ),
    Mutant(
        "an id is never a duplicate",
        (
            ("ingest", "if #seen > 0 then call('SADD'", "if false then call('SADD'"),
            ("publish", "if #fresh > 0 then call('SADD'", "if false then call('SADD'"),
        ),
        frozenset({"doubled", "reordered", "unforeseen"}),
    ),
    Mutant(
        "the last mail first",
        (("_ingest_write", "write_list('RPUSH', P .. 'mailbox:'", "write_list('LPUSH', P .. 'mailbox:'"),),
        frozenset({"reordered", "lost", "stuck"}),
    ),
    Mutant(
        "retention forgets the history",
        (("_tick_retire", "P .. 'run:' .. refs[i], P .. 'history:' .. refs[i], ", "P .. 'run:' .. refs[i], "),),
        frozenset({"leftover"}),
    ),
)


def mutated(mutant: Mutant, folder: Path) -> Path:
    """A copy of the package without this safeguard; what goes first on PYTHONPATH."""
    package = Path(workflow_worker.__file__).parent
    shutil.copytree(package, folder / "workflow_worker", ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in mutant.edits:
        file = folder / _LUA / f"{name}.lua"
        text = file.read_text()
        assert text.count(old) == 1, f"{mutant.name}: {old!r} stands {text.count(old)} times in {name}.lua"
        file.write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_still_fits_the_scripts(mutant: Mutant, tmp_path: Path) -> None:
    assert (mutated(mutant, tmp_path / "src") / _LUA / "commit.lua").exists()


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_missing_safeguard_is_found_out(mutant: Mutant, tmp_path: Path) -> None:
    source = mutated(mutant, tmp_path / "src")
    folder = tmp_path / "run"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", "--events", "4000", "--faults", "50", "--seed", "5"),
            *("--seconds", "30", "--lease-ms", "1000", "--rest-within-s", "15", "--folder", str(folder)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 1, f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    findings = json.loads((folder / "outcome.json").read_bytes())["findings"]
    assert {finding["verdict"] for finding in findings} & mutant.verdicts, findings[:10]
