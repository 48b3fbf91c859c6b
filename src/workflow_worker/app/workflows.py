"""Workflows: which event starts one, under which id, and how its function is called."""

from __future__ import annotations

import functools
import inspect
import string
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from workflow_worker.app.events import EventCatalogue, EventDefinition
from workflow_worker.app.inputs import Inputs
from workflow_worker.app.places import place_of
from workflow_worker.app.scheduled import check_schedule, input_at
from workflow_worker.app.signatures import classes_around, hints_of
from workflow_worker.model.codec import JsonType, encode_json
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import INTERNAL_PREFIX, START_PREFIX, RunRef, check_name
from workflow_worker.model.instants import to_ms
from workflow_worker.model.internal import STARTS, TICK
from workflow_worker.model.schedules import ScheduleSpec
from workflow_worker.runtime.closing import Graveyard
from workflow_worker.runtime.execution import Execution, current_execution
from workflow_worker.runtime.ticks import Tick

P = ParamSpec("P")
R = TypeVar("R")
H = TypeVar("H", bound=Callable[..., Coroutine[Any, Any, object]])

MAX_VERSION = 1_000_000


@dataclass(frozen=True)
class WorkflowDefinition:
    """One version of one workflow. `template` is as `StartRoute.template` says; `restart`: an ended run of the same id
    starts anew; `timeout_ms`: a run that takes longer fails."""

    name: str
    version: int
    fn: Callable[..., Coroutine[Any, Any, Any]]
    event: EventDefinition | None
    template: tuple[str, ...]
    restart: bool
    place: str
    names: Callable[[], Mapping[str, Any]] = field(repr=False, compare=False)
    timeout_ms: int | None = None
    events: EventCatalogue | None = field(default=None, repr=False, compare=False)
    """Of the app that declares it."""
    schedule: ScheduleSpec | None = None
    """What starts it by the clock."""
    updates: list[UpdateDefinition] = field(default_factory=list["UpdateDefinition"], repr=False, compare=False)

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def needs_subject(self) -> bool:
        """Whether the run's id is made from the event's subject."""
        return "subject" in self.template

    def main(self, event: Event, catalogue: EventCatalogue) -> Callable[[], Coroutine[Any, Any, Any]]:
        """What starts the run: the function with its decoded start event, not called yet.

        Raises:
            EventRejected: The event does not fit the workflow's class.
        """
        by_input = event.type in STARTS or event.type.startswith(START_PREFIX)
        if not by_input and self.event is not None:
            value = catalogue.decode(event, self.event.event_class)
            return functools.partial(self._begin, (value,), {})
        data = input_at(event.data, self._tick_parameter) if event.type == TICK else event.data
        if self.event is not None:
            return functools.partial(self._begin, (self.event.decode(data),), {})
        return functools.partial(self._begin, (), self._inputs.decode(data) if by_input else {})

    def execution(
        self,
        ref: RunRef,
        start: Event,
        started_at: int,
        catalogue: EventCatalogue,
        graveyard: Graveyard | None = None,
    ) -> Execution:
        """A run of it in memory before its first record: the same for a worker, a replay and a test, for ever.

        Args:
            ref: The run's full name.
            start: Its start event.
            started_at: Its first instant, in milliseconds since 1970.
            catalogue: The declared events of the app.
            graveyard: See `Execution`.

        Raises:
            EventRejected: The event does not fit the workflow's class.
        """
        return Execution(
            ref=ref,
            subject=start.subject,
            started_at=started_at,
            seed=f"{ref}/{start.id}",
            main=self.main(start, catalogue),
            events=catalogue,
            encode=self.encode_result,
            graveyard=graveyard,
        )

    @cached_property
    def _tick_parameter(self) -> str | None:
        if self.event is not None:
            return None
        return next((name for name, hint in self._hints().items() if hint is Tick and name != "return"), None)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        execution = current_execution()
        if execution is not None:
            execution.workflow = self
            if self.timeout_ms is not None:
                execution.limit_time(self.timeout_ms)
            for update in self.updates:
                execution.published.updates.on(update.event_class(self.names()), update.fn, update.validate)
        return self.fn(*args, **kwargs)

    def encode_input(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str | None]:
        """What a run of it is started with, as JSON, and what it is about.

        Raises:
            UsageError: It is not the event that the workflow takes; the arguments do not fit.
        """
        if self.event is None:
            return self._inputs.encode(args, kwargs), None
        try:
            (value,) = inspect.signature(self.fn).bind(*args, **kwargs).args
        except (TypeError, ValueError) as error:
            name = self.event.event_class.__qualname__
            raise UsageError(f"workflow {self.name!r} is started with one {name}: {error}") from error
        return self.event.encode(value), self.event.subject_of(value)

    def encode_result(self, value: Any) -> bytes:
        """A result, or the run's published state, as JSON.

        Raises:
            UsageError: It has no JSON form.
        """
        return encode_json(value)

    def decode_result(self, raw: bytes) -> Any:
        """A result, of the type of the return annotation.

        Raises:
            Unreadable: It does not fit.
        """
        return self._result.decode(raw)

    def check(self) -> None:
        """Look at all annotations now instead of when they are needed.

        Raises:
            UsageError: One cannot be resolved or stored, or the class of an update is not declared.
        """
        _ = self._result
        if self.event is None:
            self._inputs.check()
        for update in self.updates:
            event_class = update.event_class(self.names())
            if self.events is not None:
                self.events.of(event_class)

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self.fn, f"{self.name!r} ({self.place})", self._hints)

    def _hints(self) -> dict[str, Any]:
        return hints_of("workflow", self.name, self.fn, self.names())

    @cached_property
    def _result(self) -> JsonType[Any]:
        hints = self._hints()
        try:
            return JsonType(hints.get("return", Any))
        except UsageError as error:
            raise UsageError(f"result of workflow {self.name!r} ({self.place}): {error}") from error


