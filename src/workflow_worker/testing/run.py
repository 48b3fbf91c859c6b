"""`TestRun`: one run as a test looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from workflow_worker.app.actions import Action
from workflow_worker.app.registry import App
from workflow_worker.model.exceptions import NotFound, Refused
from workflow_worker.model.failure import Failure, rebuild
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.instants import from_ms
from workflow_worker.model.record import Record, RunResumed, encode_record
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.memory.machine import views
from workflow_worker.testing.doubles import Call, name_of
from workflow_worker.testing.engine import Engine
from workflow_worker.testing.histories import recorded_run
from workflow_worker.testing.replaying import RecordedRun, describe_waits, waits_of


class StillWaiting(AssertionError):
    """A result was asked of a run that waits for something; the message says for what."""


@dataclass(frozen=True)
class TestRun:
    """A run of a `TestEnv`. Properties show this moment; `result`, `cancel` and `resume` let the worker go on."""

    __test__ = False  # pytest: no class of tests

    app: App
    engine: Engine
    ref: RunRef

    @property
    def id(self) -> str:
        """The run's id, without its workflow."""
        return split_run_ref(self.ref)[1]

    @property
    def view(self) -> RunView:
        """What the store knows of it.

        Raises:
            NotFound: The event started no run.
        """
        found = views.view_run(self.engine.store.partition, self.ref)
        if found is None:
            raise NotFound(f"there is no run {self.ref}: nothing has started it")
        return found

    @property
    def status(self) -> RunStatus:
        """Where it stands."""
        return self.view.status

    @property
    def state(self) -> Any:
        """What the workflow published with ``wf.state``, decoded; None if nothing."""
        state = self.view.state
        return None if not state else msgspec.json.decode(state)

    @property
    def failure(self) -> Failure | None:
        """Why it failed or is suspended."""
        error = self.view.error
        return msgspec.msgpack.decode(error, type=Failure) if error else None

    @property
    def recorded(self) -> RecordedRun:
        """Its history, as `replay` takes it."""
        found = views.recorded(self.engine.store.partition, self.ref)
        if found is None:
            raise NotFound(f"there is no run {self.ref}: nothing has started it")
        return recorded_run(self.ref, found)

    @property
    def records(self) -> tuple[Record, ...]:
        """Its history, oldest first."""
        return self.recorded.records

    @property
    def waiting_for(self) -> tuple[tuple[type, ...], ...]:
        """The event classes of each ``wf.wait_for`` that it is at, oldest first."""
        return () if self.status.ended else waits_of(self.app, self.recorded)

    def calls(self, action: Action[..., Any] | str | None = None) -> list[Call]:
        """Attempts made for it, of one action or of all, in order."""
        name = None if action is None else name_of(action)
        return [call for call in self.engine.doubles.log if call.run == self.ref and name in (None, call.action)]

    def attempts(self, action: Action[..., Any] | str) -> int:
        """How many attempts of an action were made for it."""
        return len(self.calls(action))

    async def result(self) -> Any:
        """What the workflow returned, of its annotated type; works off what can be done now, never moves the clock.

        Raises:
            Failed: The workflow ended with ``wf.Failed``, or its own subclass.
            Refused: It was cancelled, or is suspended and needs a person; the message says why.
            StillWaiting: It has not ended; the message says what it waits for.
        """
        await self.engine.settle()
        view = self.view
        match view.status:
            case RunStatus.COMPLETED:
                workflow, _ = split_run_ref(self.ref)
                definition = self.app.find_workflow(workflow, view.version)
                assert definition is not None
                return definition.decode_result(view.result or b"null")
            case RunStatus.FAILED if self.failure is not None:
                raise rebuild(self.failure)
            case RunStatus.SUSPENDED:
                raise Refused(f"run {self.ref} is suspended and needs a person: {self.failure}")
            case RunStatus.CANCELLED | RunStatus.FAILED:
                raise Refused(f"run {self.ref} has no result: it is {view.status}")
            case _:
                raise StillWaiting(await self.explain())

    async def explain(self) -> str:
        """Why it does not go on: for people."""
        due = await self.engine.next_due()
        time = f"; the next timer of this TestEnv is due at {from_ms(due).isoformat()}" if due is not None else ""
        stack = " | ".join(describe_waits(self.app, self.recorded))
        return f"run {self.ref} is {self.status} and waits at: {stack}{time}"

    async def cancel(self, reason: str = "") -> None:
        """Ask it to end, as an operator does, and let it."""
        await self.engine.store.cancel(self.ref, "test", reason)
        await self.engine.settle()

    async def resume(self, note: str = "") -> None:
        """Let a suspended run go on, as an operator does.

        Raises:
            Refused: It is not suspended.
        """
        record = encode_record(RunResumed(self.engine.clock.now_ms(), "test", note))
        word = await self.engine.store.resume(self.ref, record, "test")
        if word != "ok":
            raise Refused(f"run {self.ref} is not suspended but {self.status}")
        await self.engine.settle()
