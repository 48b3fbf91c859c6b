"""The command as a person runs it: a process of its own, in a folder, with an embedded server or none."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from workflow_worker.model.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OUR_VARIABLES = {variable_of(each.name).name for each in fields(Settings)}


def wait_for(fact: Callable[[], bool], what: str, within_s: float = 15) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Answer:
    """What a command wrote and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)


@dataclass
class Place:
    """A working folder with the environment in which commands run there."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def variables(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command: none of our variables but those of this place."""
        inherited = {name: value for name, value in os.environ.items() if name not in OUR_VARIABLES}
        return inherited | {"NO_COLOR": "1"} | self.environment | dict(extra or {})

    def run(self, *arguments: str, stdin: bytes | None = None, **environment: str) -> Answer:
        """Run ``workflow-worker ARGUMENTS`` and wait for its end."""
        done = subprocess.run(
            [sys.executable, "-m", "workflow_worker", *arguments],
            cwd=self.folder,
            env=self.variables(environment),
            input=stdin,
            capture_output=True,
            timeout=50,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ask(self, *arguments: str, **environment: str) -> Any:
        """Run a command with ``--json`` that must succeed; its document."""
        answer = self.run(*arguments, "--json", stdin=None, **environment)
        assert answer.code == 0, f"{arguments}: exit {answer.code}\n{answer.out}\n{answer.err}"
        return answer.document

    def start(self, *arguments: str, **environment: str) -> Running:
        """Run a command that stays, such as ``start APP``, on a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.environment["PORT"] = str(probe.getsockname()[1])
        return Running(self, arguments, self.variables(environment))


class Running:
    """A command that stays until it is told to end."""

    def __init__(self, place: Place, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.place = place
        self.log = place.folder / f"{arguments[0]}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workflow_worker", *arguments],
                cwd=place.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self.healthy()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def healthy(self, within_s: float = 30) -> Self:
        """Wait until the service calls itself healthy."""
        self.until(self._is_healthy, within_s, "healthy")
        return self

    def _is_healthy(self) -> bool:
        """Asked over HTTP: a command for each look would take the processor from the service that starts."""
        try:
            with urlopen(f"http://127.0.0.1:{self.place.environment['PORT']}/api/health/worker", timeout=5) as answer:
                return json.loads(answer.read())["status"] != "unhealthy"
        except OSError:  # nobody answers yet, or 503
            return False

    def until(self, fact: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait for a fact; the command must not end meanwhile."""
        deadline = time.monotonic() + within_s
        while not fact():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}\n{self.log.read_text()[-2000:]}"
            time.sleep(0.05)

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