@dataclass(frozen=True)
class UpdateDefinition:
    """A request that runs of a workflow answer: its handler takes one declared event."""

    fn: Callable[[Any], Coroutine[Any, Any, object]]
    validate: Callable[[Any], object] | None

    def event_class(self, names: Mapping[str, Any]) -> type:
        """The class of the handler's only parameter.

        Raises:
            UsageError: It has none, or more than one.
        """
        name = self.fn.__qualname__
        hints = hints_of("update", name, self.fn, {**names, **classes_around(self.fn)})
        hints.pop("return", None)
        classes = [hint for hint in hints.values() if isinstance(hint, type) and hint is not Any]
        if len(inspect.signature(self.fn).parameters) != 1 or len(classes) != 1:
            raise UsageError(f"update {name!r} ({place_of(self.fn)}) must take one argument, annotated with its class")
        return classes[0]


class Workflow(Generic[P, R]):
    """A declared workflow. Called in a workflow it starts a child run and awaits how that ends; called elsewhere it is
    the plain function."""

    __name__: str

    def __init__(self, definition: WorkflowDefinition) -> None:
        self.definition = definition
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.fn)

    @property
    def name(self) -> str:
        """The workflow's name in runs and routes."""
        return self.definition.name

    @property
    def version(self) -> int:
        """The version of this function."""
        return self.definition.version

    @property
    def fn(self) -> Callable[..., Any]:
        """The plain function."""
        return self.definition.fn

    @property
    def events(self) -> object:
        """The events of the app that declares it."""
        return self.definition.events

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, str | None]:
        """See `WorkflowDefinition.encode_input`."""
        return self.definition.encode_input(args, kwargs)

    def decode_result(self, raw: bytes) -> R:
        """See `WorkflowDefinition.decode_result`."""
        return self.definition.decode_result(raw)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """In a workflow: start a child run now; awaited, it gives the child's result. Cancelled, or at the end of the
        parent, the child is cancelled too; `wf.start` starts one that goes on. Elsewhere: call the function.

        Raises:
            UsageError: In a workflow: the arguments do not fit or cannot be stored.
        """
        execution = current_execution()
        if execution is None:
            return self.definition.fn(*args, **kwargs)
        return cast("Coroutine[Any, Any, R]", execution.letters.children.start(self, args, kwargs))

    @overload
    def update(self, fn: H, /) -> H: ...

    @overload
    def update(self, *, validate: Callable[[Any], object] | None = None) -> Callable[[H], H]: ...

    def update(self, fn: Any = None, *, validate: Callable[[Any], object] | None = None) -> Any:
        """Declare a request that runs of this workflow answer: an ``async def`` that takes one declared event and
        returns the reply. It is workflow code like the rest: deterministic, with actions for all effects. A client
        sends one with ``handle.update(…)``; to reach the run's own variables see `wf.on_update`.

        Args:
            fn: The handler, where the decorator has no options.
            validate: Raises, with the reason, if a request is not to be accepted; the handler is not called then.

        Raises:
            UsageError: The handler is not ``async def``.
        """

        def declare(handler: Any) -> Any:
            if not inspect.iscoroutinefunction(handler):
                raise UsageError(f"@{self.name}.update goes above an `async def` function, not {handler!r}")
            self.definition.updates.append(UpdateDefinition(handler, validate))
            return handler

        return declare if fn is None else declare(fn)

    def __repr__(self) -> str:
        return f"<workflow {self.definition.label} at {self.definition.place}>"


