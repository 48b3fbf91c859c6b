"""Attempts of actions: context, time limit, loop or thread, and the verdict on what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from workflow_worker.app.actions import ActionDefinition, CallOptions
from workflow_worker.app.attempt import AttemptContext, AttemptLog, enter_attempt, leave_attempt
from workflow_worker.app.recovery import call_recovery
from workflow_worker.app.registry import App
from workflow_worker.errors.classifier import Verdict, classify
from workflow_worker.errors.retry import ParkRun, RetryPolicy, decide
from workflow_worker.model.command import StartAction
from workflow_worker.model.environment import CallLater, Environment
from workflow_worker.model.exceptions import ActionTimeout, UsageError
from workflow_worker.model.failure import ErrorKind, describe
from workflow_worker.model.ids import RunRef
from workflow_worker.model.run import RunView
from workflow_worker.worker.attempt import Attempt, Ended, as_raisable, outcome_of
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.recovering import as_seen, of_recovery

_CANCEL_GRACE_S = 5.0
"""An async body that swallows its cancellation for longer is left behind: its attempt counts as timed out."""

_Begun = tuple[RunExecutor, Attempt, ActionDefinition, "asyncio.Task[None]"]


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

    def attempt_left(self, executor: RunExecutor, attempt: Attempt) -> None:
        """An attempt was given up, and its body goes on for now."""
        ...

    def attempt_hung(self, executor: RunExecutor, attempt: Attempt, hanging: int) -> None:
        """That body does not end; so many bodies do not now."""
        ...

    def attempt_gone(self, executor: RunExecutor, hanging: int) -> None:
        """Such a body has ended after all; so many hang still."""
        ...


class Performer:
    """Runs attempts on the worker's loop (async actions) or in threads (sync ones)."""

    def __init__(
        self,
        app: App,
        environment: Environment,
        reporter: Reporter,
        threads: Executor,
        more_threads: Callable[[], Executor] | None,
        threads_lost_at_most: int,
        max_retries: int,
        now_ms: Callable[[], int],
        look: Callable[[RunRef], Awaitable[RunView | None]] | None = None,
    ) -> None:
        self._app = app
        self._look = look
        self._environment = environment
        self._reporter = reporter
        self._threads = threads
        self._more_threads = more_threads
        self._default_attempts = max_retries + 1
        self._now_ms = now_ms
        self._default_policy = RetryPolicy()
        self._running: set[asyncio.Task[None]] = set()
        self._fresh: list[_Begun] = []
        self._stepped: list[_Begun] = []
        self._left: set[Attempt] = set()
        self._hanging: set[Attempt] = set()
        self._lost_in_threads: set[Attempt] = set()
        self._threads_lost_at_most = threads_lost_at_most
        self._loop = asyncio.get_running_loop()
        self._call_later: CallLater = environment.call_later or self._loop.call_later

    def perform(self, executor: RunExecutor, start: StartAction) -> Attempt:
        """Begin one attempt; its end reaches `RunExecutor.attempt_ended` on this loop."""
        attempt = Attempt(start, self._environment.monotonic(), executor.token)
        definition = self._app.find_action(start.name)
        if definition is not None and start.recovery is not None:
            definition = self._app.find_recovery(start.recovery.action, definition, start.options)
        self._reporter.attempt_started(executor, as_seen(start))
        if definition is None:
            what = f"action {start.name!r}" if start.recovery is None else f"recovery {start.recovery.action!r}"
            error = UsageError(f"{what} is not registered in app {self._app.name!r} of this worker")
            self._loop.call_soon(self._end, executor, attempt, None, error)
            return attempt
        task = self._loop.create_task(self._run(executor, attempt, definition))
        attempt.task = task
        if not self._fresh and not self._stepped:
            self._loop.call_soon(self._watch_fresh)
        self._fresh.append((executor, attempt, definition, task))
        return attempt

    def _watch_fresh(self) -> None:
        """Watch the attempts that have not ended in their first step, as most do: for those a time limit, callbacks and
        a place among the running would be made and thrown away. The first step of whatever is fresh now is queued; so
        it has been made when this is called next."""
        stepped, self._stepped, self._fresh = self._stepped, self._fresh, []
        if self._stepped:
            self._loop.call_soon(self._watch_fresh)
        for executor, attempt, definition, task in stepped:
            if attempt.ended and task.done():
                continue
            if attempt.abandoned:
                self._abandoned(executor, attempt, definition)
            else:
                attempt.on_abandoned = partial(self._abandoned, executor, attempt, definition)
            self._running.add(task)
            task.add_done_callback(partial(self._body_ended, executor, attempt, definition))
            if definition.is_async:
                self._set_deadline(executor, attempt, definition)

    def _set_deadline(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition) -> None:
        """The time limit begins when the body does: a sync one may have waited for a thread."""
        timeout_ms = _limit_ms(attempt.start, definition)
        if timeout_ms is not None and not attempt.abandoned and not attempt.ended:
            attempt.deadline = self._call_later(timeout_ms / 1000, self._expire, executor, attempt, definition)

    def _body_ended(
        self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition, task: asyncio.Task[None]
    ) -> None:
        """No attempt without an end, whatever became of its task."""
        self._running.discard(task)
        if definition.is_async:
            self._gone(executor, attempt)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not attempt.abandoned and not attempt.ended:
            self._end(executor, attempt, definition, error)

    async def _run(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition) -> None:
        start = attempt.start
        fault = self._environment.fault
        try:
            if start.recovery is None:
                args, kwargs = definition.decode_arguments(start.arguments)
            else:
                args, kwargs = self._arguments_of_recovery(start, definition)
            if fault is not None:
                fault("action.before")
            entered = enter_attempt(partial(self._context_of, executor, attempt, executor.start_event_id))
            try:
                if definition.is_async:
                    value = await definition.fn(*args, **kwargs)
                else:
                    value = await self._in_thread(executor, attempt, definition, args, kwargs)
            finally:
                leave_attempt(entered)
            if fault is not None:
                fault("action.after")
            result = definition.encode_result(value) if start.recovery is None else b""
        except asyncio.CancelledError as error:
            if attempt.timed_out:
                self._end(executor, attempt, definition, _timeout_error(attempt, definition))
            elif attempt.abandoned:
                raise
            else:  # not our cancellation: the body cancelled itself
                self._end(executor, attempt, definition, error)
        except BaseException as error:  # noqa: BLE001 - see the next line
            # The boundary of an attempt: whatever a body raises is its error, SystemExit and KeyboardInterrupt (never
            # ours: SIGINT is ignored here) too. Raised on, they would end the worker's loop.
            if not attempt.abandoned and not self._loop.is_closed():
                self._end(executor, attempt, definition, error)
        else:
            self._end(executor, attempt, definition, None, result)

    def _arguments_of_recovery(
        self, start: StartAction, recovery: ActionDefinition
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        failed = self._app.find_action(start.name)
        assert failed is not None
        args, kwargs = failed.decode_arguments(start.arguments)
        return call_recovery(recovery, args, kwargs, failed)

    def _context_of(self, executor: RunExecutor, attempt: Attempt, start_event_id: str) -> AttemptContext:
        """What the body sees of its attempt, made when it first asks: that may be after the run has begun anew."""
        if attempt.context is None:
            start = attempt.start
            key = f"{executor.ref}/{start_event_id}/{start.number}"
            if start.recovery is not None:
                key = f"{key}/recovery-{start.attempts}"
                start = as_seen(start)
            attempt.context = AttemptContext(
                run=executor.ref,
                action=start.name,
                step=start.number,
                attempt=start.attempts + 1,
                idempotency_key=key,
                fencing_token=attempt.token,
                log=self._reporter.attempt_log(executor, start),
                look=self._look,
            )
        return attempt.context

    async def _in_thread(
        self,
        executor: RunExecutor,
        attempt: Attempt,
        definition: ActionDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        loop, run = self._loop, contextvars.copy_context().run

        def begin() -> Any:
            loop.call_soon_threadsafe(self._set_deadline, executor, attempt, definition)
            return run(definition.fn, *args, **kwargs)

        def body() -> tuple[Any, BaseException | None]:
            attempt.in_thread = True
            try:
                return outcome_of(begin)
            finally:
                # In this order: whoever gives it up now sees that it has ended, or is told so.
                attempt.in_thread = False
                if attempt.abandoned or attempt.timed_out:
                    with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended without us
                        loop.call_soon_threadsafe(self._gone, executor, attempt)

        while True:
            threads = self._threads
            try:
                value, error = await loop.run_in_executor(threads, body)
            except asyncio.CancelledError:
                if threads is self._threads or attempt.abandoned or attempt.timed_out or attempt.in_thread:
                    raise
                continue  # it still waited for a thread of the pool that was replaced: nothing of it has run
            if error is not None:
                raise as_raisable(error)
            return value

    def _expire(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition) -> None:
        attempt.timed_out = True
        if not definition.is_async:
            self._give_up(executor, attempt, definition)
        elif attempt.task is not None:
            attempt.task.cancel()
            attempt.ends_by = self._environment.monotonic() + _CANCEL_GRACE_S
            attempt.deadline = self._call_later(_CANCEL_GRACE_S, self._give_up, executor, attempt, definition)

    def _give_up(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition) -> None:
        """The run goes on without the body; its late result is ignored, and its fencing token will be an old one."""
        if definition.is_async or attempt.in_thread:
            self._leave(executor, attempt)
            self._hangs(executor, attempt)
        self._end(executor, attempt, definition, _timeout_error(attempt, definition))
        if not definition.is_async and attempt.task is not None:
            attempt.task.cancel()  # it only waits for the thread, which tells its end by itself

    def _abandoned(self, executor: RunExecutor, attempt: Attempt, definition: ActionDefinition) -> None:
        """Nobody waits for the body any more. It has a while to end, from the first time that it was told to; a thread
        cannot be told."""
        if attempt.in_thread:
            self._leave(executor, attempt)
        if attempt.in_thread or definition.is_async:
            now = self._environment.monotonic()
            left_s = _CANCEL_GRACE_S if attempt.ends_by is None else max(0.0, attempt.ends_by - now)
            self._loop.call_later(left_s, self._look_after, executor, attempt)

    def _look_after(self, executor: RunExecutor, attempt: Attempt) -> None:
        if attempt.runs_on:
            self._leave(executor, attempt)
            self._hangs(executor, attempt)

    def _leave(self, executor: RunExecutor, attempt: Attempt) -> None:
        self._left.add(attempt)
        if attempt.in_thread:
            self._lost_in_threads.add(attempt)
            self._replace_threads()
        self._reporter.attempt_left(executor, attempt)

    def _hangs(self, executor: RunExecutor, attempt: Attempt) -> None:
        if attempt not in self._hanging:
            self._hanging.add(attempt)
            self._reporter.attempt_hung(executor, attempt, len(self._hanging))

    def _gone(self, executor: RunExecutor, attempt: Attempt) -> None:
        self._lost_in_threads.discard(attempt)
        if attempt in self._left:
            self._left.discard(attempt)
            self._hanging.discard(attempt)
            self._reporter.attempt_gone(executor, len(self._hanging))

    def _end(
        self,
        executor: RunExecutor,
        attempt: Attempt,
        definition: ActionDefinition | None,
        error: BaseException | None,
        result: bytes = b"",
    ) -> None:
        if attempt.ended:
            return
        attempt.ended = True
        attempt.on_abandoned = None  # it holds the attempt: a cycle for each would be the collector's
        if attempt.deadline is not None:
            attempt.deadline.cancel()
            attempt.deadline = None
        start = as_seen(attempt.start)
        number = start.attempts + 1
        took_ms = (self._environment.monotonic() - attempt.started_at) * 1000
        if error is None:
            ended = Ended(start.name, start.number, number, took_ms, result)
        else:
            ended = self._judge_safely(executor, start, definition, error, number, took_ms)
            if start.recovery is not None:
                ended = of_recovery(ended, start.recovery, attempt.start.name)
        self._reporter.attempt_ended(executor, attempt, ended)

    def _judge_safely(
        self,
        executor: RunExecutor,
        start: StartAction,
        definition: ActionDefinition | None,
        error: BaseException,
        number: int,
        took_ms: float,
    ) -> Ended:
        """The verdict; rules are authors' code, and one that fails must not leave an attempt without an end."""
        try:
            return self._judge(executor, start, definition, error, number, took_ms)
        except Exception as broken:  # noqa: BLE001 - see above
            broken.add_note(f"while classifying {type(error).__qualname__}")
            failure = describe(broken, ErrorKind.PERMANENT, number)
            return Ended(
                start.name, start.number, number, took_ms, failure=failure, decision=ParkRun(), rule="broken rule"
            )

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
        own = definition.retry if start.recovery is not None else _option(start.options, "retry", definition.retry)
        policy: RetryPolicy = own or self._app.retry or self._default_policy
        app_rules = self._app.retry.rules if self._app.retry is not None else ()
        rules = policy.rules if policy is self._app.retry else (*policy.rules, *app_rules)
        verdict: Verdict = classify(error, rules, now_ms=self._now_ms())
        decision = decide(
            policy,
            verdict,
            attempt=number,
            transient_used=executor.transient_failures(start.number) if start.recovery is None else start.attempts,
            random=self._environment.random,
            default_attempts=self._default_attempts,
        )
        failure = describe(error, verdict.kind, number)
        return Ended(start.name, start.number, number, took_ms, failure=failure, decision=decision, rule=verdict.rule)

    def _replace_threads(self) -> None:
        """Bodies that outlive their time limit keep their threads; when they may hold all, others get new ones."""
        if self._more_threads is not None and len(self._lost_in_threads) >= self._threads_lost_at_most:
            self._lost_in_threads.clear()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = self._more_threads()

    @property
    def running(self) -> frozenset[asyncio.Task[None]]:
        """The tasks of all bodies that have not ended, abandoned ones too."""
        return frozenset(self._running.union([task for *_, task in (*self._fresh, *self._stepped) if not task.done()]))

    def close(self) -> None:
        """Take no attempts any more; bodies in threads of our own go on unheard."""
        if self._more_threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def stop(self, within_s: float) -> None:
        """Wait for abandoned bodies to end, at most `within_s` seconds; what still runs then is left to the process."""
        running = [task for task in self.running if not task.done()]
        if running:
            await asyncio.wait(running, timeout=within_s)


def _option(options: object | None, name: str, default: Any) -> Any:
    if isinstance(options, CallOptions):
        chosen = getattr(options, name)
        return default if chosen is None else chosen
    return default


def _limit_ms(start: StartAction, definition: ActionDefinition) -> int | None:
    """The time limit of an attempt; what a call changes of its action's does not hold for a recovery."""
    return definition.timeout_ms if start.recovery else _option(start.options, "timeout_ms", definition.timeout_ms)


def _timeout_error(attempt: Attempt, definition: ActionDefinition) -> ActionTimeout:
    limit = _limit_ms(attempt.start, definition)
    assert limit is not None
    return ActionTimeout(f"{as_seen(attempt.start).name} ran longer than its limit of {limit / 1000:g} s")
