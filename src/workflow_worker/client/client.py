"""`Client`: publish events, start runs, look at them, operate them. Needs no app and no worker in this process."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from workflow_worker.client.grouping import Group
from workflow_worker.client.handle import RunHandle
from workflow_worker.client.opening import opened_store, producer_environment
from workflow_worker.client.operations import DROPPED_AT_ONCE, Operations
from workflow_worker.client.outgoing import Item, addressed, outgoing, starting, workflow_name
from workflow_worker.client.patience import Patience
from workflow_worker.client.schedules import ScheduleHandle, Schedules, ScheduleView
from workflow_worker.client.views import Views
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import StoreFull, UsageError
from workflow_worker.model.ids import RunRef, run_ref, start_id
from workflow_worker.model.run import RunView
from workflow_worker.model.schedules import CATCH_UP_MS, Overlap
from workflow_worker.model.settings import Settings
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Audit, Depth, OperatorAct, Publish, Published, Recorded, RunPage, RunQuery

BATCH = 200
"""Events in one call of the store."""
PATIENCE_S = 10.0


class Client:
    """Everything that can be asked of a namespace; safe to share between the tasks of one event loop.

    While Redis does not answer, calls are repeated with the same ids for `patience` seconds, then `StoreUnavailable`
    is raised. An event that was published (the call returned) is never lost while Redis keeps what it acknowledged.
    """

    def __init__(
        self,
        store: Store,
        environment: Environment | None = None,
        *,
        max_event_bytes: int = 262_144,
        patience: float = PATIENCE_S,
    ) -> None:
        """Use a store; whoever made it closes it. `Client.from_env` and `Client.connect` make their own."""
        self._store = store
        self._environment = environment or producer_environment()
        self._max_event_bytes = max_event_bytes
        self._patience = Patience(self._environment, patience)
        self._group = Group(self._send, BATCH)
        self._operations = Operations(store, self._patience)
        self._views = Views(self._operations)
        self._schedules = Schedules(self._operations, self._taken)

    @classmethod
    @asynccontextmanager
    async def from_env(
        cls, variables: Mapping[str, str] | None = None, *, folder: Path | None = None
    ) -> AsyncGenerator[Client]:
        """A client by the environment's variables (REDIS_URL, NAMESPACE …); without REDIS_URL on the embedded server
        of the working folder, which is started if it does not run.

        Raises:
            ConfigurationError: A variable has a value that cannot be used.
            UsageError: `variables` is no mapping; a client needs no app, events have their classes.
        """
        if variables is not None and not hasattr(variables, "get"):  # an app, out of habit from other products
            what = type(variables).__qualname__
            raise UsageError(f"from_env takes variables such as {{'REDIS_URL': …}}, not {what}: a client needs no app")
        settings = Settings.from_mapping(os.environ if variables is None else variables)
        async with cls.from_settings(settings, folder=folder) as client:
            yield client

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str | None = None, *, namespace: str = "ww", patience: float = PATIENCE_S
    ) -> AsyncGenerator[Client]:
        """A client of one namespace on one server (None: the embedded one); the environment is not read.

        Raises:
            ConfigurationError: The URL or the namespace cannot be used.
        """
        variables = {"NAMESPACE": namespace} | ({} if url is None else {"REDIS_URL": url})
        async with cls.from_settings(Settings.from_mapping(variables), patience=patience) as client:
            yield client

    @classmethod
    @asynccontextmanager
    async def from_settings(
        cls,
        settings: Settings,
        *,
        folder: Path | None = None,
        environment: Environment | None = None,
        patience: float = PATIENCE_S,
    ) -> AsyncGenerator[Client]:
        """A client by settings; `folder` is where the embedded server keeps its data (default: the working folder).

        Raises:
            ConfigurationError: The URL cannot be used, or there is no embedded server for this machine.
            StoreUnavailable: The embedded server does not come up.
        """
        async with opened_store(settings, folder or Path.cwd()) as store:
            yield cls(store, environment, max_event_bytes=settings.max_event_bytes, patience=patience)

    # ---- producing
    async def publish(
        self,
        event: object,
        data: Any = None,
        *,
        subject: str | None = None,
        id: str | None = None,
        delay: float | timedelta = 0,
        type: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Published:
        """Publish one event: an object of a declared class, an `Event`, or an event type with its `data`.

        Args:
            event: What happened.
            data: Of an event given by its type: anything with a JSON form; bytes are JSON text as it is.
            subject: The business key that it is about; a declared class has its own.
            id: Within DEDUP_WINDOW_MS an id is accepted only once. Default: a new one.
            delay: Hold the event back for so long, in seconds or as a `timedelta`.
            type: Which of the types of a class that was declared for several.
            attributes: CloudEvents attributes ``source time tenant traceparent``.

        Returns:
            Its id, and whether it was accepted before (then nothing was added): by another call, or by an attempt of
            this one whose answer was lost.

        Raises:
            EventRejected: It is too big (MAX_EVENT_BYTES) or no JSON.
            UsageError: The object's class is not declared, or the type is not usable.
            StoreFull: The event would start a run, and Redis' memory is nearly used up: nothing was added.
            StoreUnavailable: Redis does not answer; publish again *with the same id* when it does.
        """
        item = Item(event, data, subject, id, delay, type, attributes or {})
        answer = await self._group.publish(outgoing(item, self._environment.new_id, self._max_event_bytes))
        return _taken([answer])[0]

    async def publish_many(self, events: Iterable[object]) -> list[Published]:
        """Publish events in order, 200 in one call; each is as in `publish`, or an `Item` with its options.

        Nothing is sent if one of them is rejected. Not one transition: after `StoreUnavailable` or `StoreFull` some may
        be in; publish the same again, ids count once (give the events ids for that).

        Raises:
            EventRejected, UsageError, StoreFull, StoreUnavailable: As for `publish`.
        """
        items = [each if isinstance(each, Item) else Item(each) for each in events]
        ready = [outgoing(item, self._environment.new_id, self._max_event_bytes) for item in items]
        answers: list[Published] = []
        for begin in range(0, len(ready), BATCH):
            answers += _taken(await self._send(ready[begin : begin + BATCH]))
        return answers

    async def start(
        self,
        workflow: object,
        *args: Any,
        id: str,
        event_id: str | None = None,
        subject: str | None = None,
        **kwargs: Any,
    ) -> RunHandle:
        """Start a run of a workflow under an id of your choice, with its event or, where it has no ``on=``, arguments.

        Repeated, it returns the same run: the event's id follows from workflow and run id unless `event_id` is given
        (give a new one to start an ended run of an ``on_existing="restart"`` workflow again).

        Args:
            workflow: The function under ``@app.workflow``, or its name.
            args: Its event, as for `publish` (of a type that starts it, else it becomes a dead letter), or its
                arguments. By name it takes a mapping too: what the event's class, or the arguments, have as JSON.
            id: The run's id.
            event_id: The start event's id.
            subject: What the run is about; a declared class has its own.
            kwargs: More arguments. What does not fit a workflow that is given by its name fails the run.

        Raises:
            EventRejected, UsageError, StoreFull, StoreUnavailable: As for `publish`.
        """
        name, item = starting(workflow, args, kwargs, subject)
        item = msgspec.structs.replace(item, id=event_id or item.id or start_id(name, id))
        ready = addressed(outgoing(item, self._environment.new_id, self._max_event_bytes), name, id)
        [answer] = _taken([await self._group.publish(ready)])
        return RunHandle(run_ref(name, id), self._operations, existed=answer.duplicate)

    def handle(self, workflow: object, run_id: str) -> RunHandle:
        """A run that somebody else started."""
        return RunHandle(run_ref(workflow_name(workflow), run_id), self._operations)

    # ---- schedules
    async def schedule(
        self,
        workflow: object,
        *,
        cron: str,
        name: str | None = None,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: float | timedelta = CATCH_UP_MS / 1000,
        input: object = None,
        subject: str | None = None,
        by: str = "client",
    ) -> ScheduleHandle:
        """Make a schedule, or change it; each of its ticks starts one run. Whether it is paused stays.

        Args:
            workflow: The function under ``@app.workflow``, or its name.
            cron: As for ``@app.workflow(cron=…)``, like `timezone`, `overlap` and `catch_up`.
            name: Of the schedule; by default the workflow's.
            timezone: In which the expression is read.
            overlap: What a tick does while the run before is under way: ``skip``, ``queue``, ``allow``.
            catch_up: How late a run may be started.
            input: The workflow's event (an object of its class, or what has the same JSON form); of one without ``on=``
                its arguments, by name. A parameter of class `wf.Tick` gets the tick.
            subject: What the runs are about; a declared class has its own.
            by: Who asks, for the operator log.

        Raises:
            UsageError: The expression, the zone or another argument is not usable.
            Refused: The schedule is declared in code.
            StoreFull, StoreUnavailable: As for `publish`.
        """
        return await self._schedules.set(
            workflow,
            cron=cron,
            name=name,
            timezone=timezone,
            overlap=overlap,
            catch_up=catch_up,
            input=input,
            subject=subject,
            by=by,
        )

    def schedule_handle(self, name: str) -> ScheduleHandle:
        """A schedule that the code declares, or somebody else made: to pause, resume, run, backfill or delete it."""
        return self._schedules.handle(name)

    async def schedules(self) -> list[ScheduleView]:
        """All schedules, by name."""
        return await self._schedules.all()

    async def _taken(self, items: list[Publish]) -> list[Published]:
        return _taken(await self._send(items))

    async def _send(self, items: list[Publish]) -> list[Published]:
        fault = self._environment.fault

        async def attempt() -> list[Published]:
            if fault is not None:
                fault("publish.sent")
            answers = await self._store.publish(items)
            if fault is not None:
                fault("publish.acked")
            return answers

        # Ids were given before the first attempt: however often it is made, an event enters once.
        return await self._patience.call(attempt)

    # ---- operating
    async def cancel(self, run_id: str, *, by: str = "client", reason: str = "") -> RunRef:
        """See `Operations.cancel`."""
        return await self._operations.cancel(run_id, by, reason)

    async def resume(self, run_id: str, *, by: str = "client", note: str = "") -> RunRef:
        """See `Operations.resume`."""
        return await self._operations.resume(run_id, by, note)

    async def redrive(self, letter_id: str, *, by: str = "client") -> None:
        """See `Operations.redrive`."""
        await self._operations.redrive(letter_id, by)

    async def drop(self, letter_id: str, *, by: str = "client") -> None:
        """See `Operations.drop`."""
        await self._operations.drop(letter_id, by)

    async def drop_letters(
        self,
        *,
        by: str = "client",
        reason: str = "",
        type: str | None = None,
        older: float | timedelta = 0,
        limit: int = DROPPED_AT_ONCE,
    ) -> int:
        """See `Operations.drop_letters`."""
        return await self._operations.drop_letters(by, reason=reason, type=type, older=older, limit=limit)

    # ---- looking
    async def run(self, run_id: str) -> RunView:
        """See `Views.run`."""
        return await self._views.run(run_id)

    async def runs(self, query: RunQuery | None = None) -> RunPage:
        """See `Views.runs`."""
        return await self._views.runs(query or RunQuery())

    async def history(self, ref: str) -> list[bytes]:
        """See `Views.history`."""
        return await self._views.history(ref)

    async def recorded(self, ref: str) -> Recorded:
        """See `Views.recorded`."""
        return await self._views.recorded(ref)

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """See `Views.dead_letters`."""
        return await self._views.dead_letters(limit, after)

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """See `Views.dead_letter`."""
        return await self._views.dead_letter(letter_id)

    async def operator_log(self, limit: int = 100) -> list[OperatorAct]:
        """See `Views.operator_log`."""
        return await self._views.operator_log(limit)

    async def depth(self) -> Depth:
        """See `Views.depth`."""
        return await self._views.depth()

    async def audit(self) -> Audit:
        """See `Views.audit`."""
        return await self._views.audit()


def _taken(answers: list[Published]) -> list[Published]:
    """The answers, if all of them were taken."""
    refused = [answer.id for answer in answers if answer.full]
    if refused:
        raise StoreFull(
            f"{len(refused)} of {len(answers)} were not taken, first {refused[0]}: Redis has hardly any memory left"
            " (MEMORY_HIGH_WATER). Give it more, or wait until it has forgotten ended runs, and publish again, same ids"
        )
    return answers