def define_workflow(
    fn: Callable[..., Any],
    *,
    name: str | None,
    version: int,
    event: EventDefinition | None,
    id_template: str | None,
    restart: bool,
    events: EventCatalogue,
    timeout: float | timedelta | None = None,
    schedule: ScheduleSpec | None = None,
) -> WorkflowDefinition:
    """Check a function and its options.

    Raises:
        UsageError: It is not ``async def``, does not take exactly the event, or an option is not usable.
    """
    if not inspect.iscoroutinefunction(fn):
        raise UsageError(f"@app.workflow goes above an `async def` function, not {fn!r}")
    place = place_of(fn)
    chosen = check_name("workflow", name or fn.__name__)
    if chosen.startswith(INTERNAL_PREFIX):
        raise UsageError(f"workflow name {chosen!r} ({place}) begins with {INTERNAL_PREFIX!r}, which is reserved")
    timeout_ms = None if timeout is None else to_ms(timeout)
    if timeout_ms is not None and timeout_ms < 1:
        raise UsageError(f"timeout={timeout!r} of workflow {chosen!r} ({place}) is not usable: more than 0 seconds")
    if isinstance(cast("object", version), bool) or not 1 <= version <= MAX_VERSION:
        raise UsageError(f"version={version!r} of workflow {chosen!r} ({place}) is not usable: a whole number from 1")
    _check_parameters(fn, chosen, place, event, events.names())
    if id_template is not None and event is None:
        raise UsageError(
            f"workflow {chosen!r} ({place}) has an id template and no `on=`: without an event that starts it, the one"
            " who starts it gives the id"
        )
    template = (
        () if id_template is None or event is None else parse_template(id_template, event, f"{chosen!r} ({place})")
    )
    nearby = classes_around(fn)
    if schedule is not None:
        schedule = check_schedule(fn, schedule, chosen, place, event is not None)
    return WorkflowDefinition(
        name=chosen,
        version=version,
        fn=fn,
        event=event,
        template=template,
        restart=restart,
        place=place,
        names=lambda: {**events.names(), **nearby},
        timeout_ms=timeout_ms,
        events=events,
        schedule=schedule,
    )


def parse_template(text: str, event: EventDefinition, where: str) -> tuple[str, ...]:
    """The parts of an id template: ``=literal``, ``subject``, ``id``.

    Raises:
        UsageError: It is empty or names something else than the subject and the event's id.
    """
    parts: list[str] = []
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"id={text!r} of workflow {where} cannot be read: {error}; a brace itself is {{{{") from error
    for literal, name, spec, conversion in pieces:
        if literal:
            parts.append(f"={literal}")
        if name is None:
            continue
        if spec or conversion:
            raise UsageError(f"id={text!r} of workflow {where}: '{{{name}}}' takes no format")
        parts.append(_part(name, text, event, where))
    if not any(not part.startswith("=") for part in parts):
        raise UsageError(
            f"id={text!r} of workflow {where} is the same for every event: {_possible(event)}; leave id= out for the"
            " event's id"
        )
    return tuple(parts)


def _part(name: str, text: str, event: EventDefinition, where: str) -> str:
    if name == "subject" or (event.subject is not None and name == event.subject):
        return "subject"
    if name == "id":
        return "id"
    advice = "" if event.subject is not None else f"; is it the subject? Then declare @app.event(…, subject={name!r})"
    raise UsageError(f"id={text!r} of workflow {where}: '{{{name}}}' cannot be used: {_possible(event)}{advice}")


def _possible(event: EventDefinition) -> str:
    own = "" if event.subject is None else f"'{{{event.subject}}}' or "
    return f"possible are {own}'{{subject}}' (the event's subject) and '{{id}}' (the event's id)"


def _check_parameters(
    fn: Callable[..., Any], name: str, place: str, event: EventDefinition | None, classes: Mapping[str, Any]
) -> None:
    parameters = list(inspect.signature(fn).parameters.values())
    if event is not None and not _takes_one(fn):
        raise UsageError(
            f"workflow {name!r} ({place}) must take exactly one argument, the {event.event_class.__qualname__}"
        )
    if event is not None:
        return
    for each in parameters:
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise UsageError(f"workflow {name!r} ({place}): parameter {each.name!r} must have a name to be passed by")
        is_event = isinstance(each.annotation, str) and each.annotation in classes
        if is_event or any(each.annotation is event_class for event_class in classes.values()):
            raise UsageError(
                f"workflow {name!r} ({place}) takes {each.name!r}, an event, but nothing says which event starts it:"
                " add on=ItsClass"
            )


def _takes_one(fn: Callable[..., Any]) -> bool:
    try:
        inspect.signature(fn).bind(None)
    except TypeError:
        return False
    return True
