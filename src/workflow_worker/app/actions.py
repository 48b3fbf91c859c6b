"""Actions: functions with side effects. Called in a workflow they are durable, elsewhere they are what they were."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from workflow_worker.app.arguments import Arguments
from workflow_worker.app.places import place_of
from workflow_worker.app.signatures import classes_around, hints_of
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.model.codec import PackedType, Unreadable, encode_packed
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import check_name
from workflow_worker.model.instants import to_ms
from workflow_worker.runtime.execution import Execution, current_execution
from workflow_worker.runtime.futures import Call
from workflow_worker.runtime.guarded import GuardedCall
from workflow_worker.runtime.saga import current_saga

P = ParamSpec("P")
R = TypeVar("R")
P2 = ParamSpec("P2")
R2 = TypeVar("R2")

_PLAIN_RESULTS = (int, str, float, bool, bytes, type(None))
_KEY = re.compile(r"[^\s\[\]\x00-\x1f]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call changes of its action's policy; None: nothing. It lives in memory only, never in a history."""

    timeout_ms: int | None = None
    retry: RetryPolicy | None = None
    key: str | None = None
    cancel: Literal["wait"] | None = None
    compensates: str | None = None
    """The action that this call undoes: it must succeed, so whatever is its last error suspends the run."""


@dataclass(frozen=True)
class ActionDefinition:
    """One action: its function, its policy, and how its arguments and result become bytes."""

    name: str
    fn: Callable[..., Any]
    is_async: bool
    timeout_ms: int | None
    retry: RetryPolicy | None
    place: str
    names: Callable[[], Mapping[str, Any]] = field(repr=False, compare=False)
    """What annotations may name besides what their module has."""

    def encode_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments of a call, as msgpack; see `Arguments`.

        Raises:
            TypeError: They do not fit the signature.
            UsageError: One of them cannot be stored.
        """
        try:
            return self._arguments.encode(args, kwargs)
        except UsageError as error:
            raise UsageError(f"arguments of action {self.name!r}: {error}") from error

    def decode_arguments(self, raw: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function takes them, each of its declared type.

        Raises:
            UsageError: They do not fit the signature, which may have changed since the call was made.
        """
        try:
            return self._arguments.decode(raw)
        except (UsageError, Unreadable) as error:
            raise UsageError(f"arguments of action {self.name!r} ({self.place}): {error}") from error

    def encode_result(self, value: Any) -> bytes:
        """What the function returned, as msgpack.

        Raises:
            UsageError: It cannot be stored, or is not what the annotation promises (found here, at the step that did
                it, and not in the workflow, where it would be too late to mend).
        """
        try:
            raw = encode_packed(value)
            if self._result_is_typed and type(value) is not self._plain_result:
                self._result.decode(raw)
        except (UsageError, Unreadable) as error:
            raise UsageError(f"result of action {self.name!r} ({self.place}): {error}") from error
        return raw

    def decode_result(self, raw: bytes) -> Any:
        """The result, of the type of the return annotation.

        Raises:
            Unreadable: It does not fit.
        """
        return self._result.decode(raw)

    def check(self) -> None:
        """Look at all annotations now instead of at the first call.

        Raises:
            UsageError: One cannot be resolved, or cannot be stored.
        """
        try:
            _ = self._arguments.types
        except UsageError as error:
            raise UsageError(f"action {self.name!r}: {error}") from error
        _ = self._result

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments(inspect.signature(self.fn), lambda: self._hints)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of("action", self.name, self.fn, self.names())

    @cached_property
    def _result(self) -> PackedType[Any]:
        try:
            return PackedType(self._hints.get("return", Any))
        except UsageError as error:
            raise UsageError(f"result of action {self.name!r} ({self.place}): {error}") from error

    @cached_property
    def _plain_result(self) -> type | None:
        """The annotation, where a value of exactly this type needs no second look."""
        hint = self._hints.get("return", Any)
        return hint if hint in _PLAIN_RESULTS else None

    @cached_property
    def _result_is_typed(self) -> bool:
        return self._hints.get("return", Any) is not Any


