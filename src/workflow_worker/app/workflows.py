"""Workflows: which event starts one, under which id, and how its function is called."""

from __future__ import annotations

import functools
import inspect
import string
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar, cast

from workflow_worker.app.events import EventCatalogue, EventDefinition
from workflow_worker.app.places import place_of
from workflow_worker.app.signatures import classes_around, hints_of
from workflow_worker.model.codec import JsonType, encode_json
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import check_name

P = ParamSpec("P")
R = TypeVar("R")

MAX_VERSION = 1_000_000


@dataclass(frozen=True)
class WorkflowDefinition:
    """One version of one workflow. `template` is as `StartRoute.template` says; `restart`: an ended run of the same id
    starts anew."""

    name: str
    version: int
    fn: Callable[..., Coroutine[Any, Any, Any]]
    event: EventDefinition | None
    template: tuple[str, ...]
    restart: bool
    place: str
    names: Callable[[], Mapping[str, Any]] = field(repr=False, compare=False)

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
        if self.event is None:
            return self.fn
        return functools.partial(self.fn, catalogue.decode(event, self.event.event_class))

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
        """Look at the return annotation now instead of when a client asks for a result.

        Raises:
            UsageError: It cannot be resolved, or cannot be stored.
        """
        _ = self._result

    @cached_property
    def _result(self) -> JsonType[Any]:
        hints = hints_of("workflow", self.name, self.fn, self.names())
        try:
            return JsonType(hints.get("return", Any))
        except UsageError as error:
            raise UsageError(f"result of workflow {self.name!r} ({self.place}): {error}") from error


class Workflow(Generic[P, R]):
    """A declared workflow, for `Client.start` and tests. Calling it calls the function: it becomes part of the caller,
    not a run of its own."""

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

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function as it is."""
        return self.definition.fn(*args, **kwargs)

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
    names: Callable[[], Mapping[str, Any]],
) -> WorkflowDefinition:
    """Check a function and its options.

    Raises:
        UsageError: It is not ``async def``, does not take exactly the event, or an option is not usable.
    """
    if not inspect.iscoroutinefunction(fn):
        raise UsageError(f"@app.workflow goes above an `async def` function, not {fn!r}")
    place = place_of(fn)
    chosen = check_name("workflow", name or fn.__name__)
    if isinstance(cast("object", version), bool) or not 1 <= version <= MAX_VERSION:
        raise UsageError(f"version={version!r} of workflow {chosen!r} ({place}) is not usable: a whole number from 1")
    _check_parameters(fn, chosen, place, event)
    if id_template is not None and event is None:
        raise UsageError(
            f"workflow {chosen!r} ({place}) has an id template and no `on=`: without an event that starts it, the one"
            " who starts it gives the id"
        )
    template = (
        () if id_template is None or event is None else parse_template(id_template, event, f"{chosen!r} ({place})")
    )
    nearby = classes_around(fn)
    return WorkflowDefinition(chosen, version, fn, event, template, restart, place, lambda: {**names(), **nearby})


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


def _check_parameters(fn: Callable[..., Any], name: str, place: str, event: EventDefinition | None) -> None:
    parameters = inspect.signature(fn).parameters.values()
    needed = [
        each
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if event is None and needed:
        raise UsageError(
            f"workflow {name!r} ({place}) takes {needed[0].name!r}, but nothing says which event that is: add"
            " on=ItsClass"
        )
    if event is not None and (len(needed) > 1 or not _takes_one(fn)):
        raise UsageError(
            f"workflow {name!r} ({place}) must take exactly one argument, the {event.event_class.__qualname__}"
        )


def _takes_one(fn: Callable[..., Any]) -> bool:
    try:
        inspect.signature(fn).bind(None)
    except TypeError:
        return False
    return True
