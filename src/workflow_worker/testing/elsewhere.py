"""Replay in another process: what depends on addresses or on the seed of text hashes only shows there.

One such process serves all environments of a test run. It imports the author's app by its module, so an app that a test
makes inside a function cannot be replayed there.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from workflow_worker.app.registry import App
from workflow_worker.model.command import Command
from workflow_worker.runtime import ordering
from workflow_worker.service.loader import load_app
from workflow_worker.testing.histories import from_lines, to_lines
from workflow_worker.testing.replaying import RecordedRun, ReplayFailed, replay


class _Question(msgspec.Struct, frozen=True):
    """The app's name, and one history."""

    app: str
    history: str


class _Answer(msgspec.Struct, frozen=True):
    """What the run asks for behind its history; or why it does not replay."""

    commands: tuple[str, ...] = ()
    problem: str = ""
    loaded: bool = True


class Elsewhere:
    """A process with another hash seed, started at the first question and ended with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def compare(self, app: App, name: str, run: RecordedRun) -> None:
        """Replay there and here; nothing is compared where the other process cannot import the app.

        Raises:
            ReplayFailed: It does not replay there, or asks for something else.
        """
        here = _told(replay(app, run))
        answer = self._ask(_Question(name, to_lines(run)))
        if not answer.loaded:
            return  # a module by a name that only pytest knows (--import-mode=importlib)
        if answer.problem:
            raise ReplayFailed(f"in a process with another hash seed, {answer.problem}")
        if answer.commands != here:
            raise ReplayFailed(
                f"run {run.ref} asks for other things in a process with another hash seed: here {here}, there"
                f" {answer.commands}. Does the workflow iterate over a set, or use hash() or id()?"
            )

    def _ask(self, question: _Question) -> _Answer:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = _start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(question) + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            return _Answer(problem=f"the interpreter ended with code {process.wait()}")
        return msgspec.json.decode(line, type=_Answer)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(5)
            assert process.stdout is not None
            process.stdout.close()


ELSEWHERE = Elsewhere()
atexit.register(ELSEWHERE.close)


def importable_name(app: App) -> str | None:
    """``module:attribute`` of an app that some imported module has; None if none has."""
    for name, module in list(sys.modules.items()):
        if name == "__main__":
            continue
        for attribute, value in list(vars(module).items()):
            if value is app:
                return f"{name}:{attribute}"
    return None


def _start() -> subprocess.Popen[bytes]:
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


def _told(commands: Sequence[Command]) -> tuple[str, ...]:
    return tuple(map(repr, commands))


def _load(name: str) -> App | None:
    try:
        return load_app(name, None).app
    except Exception as error:  # noqa: BLE001 - whatever the author's module raises there
        sys.stderr.write(f"{name} cannot be replayed in another process: {error}\n")
        return None


def serve() -> None:
    """The other process: a question a line, an answer a line."""
    ordering.install()
    apps: dict[str, App | None] = {}
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the author's modules print is no answer
    for line in sys.stdin.buffer:
        question = msgspec.json.decode(line, type=_Question)
        try:
            if question.app not in apps:
                apps[question.app] = _load(question.app)
            app = apps[question.app]
            if app is None:
                answer = _Answer(loaded=False)
            else:
                answer = _Answer(_told(replay(app, from_lines(question.history, "the history"))))
        except Exception as error:  # noqa: BLE001 - whatever the author's code raises there is the answer
            answer = _Answer(problem=f"{type(error).__name__}: {error}")
        out.write(msgspec.json.encode(answer) + b"\n")
        out.flush()
