"""A copy of the tree in which one mutation lives at a time, and the tests that are run on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutations import Edit, Killer, Mutation

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "pyproject.toml")
KILLER_WITHIN_S = 120.0
"""A killer that takes longer is ended: it has not noticed."""
TEST_WITHIN_S = 60
ENDS_WITHIN_S = 15.0

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_TESTS_FAILED, _NO_TESTS = 1, 5


class Unfit(AssertionError):
    """A mutation does not fit the code any more, or breaks it so that no test can begin."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`test` is the one that failed first, empty when none did."""

    test: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether a test turned red."""
        return bool(self.test)


def mutate(text: str, edit: Edit, name: str) -> str:
    """The text with the edit made.

    Raises:
        Unfit: What is to be replaced does not stand there once.
    """
    count = text.count(edit.old)
    if count != 1:
        raise Unfit(f"mutation {name!r}: {edit.old!r} stands {count} times in {edit.file}")
    return text.replace(edit.old, edit.new)


def mutated(package: Path, mutation: Mutation) -> dict[Path, str]:
    """The files of the package that the mutation changes, with their new text."""
    texts: dict[Path, str] = {}
    for edit in mutation.edits:
        path = package / edit.file
        texts[path] = mutate(texts.get(path) or path.read_text("utf-8"), edit, mutation.name)
    return texts


class Copy:
    """The tree in a folder of its own: what others change meanwhile changes nothing here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)

    @property
    def package(self) -> Path:
        """The product in this copy."""
        return self.folder / "src" / "workflow_worker"

    @contextmanager
    def living(self, mutation: Mutation) -> Generator[None]:
        """The mutation lives in here, and the original again afterwards."""
        texts = mutated(self.package, mutation)
        originals = {path: path.read_text("utf-8") for path in texts}
        try:
            for path, text in texts.items():
                path.write_text(text, "utf-8")
            yield
        finally:
            for path, text in originals.items():
                path.write_text(text, "utf-8")

    def ask(self, killer: Killer) -> Verdict:
        """Run tests on what is in the copy now, until the first one fails.

        Raises:
            Unfit: The tests could not be run.
        """
        began = time.perf_counter()
        options = ("-x", "-q", "-p", "no:randomly", "-n", "0", "-m", "not chaos", "--timeout", str(TEST_WITHIN_S))
        command = [sys.executable, "-m", "pytest", *options, "-r", "fE", "--tb", "line", *killer]
        code, output = _run(command, self.folder)
        took = time.perf_counter() - began
        if code == 0 or code < 0:
            return Verdict("", took)
        failed = _FAILED.search(output)
        if code != _TESTS_FAILED or failed is None:
            raise Unfit(f"{' '.join(killer)}: pytest ended with {code}:\n{output[-2_000:]}")
        return Verdict(failed[1], took)

    def judge(self, mutation: Mutation, killers: tuple[Killer, ...] = ()) -> Verdict:
        """Ask one killer after the other until one notices the mutation; its own, or those that are given.

        Raises:
            Unfit: The test that turned red is red without the mutation, too.
        """
        verdict = self._noticed(mutation, killers or mutation.killers)
        if verdict.killed and self.ask((verdict.test,)).killed:
            raise Unfit(f"{verdict.test} fails on the original, too")
        return verdict

    def _noticed(self, mutation: Mutation, killers: tuple[Killer, ...]) -> Verdict:
        took = 0.0
        with self.living(mutation):
            for killer in killers:
                verdict = self.ask(killer)
                took += verdict.seconds
                if verdict.killed:
                    return Verdict(verdict.test, took)
        return Verdict("", took)


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and output; negative when it had to be ended. Nothing that it started is left behind: pytest stops
    its servers when it is interrupted."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={name: value for name, value in environment.items() if not name.startswith("PYTEST_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        with suppress(subprocess.TimeoutExpired):
            return _finished(process, KILLER_WITHIN_S)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return -1, _finished(process, ENDS_WITHIN_S)[1]
        process.kill()
        return -1, _finished(process, ENDS_WITHIN_S)[1]


def _finished(process: subprocess.Popen[str], within_s: float) -> tuple[int, str]:
    output, _ = process.communicate(timeout=within_s)
    return process.returncode, output
