"""`Effects`: the world outside, on which actions work; a resource that refuses old fencing tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.real_worker.loop import Host, current_host
from workflow_worker.app.attempt import action


class Busy(Exception):
    """Transient."""


class Slow(Exception):
    """Recoverable."""


class Declined(Exception):
    """Permanent: a person is needed."""


class Refused(Exception):
    """Permanent: raised at the ``await``."""


class Fenced(Exception):
    """Somebody newer works on this run."""


FAILURES: dict[str, type[Exception]] = {"t": Busy, "r": Slow, "p": Declined, "f": Refused}


@dataclass(frozen=True)
class Effect:
    """One accepted call."""

    serial: int
    key: str
    run: str
    step: int
    token: int
    name: str
    at: float


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


class Effects:
    """What actions did, in order. `refused` names the processes that came with an old token."""

    def __init__(self) -> None:
        self.done: list[Effect] = []
        self.refused: list[tuple[Host, str, int]] = []
        self.calls: Counter[str] = Counter()
        self.late: list[tuple[str, int, bool]] = []
        """What bodies tried that had been given up: run, token, and whether it was accepted."""
        self.overlaps: list[Effect] = []
        """Attempts that began with the token of a body that had been given up and ran on."""
        self.watch: Callable[[], None] = lambda: None
        """Called before each effect, in its attempt's context."""
        self._tokens: dict[str, int] = {}

    def act(self) -> int:
        """Do something; returns the serial number of the effect.

        Raises:
            Fenced: A call with a newer token was here already.
        """
        run, token = action.run, action.fencing_token
        if token < self._tokens.get(run, 0):
            self.refused.append((current_host(), action.idempotency_key, token))
            raise Fenced(f"{token} after {self._tokens[run]}")
        self._tokens[run] = token
        self.watch()
        effect = Effect(len(self.done) + 1, action.idempotency_key, run, action.step, token, action.name, now())
        self.done.append(effect)
        return effect.serial

    def finish(self) -> None:
        """Confirm what `act` began.

        Raises:
            Fenced: A call with a newer token was here meanwhile.
        """
        run, token = action.run, action.fencing_token
        if token < self._tokens[run]:
            self.refused.append((current_host(), action.idempotency_key, token))
            raise Fenced(f"{token} before {self._tokens[run]}")

    def finish_late(self, given_up_at: float) -> None:
        """What a body does that was given up long ago: refused, if anybody has begun since."""
        run, token = action.run, action.fencing_token
        self.late.append((run, token, token >= self._tokens[run]))
        self.overlaps += [
            each for each in self.done if (each.run, each.token) == (run, token) and each.at > given_up_at
        ]

    def next_plan(self, plan: str) -> str:
        """How this call of the step goes: the letter of its plan, or "." when the plan is over."""
        key = action.idempotency_key
        self.calls[key] += 1
        return plan[self.calls[key] - 1 : self.calls[key]] or "."