class Declare(Protocol):
    """How an action's compensation gets into the same app."""

    def __call__(
        self, fn: Callable[..., Any], name: str | None, retry: RetryPolicy | None, timeout: float | timedelta | None
    ) -> Action[..., Any]:
        """Declare an action."""
        ...


class ActionDecorator(Protocol):
    """What ``@app.action(…)`` and ``@charge.compensation(…)`` with options return."""

    @overload
    def __call__(self, fn: Callable[P2, Coroutine[Any, Any, R2]], /) -> Action[P2, R2]: ...

    @overload
    def __call__(self, fn: Callable[P2, R2], /) -> Action[P2, R2]: ...


class Action(Generic[P, R]):
    """A declared action. Await what a call returns, whether the function is async or not; `fn` is the function."""

    __name__: str

    def __init__(self, definition: ActionDefinition, declare: Declare, options: CallOptions | None = None) -> None:
        self.definition = definition
        self.options = options
        self.undo: Action[..., Any] | None = None
        """The compensation, where one is declared."""
        self._is_plain = options is None or options.cancel is None
        self._declare = declare
        self._recorded_name = definition.name
        if options is not None and options.key is not None:
            self._recorded_name = f"{definition.name}[{options.key}]"
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.fn)

    @property
    def name(self) -> str:
        """The action's name in histories, without a key."""
        return self.definition.name

    @property
    def fn(self) -> Callable[..., Any]:
        """The plain function."""
        return self.definition.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """In a workflow: call it durably; the call is made now, whether or not it is awaited. Elsewhere: call it.

        Raises:
            UsageError: In a workflow: an argument cannot be stored.
        """
        execution = current_execution()
        definition = self.definition
        if execution is None:
            if definition.is_async:
                return definition.fn(*args, **kwargs)
            return _performed(definition.fn, args, kwargs)
        arguments = definition.encode_arguments(args, kwargs)
        if self._is_plain:
            call = execution.call(self._recorded_name, arguments, definition.decode_result, self.options)
        else:
            call = self._call_guarded(execution, arguments)
        return cast("Coroutine[Any, Any, R]", call)

    def _call_guarded(self, execution: Execution, arguments: bytes) -> Call[Any]:
        """A call that a saga may have to undo, or whose end is awaited in any case."""
        patient = self.options is not None and self.options.cancel == "wait"
        saga = current_saga.get() if self.undo is not None else None
        tracked = saga is not None and saga.takes(self.definition.name)
        guard = "wait" if patient else "note" if tracked else None
        decode = self.definition.decode_result
        call = execution.call(self._recorded_name, arguments, decode, self.options, guard)
        if saga is not None and tracked and isinstance(call, GuardedCall):
            saga.note(call, functools.partial(self._compensate, execution, arguments))
        return call

    def _compensate(self, execution: Execution, arguments: bytes, result: bytes | None) -> Call[Any]:
        """Call the compensation with what this action was called with, and its result if that is known."""
        assert self.undo is not None
        undo = self.undo.definition
        args, kwargs = self.definition.decode_arguments(arguments)
        kwargs["result"] = None if result is None else self.definition.decode_result(result)
        options = CallOptions(compensates=self.definition.name)
        return execution.call(undo.name, undo.encode_arguments(args, kwargs), undo.decode_result, options)

    def using(
        self,
        *,
        key: str | None = None,
        timeout: float | timedelta | None = None,
        retry: RetryPolicy | None = None,
        cancel: Literal["wait"] | None = None,
    ) -> Action[P, R]:
        """The same action with something changed for one call: ``await charge.using(timeout=5)(customer, total)``.

        Args:
            key: Part of the step's name in the history (``charge[key]``), for people who look for it there.
            timeout: Seconds or a `timedelta`; None leaves it.
            retry: Another policy; None leaves it.
            cancel: ``"wait"``: cancelled, the awaiting code goes on only when the attempt has ended, however it did;
                it gets its cancellation then. Otherwise at once, and nobody hears of that end.

        Raises:
            UsageError: The key is not 1 to 100 characters without white space and brackets.
        """
        if key is not None and not _KEY.match(key):
            raise UsageError(f"key {key!r} is not usable: 1 to 100 characters without white space and brackets")
        old = self.options or CallOptions()
        options = CallOptions(
            timeout_ms=old.timeout_ms if timeout is None else _timeout_ms(timeout),
            retry=retry or old.retry,
            key=key or old.key,
            cancel=cancel or old.cancel,
        )
        variant: Action[P, R] = Action(self.definition, self._declare, options)
        if self.undo is not None:
            variant.undo, variant._is_plain = self.undo, False
        return variant

    @overload
    def compensation(self, fn: Callable[P2, Coroutine[Any, Any, R2]], /) -> Action[P2, R2]: ...

    @overload
    def compensation(self, fn: Callable[P2, R2], /) -> Action[P2, R2]: ...

    @overload
    def compensation(
        self,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = 600.0,
    ) -> ActionDecorator: ...

    def compensation(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = 600.0,
    ) -> Any:
        """Declare what undoes this action: it gets the same arguments and ``result=``, None where nobody knows whether
        the action happened. It is an action itself.

        Raises:
            UsageError: The action has one already, or the function does not take ``result`` and the action's arguments.
        """

        def declare(undo: Callable[..., Any]) -> Action[..., Any]:
            if self.undo is not None:
                raise UsageError(
                    f"action {self.name!r} has two compensations: {self.undo.definition.place} and {place_of(undo)}"
                )
            parameters = inspect.signature(undo).parameters
            if "result" not in parameters and all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
                raise UsageError(
                    f"compensation {undo.__qualname__} ({place_of(undo)}) must take what {self.name!r} returned: add"
                    " `*, result: … | None` to its parameters"
                )
            _check_takes_the_same(self.definition, undo)
            self.undo, self._is_plain = self._declare(undo, name, retry, timeout), False
            return self.undo

        return declare if fn is None else declare(fn)

    def __repr__(self) -> str:
        return f"<action {self._recorded_name} at {self.definition.place}>"


