"""Workflows of the simulated app: one interpreter of random programs, which come in the start event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.real_worker.effects import FAILURES, Busy, Declined, Effects, Fenced, Refused, Slow, now
from workflow_worker import App, Fail, RetryPolicy, Rule, wf
from workflow_worker.app.actions import Action

SUBJECTS = 6
ACTION_TIMEOUT_S = 0.6
GIVEN_UP_AFTER_S = 5.0
"""How long a body may take to end by its cancellation: the worker's own span."""
OUTLIVES_S = 9.0
LONG_MS = 2_200
"""An action that outlasts a lease of which its worker hears nothing."""


@dataclass(frozen=True)
class Step:
    """One instruction. `parts` are the programs that it contains."""

    do: str
    ms: int = 0
    plan: str = ""
    subject: str | None = None
    parts: list[list[Step]] = field(default_factory=list["list[Step]"])


@dataclass(frozen=True)
class JobStarted:
    """Starts a run of ``job``."""

    name: str
    steps: list[Step]


@dataclass(frozen=True)
class Ping:
    """Mail of one kind."""

    name: str
    number: int = 0


@dataclass(frozen=True)
class Pong:
    """Mail of another kind."""

    name: str
    number: int = 0


POLICY = RetryPolicy(
    Rule(Busy).transient(),
    Rule(Slow).recoverable(),
    Rule(Declined).permanent(),
    Rule(Fenced).permanent(),
    Rule(Refused).permanent(Fail()),
    initial=0.05,
    factor=3,
    attempts=6,
)


def make_app(effects: Effects) -> App:
    """The app that every simulated worker executes."""
    app = App("simulated")
    app.event("job.started", subject="name")(JobStarted)
    app.event("ping", subject="name")(Ping)
    app.event("pong", subject="name")(Pong)
    interpreter = Interpreter(make_work(app, effects), make_grind(app, effects))

    @app.workflow(on=JobStarted, id="{name}", on_existing="restart")
    async def job(start: JobStarted) -> str:
        try:
            await interpreter.all_of(start.steps)
        except Refused as error:
            raise wf.Failed("refused") from error
        except BaseExceptionGroup as errors:
            if errors.split(Refused)[1] is None:
                raise wf.Failed("refused") from errors
            raise
        return start.name

    assert job.name == "job"
    return app


def make_work(app: App, effects: Effects) -> Action[[int, str], int]:
    """An action that takes a while and fails as planned; "h" hangs, "s" swallows its cancellation, "z" does both and
    works on long after it was given up."""

    @app.action(retry=POLICY, timeout=ACTION_TIMEOUT_S)
    async def work(ms: int, plan: str) -> int:
        how = effects.next_plan(plan)
        serial = effects.act()
        if how == "h":
            await asyncio.sleep(3_600)
        if how == "z":
            await outlive(effects)
            return serial
        try:
            await asyncio.sleep(ms / 1000)
        except asyncio.CancelledError:
            if how != "s":
                raise
            await asyncio.sleep(0.3)
        if how in FAILURES:
            raise FAILURES[how](how)
        if how != "s":
            effects.finish()
        return serial

    return work


async def outlive(effects: Effects) -> None:
    """Go on whatever happens, and then do something."""
    began = cancelled = now()
    while now() < began + OUTLIVES_S:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            cancelled = cancelled if cancelled > began else now()
    if cancelled > began:
        effects.finish_late(cancelled + GIVEN_UP_AFTER_S)


def make_grind(app: App, effects: Effects) -> Action[[int, str], int]:
    """A sync action."""

    @app.action(retry=POLICY, timeout=ACTION_TIMEOUT_S)
    def grind(ms: int, plan: str) -> int:
        del ms
        how = effects.next_plan(plan)
        serial = effects.act()
        if how in FAILURES:
            raise FAILURES[how](how)
        return serial

    return grind


