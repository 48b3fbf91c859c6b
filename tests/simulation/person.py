"""The operator: cancels, resumes, redrives and drops, sometimes twice, sometimes the wrong thing."""

from __future__ import annotations

from tests.simulation.programs import encode
from tests.simulation.server import Server
from workflow_worker.model.run import RunStatus
from workflow_worker.store.memory.machine.state import format_id


class Person:
    """Acts every now and then; in the quiet phase only resumes what is suspended."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kernel = server.kernel
        self.kernel.every(lambda: self.kernel.between(80, 500), self._act)

    def _act(self) -> None:
        runs = self.server.partition.state.runs
        suspended = [ref for ref, run in runs.items() if run.status is RunStatus.SUSPENDED]
        if self.server.quiet:
            for ref in suspended:
                self._call("resume", ref, encode(("resumed",)), "ann")
            return
        choice = self.kernel.random.choice
        match choice(["cancel", "resume", "redrive", "redrive", "drop"]):
            case "cancel" if runs:
                self._call("cancel", choice(list(runs)), "ann", "no longer wanted")
            case "resume" if suspended:
                self._call("resume", choice(suspended), encode(("resumed",)), "ann")
            case "redrive":
                self._dead("redrive")
            case "drop" if self.kernel.chance(0.2):
                self._dead("drop")
            case "drop" if self.kernel.chance(0.3):
                reason = choice(["undeclared", "rejected", "no such run", "unclaimed"])
                before = choice([None, self.server.now() - self.kernel.between(0, 1_000)])
                self._call("drop_letters", reason, choice([None, "ev", "b"]), before, self.kernel.between(1, 5), "ann")
            case _:
                return

    def _dead(self, verb: str) -> None:
        dead = self.server.partition.state.dead
        if dead:
            self._call(verb, format_id(self.kernel.random.choice(list(dead))), "ann")

    def _call(self, verb: str, *arguments: object) -> None:
        self.server.call(verb, arguments)
        if self.kernel.chance(0.1):
            self.kernel.after(self.kernel.between(0, 400), lambda: self.server.call(verb, arguments))
