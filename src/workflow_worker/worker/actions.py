"""Attempts of actions: context, time limit, loop or thread, and the verdict on what went wrong."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol

from workflow_worker.app.actions import ActionDefinition, CallOptions
from workflow_worker.app.attempt import AttemptContext, AttemptLog, attempt_context
from workflow_worker.app.registry import App
from workflow_worker.errors.classifier import Verdict, classify
from workflow_worker.errors.retry import ParkRun, RetryPolicy, decide
from workflow_worker.model.command import StartAction
from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import ActionTimeout, UsageError
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.executor import RunExecutor

_CANCEL_GRACE_S = 5.0
"""An async body that swallows its cancellation for longer is left behind: its attempt counts as timed out."""


class Reporter(Protocol):
    """Where attempts make themselves known."""

    def attempt_started(self, executor: RunExecutor, start: StartAction) -> None:
        """An attempt begins."""
        ...

    def attempt_log(self, executor: RunExecutor, start: StartAction) -> AttemptLog:
        """The logger behind ``action.log`` of this attempt."""
        ...

    def attempt_ended(self, executor: RunExecutor, attempt: Attempt, ended: Ended) -> None:
        """An attempt is over."""
        ...


class Performer:
    """Runs attempts on the worker's loop (async actions) or in threads (sync ones)."""

    def __init__(
        self,
        app: App,
        environment: Environment,
        reporter: Reporter,
        threads: Executor,
        max_retries: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._app = app
        self._environment = environment
        self._reporter = reporter
        self._threads = threads
        self._default_attempts = max_retries + 1
        self._now_ms = now_ms
        self._default_policy = RetryPolicy()
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def perform(self, executor: RunExecutor, start: StartAction) -> Attempt:
        """Begin one attempt; its end reaches `RunExecutor.attempt_ended` on this loop."""
        attempt = Attempt(start, self._environment.monotonic())
        definition = self._app.find_action(start.name)
        self._reporter.attempt_started(executor, start)
        if definition is None:
            error = UsageError(f"action {start.name!r} is not registered in app {self._app.name!r} of this worker")
            self._loop.call_soon(self._end, executor, attempt, None, error)
            return attempt
        task = self._loop.create_task(self._run(executor, attempt, definition))
        attempt.task = task
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        timeout_ms = _option(start.options, "timeout_ms", definition.timeout_ms)
        if timeout_ms is not None:
            attempt.deadline = self._loop.call_later(
                timeout_ms / 1000, self._expire, executor, attempt, definition, timeout_ms
            )
        return attempt

    async def _run(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition) -> None:
        start = attempt.start
        context = AttemptContext(
            run=executor.ref,
            action=start.name,
            step=start.number,
            attempt=start.attempts + 1,
            idempotency_key=f"{executor.ref}/{executor.start_event_id}/{start.number}",
            fencing_token=executor.token,
            log=self._reporter.attempt_log(executor, start),
        )
        fault = self._environment.fault
        try:
            args, kwargs = definition.decode_arguments(start.arguments)
            if fault is not None:
                fault("action.before")
            with attempt_context(context):
                if definition.is_async:
                    value = await definition.fn(*args, **kwargs)
                else:
                    call = contextvars.copy_context().run
                    value = await self._loop.run_in_executor(self._threads, _call, call, definition.fn, args, kwargs)
            if fault is not None:
                fault("action.after")
            result = definition.encode_result(value)
        except asyncio.CancelledError as error:
            if attempt.timed_out:
                self._end(executor, attempt, definition, _timeout_error(attempt, definition))
            elif attempt.abandoned:
                raise
            else:  # not our cancellation: the body cancelled itself
                self._end(executor, attempt, definition, error)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - an attempt's boundary: whatever a body raises is its error
            self._end(executor, attempt, definition, error)
        else:
            self._end(executor, attempt, definition, None, result)

    def _expire(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition, timeout_ms: int) -> None:
        attempt.timed_out = True
        if not definition.is_async:
            # A thread cannot be stopped; the run goes on without it, and its late result is ignored.
            self._end(executor, attempt, definition, _timeout_error(attempt, definition))
        elif attempt.task is not None:
            attempt.task.cancel()
            attempt.deadline = self._loop.call_later(
                _CANCEL_GRACE_S, self._end, executor, attempt, definition, _timeout_error(attempt, definition)
            )

    def _end(
        self,
        executor: RunExecutor,
        attempt: Attempt,
        definition: ActionDefinition | None,
        error: BaseException | None,
        result: bytes = b"",
    ) -> None:
        if attempt.deadline is not None:
            attempt.deadline.cancel()
            attempt.deadline = None
        start = attempt.start
        number = start.attempts + 1
        took_ms = (self._environment.monotonic() - attempt.started_at) * 1000
        if error is None:
            ended = Ended(start.name, start.number, number, took_ms, result)
        else:
            ended = self._judge(executor, start, definition, error, number, took_ms)
        self._reporter.attempt_ended(executor, attempt, ended)

    def _judge(
        self,
        executor: RunExecutor,
        start: StartAction,
        definition: ActionDefinition | None,
        error: BaseException,
        number: int,
        took_ms: float,
    ) -> Ended:
        if definition is None:
            failure = describe(error, ErrorKind.PERMANENT, number)
            return Ended(
                start.name, start.number, number, took_ms, failure=failure, decision=ParkRun(""), rule="unknown action"
            )
        policy: RetryPolicy = (
            _option(start.options, "retry", definition.retry) or self._app.retry or self._default_policy
        )
        app_rules = self._app.retry.rules if self._app.retry is not None else ()
        rules = policy.rules if policy is self._app.retry else (*policy.rules, *app_rules)
        verdict: Verdict = classify(error, rules, now_ms=self._now_ms())
        decision = decide(
            policy,
            verdict,
            attempt=number,
            transient_used=executor.transient_failures(start.number),
            random=self._environment.random,
            default_attempts=self._default_attempts,
        )
        failure = describe(error, verdict.kind, number)
        return Ended(start.name, start.number, number, took_ms, failure=failure, decision=decision, rule=verdict.rule)

    async def stop(self, within_s: float) -> None:
        """Wait for abandoned bodies to end, at most `within_s` seconds; what still runs then is left to the process."""
        running = [task for task in self._running if not task.done()]
        if running:
            await asyncio.wait(running, timeout=within_s)


def _call(
    run: Callable[..., Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, Any] | Any:
    return run(fn, *args, **kwargs)


def _option(options: object | None, name: str, default: Any) -> Any:
    if isinstance(options, CallOptions):
        chosen = getattr(options, name)
        return default if chosen is None else chosen
    return default


def _timeout_error(attempt: Attempt, definition: ActionDefinition) -> ActionTimeout:
    limit = _option(attempt.start.options, "timeout_ms", definition.timeout_ms)
    return ActionTimeout(f"{attempt.start.name} ran longer than its limit of {limit / 1000:g} s")
