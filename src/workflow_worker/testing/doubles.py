"""Doubles of actions: fakes that answer instead of the author's function, and the log of all calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workflow_worker.app.actions import Action, ActionDefinition
from workflow_worker.app.attempt import action as current_attempt
from workflow_worker.model.exceptions import UsageError
from workflow_worker.worker.attempt import as_raisable, outcome_of

NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt of an action: `attempt` counts from 1, `run` is the run's full name."""

    run: str
    action: str
    attempt: int
    arguments: dict[str, Any]
    """By the names of the function's parameters."""
    key: str
    """The attempt's idempotency key."""


@dataclass(slots=True)
class Script:
    """What a fake does, call by call: first the errors, then a result."""

    errors: list[BaseException] = field(default_factory=list[BaseException])
    value: Any = None
    answer: Callable[..., Any] | None = None
    hangs: bool = False


class Spy:
    """The calls of some actions, in order, seen from the moment it was made."""

    def __init__(self, log: list[Call], names: Iterable[str]) -> None:
        self._log = log
        self._names = frozenset(names)
        self._since = len(log)

    @property
    def calls(self) -> list[Call]:
        """One for each attempt."""
        return [call for call in self._log[self._since :] if call.action in self._names]

    def names(self) -> list[str]:
        """The actions' names, one for each attempt."""
        return [call.action for call in self.calls]


class Doubles:
    """Stands between the worker and the author's functions: logs every call, and answers for those that are faked."""

    def __init__(self, *, strict: bool) -> None:
        self.log: list[Call] = []
        self.hanging: set[asyncio.Task[Any]] = set()
        """Attempts that were told to hang: nobody waits for them."""
        self._scripts: dict[str, Script] = {}
        self._strict = strict

    def fake(self, name: str, script: Script) -> None:
        """Answer for this action from now on."""
        self._scripts[name] = script

    def restart(self) -> None:
        """Forget the calls; used before a scenario is played again. Errors that were used up stay used up."""
        self.log.clear()
        self.hanging.clear()

    def scripts(self) -> dict[str, Script]:
        """A copy of all scripts, to begin again with."""
        return {name: replace(script, errors=list(script.errors)) for name, script in self._scripts.items()}

    def restore(self, scripts: dict[str, Script]) -> None:
        """Begin again with scripts that `scripts` gave."""
        self._scripts = {name: replace(script, errors=list(script.errors)) for name, script in scripts.items()}

    def of(self, definition: ActionDefinition) -> ActionDefinition:
        """The same action, seen by us. Arguments and results go through the same encoding as in production."""

        signature = inspect.signature(definition.fn)

        @functools.wraps(definition.fn)
        async def stand_in(*args: Any, **kwargs: Any) -> Any:
            return await self._perform(definition, signature.bind(*args, **kwargs))

        return replace(
            definition, fn=stand_in, is_async=True, names=lambda: {**_closure(definition.fn), **definition.names()}
        )

    async def _perform(self, definition: ActionDefinition, bound: inspect.BoundArguments) -> Any:
        args, kwargs = bound.args, bound.kwargs
        self.log.append(
            Call(
                current_attempt.run,
                definition.name,
                current_attempt.attempt,
                dict(bound.arguments),
                current_attempt.idempotency_key,
            )
        )
        script = self._scripts.get(definition.name)
        if script is None:
            if self._strict:
                raise UsageError(
                    f"action {definition.name!r} is not faked, and this TestEnv is strict: call env.fake for it"
                )
            if definition.is_async:
                return await definition.fn(*args, **kwargs)
            value, error = await asyncio.to_thread(outcome_of, functools.partial(definition.fn, *args, **kwargs))
            if error is not None:
                raise as_raisable(error)
            return value
        if script.errors:
            raise script.errors.pop(0)
        if script.hangs:
            await self._hang()
        if script.answer is not None:
            found = script.answer(*args, **kwargs)
            return await found if inspect.isawaitable(found) else found
        return script.value

    async def _hang(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.hanging.add(task)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.hanging.discard(task)


def _closure(fn: Callable[..., Any]) -> dict[str, Any]:
    """What the function sees of the functions around it: its annotations may name a class of a test."""
    return dict(inspect.getclosurevars(inspect.unwrap(fn)).nonlocals)


def name_of(action: Action[..., Any] | str) -> str:
    """An action's name, of the action or of its name."""
    return action if isinstance(action, str) else action.name


def script_of(
    returns: Any,
    raises: BaseException | type[BaseException] | Sequence[BaseException | type[BaseException]] | None,
    then_returns: Any,
    answer: Callable[..., Any] | None,
    hangs: bool,
) -> Script:
    """From the arguments of `TestEnv.fake`.

    Raises:
        UsageError: They contradict one another.
    """
    given = [name for name, there in (("answer", answer is not None), ("returns", returns is not NOTHING)) if there]
    if len(given) > 1 or (returns is not NOTHING and then_returns is not NOTHING):
        raise UsageError("a fake has one result: returns=…, then_returns=… behind raises=…, or answer=…")
    errors: list[BaseException] = []
    if raises is not None:
        several = [raises] if isinstance(raises, BaseException | type) else list(raises)
        errors = [each() if isinstance(each, type) else each for each in several]
        if not several:
            raise UsageError("raises=[] raises nothing: leave it out")
        single = isinstance(raises, BaseException | type)
        if single and then_returns is NOTHING and returns is NOTHING and answer is None:
            only = errors[0]

            def always(*args: Any, **kwargs: Any) -> Any:
                del args, kwargs
                raise only

            return Script(answer=always)
    value = returns if returns is not NOTHING else then_returns
    return Script(errors, None if value is NOTHING else value, answer, hangs)
