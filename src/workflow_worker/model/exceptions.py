"""The project's exception tree, by who must act. Lowest layer, because everything may raise."""

from __future__ import annotations


class WorkflowWorkerError(Exception):
    """Root of all that this package raises, except control flow that user code must not swallow."""


class UsageError(WorkflowWorkerError):
    """The author called us in a way that cannot work; the message says what to write instead."""


class ConfigurationError(WorkflowWorkerError):
    """The operator must change a setting or the server before this can work."""


class NonDeterminism(WorkflowWorkerError):
    """The workflow's code no longer does what its history says; the run is suspended until a person decides."""


class Deadlock(UsageError):
    """Workflow code waits for something that nobody outside can do, such as an `asyncio.Event` that no task sets."""


class EventRejected(WorkflowWorkerError):
    """An event does not fit its declared class or the limits; it becomes a dead letter with this reason."""


class NotFound(WorkflowWorkerError):
    """There is no such run, dead letter or definition."""


class Refused(WorkflowWorkerError):
    """The store refused an operation, because of the state that it found; the message names that state."""


class StoreUnavailable(WorkflowWorkerError):
    """Redis did not answer, or not usefully; nobody's fault yet, and never an attempt of an action."""


class StoreFull(WorkflowWorkerError):
    """The server's memory is nearly used up: no event is taken that would start a run; nothing was added. Publish again
    when there is room, with the same id."""


class LeaseLost(WorkflowWorkerError):
    """Another session holds the run now; what this worker was about to write is void."""


class Failed(WorkflowWorkerError):
    """Raised by an author's workflow to end its run as ``failed``: a business outcome, not an accident."""


class RunTimeout(Failed):
    """A run took longer than its workflow's ``timeout=``."""


class ChildFailed(Failed):
    """A child workflow did not complete. Not caught, it fails the parent too.

    `run` is the child's full name, `status` how it ended (``failed``, ``cancelled``), `failure` what it failed with.
    """

    def __init__(self, run: str, status: str, failure: object) -> None:
        super().__init__(f"child {run} {status}: {failure}")
        self.run = run
        self.status = status
        self.failure = failure


class ActionFailed(WorkflowWorkerError):
    """An action's recorded error whose own class cannot be rebuilt; `failure` has what is known."""

    def __init__(self, failure: object) -> None:
        super().__init__(str(failure))
        self.failure = failure

    def matches(self, error_class: type[BaseException]) -> bool:
        """Tell whether the recorded error was of this class, by its qualified name."""
        name = f"{error_class.__module__}.{error_class.__qualname__}"
        return getattr(self.failure, "type", None) == name


class ActionCancelled(WorkflowWorkerError):
    """An action ended by cancellation on its own; the workflow itself was not cancelled."""


class ActionTimeout(TimeoutError):
    """An attempt ran longer than its action's time limit."""


class Evicted(BaseException):
    """A run in memory is being destroyed; not an `Exception`, so that workflow code does not catch it by accident."""


class ContinueAsNew(BaseException):
    """Leaves a workflow that begins again with another input; not an `Exception`, as `Evicted` is not."""

    def __init__(self, data: bytes) -> None:
        super().__init__("the run continues as new")
        self.data = data
