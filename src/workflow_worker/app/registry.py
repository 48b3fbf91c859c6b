"""`App`: where an author declares events, actions and workflows, and where everybody else looks them up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from workflow_worker.app.actions import (
    Action,
    ActionDecorator,
    ActionDefinition,
    CallOptions,
    define_action,
    without_key,
)
from workflow_worker.app.builtin import lock_keeper
from workflow_worker.app.events import EventCatalogue
from workflow_worker.app.recovery import check_general_recoveries, check_recoveries, recovery_in
from workflow_worker.app.routes import registration
from workflow_worker.app.schedules import EVENTS as SCHEDULE_EVENTS
from workflow_worker.app.schedules import declared_schedule, keeper_of
from workflow_worker.app.workflows import Workflow, WorkflowDefinition, define_workflow
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.model.exceptions import UsageError
from workflow_worker.model.ids import check_name
from workflow_worker.model.schedules import CATCH_UP_MS, Overlap, ScheduleSpec
from workflow_worker.store.transitions import Registration

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

DEFAULT_TIMEOUT_S = 600.0


class App:
    """One application: its events, actions and workflows. One namespace in Redis is one app.

    Args:
        name: Shown to people; letters, digits, ``_ . -``.
        retry: Policy of the actions that have none of their own; its rules also come after those of the ones that do.

    Raises:
        UsageError: The name is not usable, or a recovery of the policy needs arguments.
    """

    def __init__(self, name: str, *, retry: RetryPolicy | None = None) -> None:
        self.name = check_name("app", name)
        check_general_recoveries(retry)
        self.retry = retry
        self.events = EventCatalogue(SCHEDULE_EVENTS)
        self._actions: dict[str, ActionDefinition] = {}
        self._workflows: dict[tuple[str, int], WorkflowDefinition] = {}
        keeper, self._builtin_actions = keeper_of(self._newest)
        self._builtin_workflows = {(each.name, each.version): each for each in (lock_keeper(), keeper)}

    # the author's side

    def event(self, *types: str, subject: str | None = None) -> Callable[[type[C]], type[C]]:
        """Declare that a dataclass, `msgspec.Struct` or pydantic model stands for events of these types.

        Args:
            types: ``"order.placed"``, or the prefix ``"orders.*"``. An exact type wins over a prefix.
            subject: The field, or dotted path, that typed publishing takes the event's subject from.

        Raises:
            UsageError: A type is not usable or taken, or the class has no such field.
        """

        def declare(event_class: type[C]) -> type[C]:
            self.events.declare(event_class, types, subject)
            return event_class

        if not all(isinstance(each, str) for each in cast("tuple[object, ...]", types)):
            raise UsageError("say which type the event has: @app.event('order.placed')")
        return declare

    @overload
    def action(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Action[P, R]: ...

    @overload
    def action(self, fn: Callable[P, R], /) -> Action[P, R]: ...

    @overload
    def action(
        self,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = DEFAULT_TIMEOUT_S,
    ) -> ActionDecorator: ...

    def action(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = DEFAULT_TIMEOUT_S,
    ) -> Any:
        """Declare a function with side effects, sync or async: ``@app.action`` or ``@app.action(timeout=20)``.

        Args:
            fn: The function, where the decorator has no options.
            name: Its name in histories; by default the function's. Renaming it breaks runs that are under way.
            retry: How its errors are judged and when it is tried again; by default the app's.
            timeout: Longest time of one attempt, in seconds or as `timedelta`; None: no limit.

        Raises:
            UsageError: The name is taken, or something is not usable.
        """
        if fn is not None:
            return self._declare_action(fn, name, retry, timeout)

        def declare(function: Callable[..., Any]) -> Action[..., Any]:
            return self._declare_action(function, name, retry, timeout)

        return declare

    @overload
    def workflow(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...

    @overload
    def workflow(
        self,
        *,
        on: type | None = None,
        id: str | None = None,
        version: int = 1,
        name: str | None = None,
        on_existing: Literal["ignore", "restart"] = "ignore",
        timeout: float | timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: float | timedelta = CATCH_UP_MS / 1000,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...

    def workflow(
        self,
        fn: Any = None,
        *,
        on: type | None = None,
        id: str | None = None,
        version: int = 1,
        name: str | None = None,
        on_existing: Literal["ignore", "restart"] = "ignore",
        timeout: float | timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: float | timedelta = CATCH_UP_MS / 1000,
    ) -> Any:
        """Declare a deterministic ``async def`` that orchestrates actions: ``@app.workflow`` or ``@app.workflow(…)``.

        Args:
            fn: The function, where the decorator has no options.
            on: The declared class of the event that starts a run, which the function takes; None: other workflows and
                `Client.start` start it, with any arguments that have a JSON form.
            id: How a run's id is made from the event: ``"order-{order_id}"`` with the declared subject's field,
                ``{subject}``, ``{id}``; by default the event's id. A second event with the same id starts
                nothing.
            version: Raise it when the code changes in a way that running histories do not fit; keep the old function.
            name: The workflow's name; by default the function's.
            on_existing: What an event does whose run has ended: nothing, or start it anew.
            timeout: A run that takes longer (seconds or a `timedelta`) is cancelled inside and fails.
            cron: Start a run by the clock: ``"*/5 * * * *"``, six fields with the second in front, or ``"@daily"``; the
                function takes nothing, or one `wf.Tick`. One run for each tick, among all workers.
            timezone: In which the expression is read: ``"Europe/Berlin"``.
            overlap: When the run before is still under way: ``"skip"`` the tick, ``"queue"`` it, or ``"allow"`` both.
            catch_up: A tick that nobody could start in time is started so much later (seconds or a `timedelta`); those
                that are older are left out.

        Raises:
            UsageError: This version is declared already, or something is not usable.
        """
        if isinstance(fn, type):
            raise UsageError(f"which event starts the workflow goes by name: @app.workflow(on={fn.__qualname__})")
        if on_existing not in ("ignore", "restart"):
            raise UsageError(f"on_existing={on_existing!r} is not usable: 'ignore' or 'restart'")
        event = None if on is None else self.events.of(on)
        schedule = None if cron is None else declared_schedule(cron, timezone, overlap, catch_up)

        def declare(function: Callable[P, Coroutine[Any, Any, R]]) -> Workflow[P, R]:
            definition = define_workflow(
                function,
                name=name,
                version=version,
                event=event,
                id_template=id,
                restart=on_existing == "restart",
                events=self.events,
                timeout=timeout,
                schedule=schedule,
            )
            key = (definition.name, definition.version)
            known = self._workflows.get(key)
            if known is not None:
                raise UsageError(
                    f"workflow {definition.label} is declared twice: at {known.place} and at {definition.place};"
                    " raise version= or give one of them another name"
                )
            self._workflows[key] = definition
            return Workflow(definition)

        return declare if fn is None else declare(fn)

    # everybody else's side

    @property
    def actions(self) -> tuple[ActionDefinition, ...]:
        """All actions, compensations included, in the order of their declaration."""
        return tuple(self._actions.values())

    @property
    def workflows(self) -> tuple[WorkflowDefinition, ...]:
        """All versions of all workflows, in the order of their declaration."""
        return tuple(self._workflows.values())

    def find_action(self, name: str) -> ActionDefinition | None:
        """The action of that name, with or without a key (``charge[key]``)."""
        found = self._actions.get(name)
        if found is None:
            plain = without_key(name)
            found = self._actions.get(plain) or self._builtin_actions.get(plain)
        return found

    def find_recovery(self, name: str, failed: ActionDefinition, options: object | None) -> ActionDefinition | None:
        """What a recorded recovery stands for: an action of the app, else a function of the policies that judge this
        call; None where the code has nothing of that name any more."""
        own = options.retry if isinstance(options, CallOptions) and options.retry is not None else failed.retry
        return self.find_action(name) or recovery_in((own, self.retry), name, DEFAULT_TIMEOUT_S)

    def find_workflow(self, name: str, version: int) -> WorkflowDefinition | None:
        """One version of a workflow."""
        return self._workflows.get((name, version)) or self._builtin_workflows.get((name, version))

    @property
    def schedules(self) -> tuple[ScheduleSpec, ...]:
        """What the newest versions of workflows declare with ``cron=``; each is named for its workflow."""
        names = dict.fromkeys(name for name, _ in self._workflows)
        found = (self._newest(name) for name in names)
        return tuple(each.schedule for each in found if each is not None and each.schedule is not None)

    def with_actions(self, change: Callable[[ActionDefinition], ActionDefinition]) -> App:
        """The same app with other functions behind its actions: for tests. The original stays as it is."""
        other = copy.copy(self)
        other._actions = {name: change(definition) for name, definition in self._actions.items()}
        return other

    def registration(self) -> Registration:
        """What the store must know of this app."""
        return registration(self.events, self._workflows.values())

    def __repr__(self) -> str:
        return (
            f"<App {self.name}: {len(self._workflows)} workflows, {len(self._actions)} actions,"
            f" {len(self.events.types)} event types>"
        )

    def _newest(self, name: str) -> WorkflowDefinition | None:
        versions = [version for known, version in self._workflows if known == name]
        return self._workflows[name, max(versions)] if versions else None

    def _declare_action(
        self, fn: Callable[..., Any], name: str | None, retry: RetryPolicy | None, timeout: float | timedelta | None
    ) -> Action[..., Any]:
        definition = define_action(fn, name=name, retry=retry, timeout=timeout, names=self.events.names)
        known = self._actions.get(definition.name)
        if known is not None:
            raise UsageError(
                f"action {definition.name!r} is declared twice: at {known.place} and at {definition.place};"
                " give one of them another name="
            )
        check_recoveries(retry, definition)
        self._actions[definition.name] = definition
        return Action(definition, self._declare_action)