class Interpreter:
    """Runs programs inside a workflow."""

    def __init__(self, work: Action[[int, str], int], grind: Action[[int, str], int]) -> None:
        self._work = work
        self._grind = grind

    async def all_of(self, steps: Sequence[Step]) -> None:
        """One step after the other."""
        for step in steps:
            await self._one(step)

    async def _one(self, step: Step) -> None:
        match step.do:
            case "work":
                await (self._work if step.ms < LONG_MS else self._work.using(timeout=5))(step.ms, step.plan)
            case "grind":
                await self._grind(step.ms, step.plan)
            case "sleep":
                await asyncio.sleep(step.ms / 1000)
            case "ping" | "pong" | "either":
                kinds = {"ping": (Ping,), "pong": (Pong,), "either": (Ping, Pong)}[step.do]
                await wf.wait_for(kinds, subject=step.subject, timeout=step.ms / 1000, default=None)
            case "state":
                wf.state(at=step.ms)
            case "bug":
                raise RuntimeError("a bug")
            case "fail":
                raise wf.Failed("as planned")
            case "loop":
                for _ in range(2 + step.ms % 3):
                    await self.all_of(step.parts[0])
            case _:
                await self._structured(step, [self.all_of(part) for part in step.parts[: _USED[step.do]]])

    async def _structured(self, step: Step, coroutines: list[Coroutine[Any, Any, None]]) -> None:
        match step.do:
            case "gather":
                await asyncio.gather(*coroutines)
            case "group":
                async with asyncio.TaskGroup() as group:
                    for coroutine in coroutines:
                        group.create_task(coroutine)
            case "race":
                await _race(coroutines)
            case "timeout":
                await self._limited(coroutines[0], step.ms)
            case "catch":
                await self._caught(coroutines[0], step)
            case _:
                await asyncio.shield(coroutines[0])

    async def _limited(self, coroutine: Coroutine[Any, Any, None], ms: int) -> None:
        try:
            async with asyncio.timeout(ms / 1000):
                await coroutine
        except TimeoutError:
            await self._work(1, "")

    async def _caught(self, coroutine: Coroutine[Any, Any, None], step: Step) -> None:
        try:
            await coroutine
        except asyncio.CancelledError:
            await self.all_of(step.parts[1])
            if step.ms % 2:
                raise
        except Refused:
            await self.all_of(step.parts[1])


async def _race(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


_USED = {"gather": 3, "group": 2, "race": 2, "timeout": 1, "catch": 1, "shield": 1, "loop": 1}
_LEAVES = ("work", "work", "work", "grind", "sleep", "sleep", "ping", "pong", "either", "state")


class Author:
    """Writes random programs."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def program(self) -> list[Step]:
        """A whole workflow."""
        steps = self._steps(0)
        if self._chance.random() < 0.06:
            steps.append(Step(self._chance.choice(["bug", "fail"])))
        return steps

    def _steps(self, depth: int) -> list[Step]:
        return [self._step(depth) for _ in range(self._chance.choice([1, 1, 2, 2, 3]))]

    def _step(self, depth: int) -> Step:
        pick = self._chance.choice
        if depth < 2 and self._chance.random() < 0.35:
            do = pick(list(_USED))
            parts = [self._steps(depth + 1) for _ in range(max(2, _USED[do]))]
            return Step(do, pick([1, 40, 200, 900]), parts=parts)
        do = pick(_LEAVES)
        if do in ("work", "grind"):
            return Step(do, pick([0, 1, 5, 30, 200, 500, LONG_MS]), plan=self._plan(do))
        subject = None
        if do in ("ping", "pong", "either") and self._chance.random() < 0.5:
            subject = f"s{self._chance.randrange(SUBJECTS)}"
        return Step(do, pick([1, 20, 60, 150, 700, 1_500]), subject=subject)

    def _plan(self, do: str) -> str:
        if self._chance.random() < 0.6:
            return ""
        letters = "trtrtrpf." + ("hsz" if do == "work" else "")
        return "".join(self._chance.choice(letters) for _ in range(self._chance.choice([1, 1, 2, 3])))
