"""`Rule`: what an author knows of an error, and `classify`: rules first, then the built-in catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from workflow_worker.errors import catalogue
from workflow_worker.errors.asking import ask
from workflow_worker.errors.recover import Recover
from workflow_worker.errors.verdict import PARK, Outcome, Verdict
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.instants import to_ms

_MOST_CAUSES = 10
_MOST_NESTING = 5
_GRAVITY = {ErrorKind.TRANSIENT: 0, ErrorKind.RECOVERABLE: 1, ErrorKind.PERMANENT: 2}
_ABSENT = object()

RetryAfter = float | timedelta | Callable[[Any], float | timedelta | None]
"""Seconds, a `timedelta`, or a function from the error to either or None."""


@dataclass(frozen=True, slots=True, init=False)
class Rule:
    """Errors of these classes, and what they mean.

    Args:
        errors: Classes, or qualified names (``"stripe.CardError"``) of classes that need not be importable here;
            subclasses count.
        where: Looks at the error; the rule holds only where it returns true. One that raises holds not.
        attributes: ``Rule(HTTPStatusError, status_code=409)``: the error's attribute must have this value, or one of
            these where a tuple, list, set or range is given.

    Raises:
        UsageError: What is given is neither an exception class nor a name.
    """

    errors: tuple[type[BaseException] | str, ...]
    where: Callable[[Any], bool] | None
    attributes: tuple[tuple[str, object], ...]
    kind: ErrorKind | None
    retry_after: RetryAfter | None
    outcome: Outcome
    recover: Recover | None

    def __init__(
        self, *errors: type[BaseException] | str, where: Callable[[Any], bool] | None = None, **attributes: object
    ) -> None:
        for found in cast("tuple[object, ...]", errors):
            if not isinstance(found, str) and not (isinstance(found, type) and issubclass(found, BaseException)):
                raise UsageError(f"a Rule is about exception classes or their qualified names, not {found!r}")
        if not errors and where is None and not attributes:
            raise UsageError("a Rule without any class would match everything: write Rule(Exception)")
        values = {
            "errors": errors or (Exception,),
            "where": where,
            "attributes": tuple(attributes.items()),
            "kind": None,
            "retry_after": None,
            "outcome": PARK,
            "recover": None,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def transient(self) -> Rule:
        """It is over in a moment: try again at once, twice, then as `recoverable`."""
        return self._with(ErrorKind.TRANSIENT, None, PARK)

    def recoverable(self, how: Recover | RetryAfter | None = None, *, retry_after: RetryAfter | None = None) -> Rule:
        """Time helps, or something that can be done about it: try again with growing waits.

        Args:
            how: What is to be done before the next attempt, see `Recover`; or `retry_after`.
            retry_after: The next attempt, and the recovery before it, do not come earlier.

        Raises:
            UsageError: It is neither a `Recover` nor a span, or there are two spans.
        """
        if not isinstance(how, Recover):
            if how is not None and retry_after is not None:
                raise UsageError(f"two waits for one rule: {how!r} and {retry_after!r}")
            how, retry_after = None, retry_after if how is None else how
        if retry_after is not None and not callable(retry_after):
            to_ms(retry_after)
        return self._with(ErrorKind.RECOVERABLE, retry_after, PARK, how)

    def permanent(self, outcome: Outcome = PARK) -> Rule:
        """Trying again cannot help: park the run for a person, or `Fail` to raise it in the workflow."""
        return self._with(ErrorKind.PERMANENT, None, outcome)

    def matches(self, error: BaseException) -> bool:
        """Whether the rule is about this error (not: about one of its causes)."""
        if not any(_is_a(error, each) for each in self.errors):
            return False
        if not all(_has(error, name, value) for name, value in self.attributes):
            return False
        return self.where is None or bool(ask(self.where, error))

    def verdict(self, error: BaseException) -> Verdict:
        """What the rule says of an error that it matches."""
        recovery = None if self.recover is None else self.recover.recovery
        return Verdict(self.kind or ErrorKind.RECOVERABLE, str(self), self._wanted_ms(error), self.outcome, recovery)

    def __str__(self) -> str:
        names = [each if isinstance(each, str) else each.__qualname__ for each in self.errors]
        shown = [f"{name}={value!r}" for name, value in self.attributes]
        if self.where is not None:
            shown.append(f"where={getattr(self.where, '__name__', '…')}")
        return f"Rule({', '.join(names + shown)})"

    def _with(
        self, kind: ErrorKind, retry_after: RetryAfter | None, outcome: Outcome, recover: Recover | None = None
    ) -> Rule:
        rule = object.__new__(Rule)
        for name in ("errors", "where", "attributes"):
            object.__setattr__(rule, name, getattr(self, name))
        object.__setattr__(rule, "kind", kind)
        object.__setattr__(rule, "retry_after", retry_after)
        object.__setattr__(rule, "outcome", outcome)
        object.__setattr__(rule, "recover", recover)
        return rule

    def _wanted_ms(self, error: BaseException) -> int | None:
        wanted = self.retry_after
        if callable(wanted):
            wanted = ask(wanted, error)
        return None if wanted is None else ask(to_ms, wanted)


def classify(error: BaseException, rules: Sequence[Rule] = (), *, now_ms: int = 0) -> Verdict:
    """What an error is: by the first rule that fits it or one of its causes, else by the catalogue; else recoverable.

    The error itself goes before its causes. Only explicit causes count (``raise … from …``): what was merely being
    handled when the error arose says nothing about it. Of a group the gravest member decides, and the longest wait.

    Args:
        error: What was raised.
        rules: The action's, then the app's.
        now_ms: Milliseconds since 1970, for a Retry-After that is a date.
    """
    return _classify(error, rules, now_ms, 0)


def _classify(error: BaseException, rules: Sequence[Rule], now_ms: int, depth: int) -> Verdict:
    chain = tuple(_chain(error))
    for each in chain:
        for rule in rules:
            if rule.matches(each):
                return rule.verdict(each)
    for each in chain:
        members = _members(each)
        if members and depth < _MOST_NESTING:
            return _gravest([_classify(member, rules, now_ms, depth + 1) for member in members])
        found = catalogue.look_up(each, now_ms, as_cause=each is not error)
        if found is not None:
            name, judgement = found
            return Verdict(judgement.kind, name, judgement.retry_after_ms)
    return Verdict(ErrorKind.RECOVERABLE, "default")


def _members(error: BaseException) -> tuple[BaseException, ...]:
    return cast("BaseExceptionGroup[BaseException]", error).exceptions if isinstance(error, BaseExceptionGroup) else ()


def _gravest(verdicts: Sequence[Verdict]) -> Verdict:
    gravest = max(verdicts, key=lambda verdict: _GRAVITY[verdict.kind])
    waits = [verdict.retry_after_ms for verdict in verdicts if verdict.retry_after_ms is not None]
    return replace(gravest, retry_after_ms=max(waits, default=None))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen and len(seen) < _MOST_CAUSES:
        seen.add(id(found))
        yield found
        found = found.__cause__


def _is_a(error: BaseException, wanted: type[BaseException] | str) -> bool:
    if isinstance(wanted, str):
        return any(f"{each.__module__}.{each.__qualname__}" == wanted for each in type(error).__mro__)
    return isinstance(error, wanted)


def _has(error: BaseException, name: str, value: object) -> bool:
    def compare() -> bool:
        found: object = getattr(error, name, _ABSENT)
        if isinstance(value, tuple | list | set | frozenset | range):
            return found in value
        return bool(found == value)

    return bool(ask(compare))