def define_action(
    fn: Callable[..., Any],
    *,
    name: str | None,
    retry: RetryPolicy | None,
    timeout: float | timedelta | None,
    names: Callable[[], Mapping[str, Any]],
) -> ActionDefinition:
    """Check a function and its options.

    Raises:
        UsageError: It is no function, or a generator; or the name or the timeout is not usable.
    """
    if isinstance(fn, Action) or not callable(fn) or isinstance(fn, type):
        raise UsageError(f"@app.action goes above a function, not {fn!r}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"action {fn.__qualname__} ({place_of(fn)}) is a generator; return a list instead")
    chosen = name or getattr(fn, "__name__", "")
    nearby = classes_around(fn)
    return ActionDefinition(
        name=check_name("action", chosen),
        fn=fn,
        is_async=inspect.iscoroutinefunction(fn),
        timeout_ms=None if timeout is None else _timeout_ms(timeout),
        retry=retry,
        place=place_of(fn),
        names=lambda: {**names(), **nearby},
    )


def _check_takes_the_same(action: ActionDefinition, undo: Callable[..., Any]) -> None:
    """A compensation that cannot take its action's arguments would fail when it is needed."""
    taken = inspect.signature(undo).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in taken):
        return
    given = inspect.signature(action.fn).parameters
    names = {each.name for each in taken}
    missing = [name for name in given if name not in names]
    extra = [each.name for each in taken if each.name not in given and each.default is each.empty]
    extra = [name for name in extra if name != "result"]
    if missing or extra:
        what = f"does not take {missing[0]!r}" if missing else f"needs {extra[0]!r}, which the action does not have"
        raise UsageError(
            f"compensation {undo.__qualname__} ({place_of(undo)}) {what}: it is called with the arguments of"
            f" {action.name!r} and `result`"
        )


def without_key(recorded_name: str) -> str:
    """The action's own name, of one that may carry a key."""
    return recorded_name.partition("[")[0]


def _timeout_ms(timeout: float | timedelta) -> int:
    found = to_ms(timeout)
    if found < 1:
        raise UsageError(f"timeout={timeout!r} is not usable: more than 0 seconds, or None for no limit")
    return found


async def _performed(fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """A sync action outside a workflow: awaited like any action, run where it is awaited."""
    return fn(*args, **kwargs)
