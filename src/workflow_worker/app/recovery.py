"""What a policy recovers with: found by its name, checked when it is declared, called with the arguments it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from workflow_worker.app.actions import Action, ActionDefinition, define_action
from workflow_worker.errors.recover import Recover
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.model.exceptions import UsageError


def recovery_in(policies: Iterable[RetryPolicy | None], name: str, timeout_s: float) -> ActionDefinition | None:
    """The recovery of that name that a rule of these policies asks for; None if none does.

    Args:
        policies: Those that judge the action's errors.
        name: As `Recover.name` has it.
        timeout_s: Time limit of a plain function.
    """
    for recover in _recovers(policies):
        if recover.name == name:
            step = recover.step
            if isinstance(step, Action):  # of another app
                return step.definition
            return define_action(step, name=step.__name__, retry=None, timeout=timeout_s, names=dict)
    return None


def call_recovery(
    recovery: ActionDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any], failed: ActionDefinition
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the recovery is called with, from the arguments of the failed call.

    Raises:
        UsageError: It needs something that the call does not have.
    """
    given = inspect.signature(failed.fn).bind(*args, **kwargs)
    given.apply_defaults()
    parameters = inspect.signature(recovery.fn).parameters.values()
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_ONLY]
    named = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    have = given.arguments
    try:
        found = tuple(have[name] for name in positional), {name: have[name] for name in named if name in have}
        inspect.signature(recovery.fn).bind(*found[0], **found[1])
    except (KeyError, TypeError) as error:
        raise UsageError(f"recovery {recovery.name!r} ({recovery.place}) of {failed.name!r}: {error}") from error
    return found


def check_recoveries(policy: RetryPolicy | None, failed: ActionDefinition) -> None:
    """A recovery that cannot be called would fail when it is needed.

    Raises:
        UsageError: It needs an argument that the action does not have.
    """
    given = set(inspect.signature(failed.fn).parameters)
    for recover, needed in _needed(policy):
        missing = [name for name in needed if name not in given]
        if missing:
            raise UsageError(
                f"recovery {recover.name} needs {missing[0]!r}, which action {failed.name!r} ({failed.place}) does not"
                " have: it is called with arguments of the failed call, by name"
            )


def check_general_recoveries(policy: RetryPolicy | None) -> None:
    """Of a whole app's policy: its actions have no argument in common.

    Raises:
        UsageError: A recovery needs an argument.
    """
    for recover, needed in _needed(policy):
        if needed:
            raise UsageError(
                f"recovery {recover.name} needs {needed[0]!r}: in an app's policy a recovery takes nothing, or gives"
                " its parameters defaults"
            )


def _needed(policy: RetryPolicy | None) -> Iterator[tuple[Recover, list[str]]]:
    for recover in _recovers((policy,)):
        yield (
            recover,
            [
                each.name
                for each in inspect.signature(_function(recover.step)).parameters.values()
                if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
            ],
        )


def _function(step: Callable[..., Any]) -> Callable[..., Any]:
    return step.fn if isinstance(step, Action) else step


def _recovers(policies: Iterable[RetryPolicy | None]) -> Iterator[Recover]:
    for policy in policies:
        for rule in policy.rules if policy is not None else ():
            if rule.recover is not None:
                yield rule.recover
