"""`RunExecutor` without a worker: what it asks of its host, and what its commits hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest

from workflow_worker import App, wf
from workflow_worker.errors.retry import RetryIn
from workflow_worker.model.command import StartAction
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.failure import Failure
from workflow_worker.model.ids import CANCEL_TYPE, NO_COMMIT, CommitId, RunRef, SessionId
from workflow_worker.model.record import (
    EventReceived,
    Record,
    RunCompleted,
    RunResumed,
    RunStarted,
    RunSuspended,
    decode_record,
    encode_record,
)
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime import ordering
from workflow_worker.runtime.closing import Graveyard
from workflow_worker.store.transitions import Commit, CommitOutcome, CommitWord, LeasedRun, Loaded, Mode
from workflow_worker.worker.attempt import Attempt, Ended
from workflow_worker.worker.executor import RunExecutor
from workflow_worker.worker.limits import WorkerLimits
from workflow_worker.worker.progress import Progress

NOW = 1_764_000_000_000
REF = RunRef("job:1")


@dataclass(frozen=True)
class Go:
    how: str


@dataclass(frozen=True)
class Note:
    text: str = ""


def make_app() -> App:
    app = App("unit")
    app.event("go")(Go)
    app.event("note")(Note)

    @app.action
    async def work() -> int:
        return 1

    @app.action
    async def other() -> int:
        return 2

    @app.workflow(on=Go, id="{id}")
    async def job(go: Go) -> str:
        match go.how:
            case "bug":
                raise RuntimeError("a bug")
            case "deadlock":
                await asyncio.Event().wait()
            case "work":
                await work()
            case "alternate":
                for subject in ("a", "b", "a"):
                    await wf.wait_for(Note, subject=subject)
            case "race":
                second = asyncio.create_task(noted())
                await work()
                second.cancel()
                await wf.wait_for(Note)
            case _:
                pass
        return "done"

    async def noted() -> None:
        await wf.wait_for(Note)
        await other()

    assert job.name == "job"
    return app


@dataclass
class FakeHost:
    """Notes what an executor asks for."""

    app: App = field(default_factory=make_app)
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    release: str = "test"
    session: SessionId = SessionId("s")  # noqa: RUF009 - a NewType of str
    draining: bool = False
    graveyard: Graveyard = field(default_factory=Graveyard)
    asked: int = 0
    commits: int = 0
    performed: list[str] = field(default_factory=list[str])
    events: list[str] = field(default_factory=list[str])
    rested: list[RunStatus] = field(default_factory=list[RunStatus])
    given_back: int = 0
    lost: list[str] = field(default_factory=list[str])
    attempt: Attempt | None = None
    now: int = NOW

    def now_ms(self) -> int:
        return self.now

    def next_commit_id(self) -> CommitId:
        self.commits += 1
        return CommitId(f"s/{self.commits}")

    def perform(self, executor: RunExecutor, start: StartAction) -> Attempt:
        self.performed.append(start.name)
        self.attempt = Attempt(start, 0.0)
        return self.attempt

    def ask_commit(self, executor: RunExecutor) -> None:
        self.asked += 1

    def call_at(self, due_ms: int, executor: RunExecutor) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(3_600, lambda: None)

    def recorded(self, executor: RunExecutor, progress: Progress, failed: bool) -> None:
        self.events += [entry for entry, _, _ in progress.events]

    def rejected(self, ref: RunRef, entry: str, reason: str) -> None:
        raise AssertionError(reason)

    def ended_attempt(self, executor: RunExecutor, ended: Ended) -> None:
        assert (ended.failure is None) is (ended.decision is None)

    def rest(self, executor: RunExecutor, status: RunStatus, failure: Failure | None) -> None:
        self.rested.append(status)

    def give_back(self, executor: RunExecutor, delay_ms: int = 0) -> None:
        self.given_back += 1

    def lose(self, executor: RunExecutor, word: str) -> None:
        self.lost.append(word)


def note(entry: str, subject: str | None = None) -> Mail:
    return Mail(entry, Event(entry, "note", subject, b"{}"))


CANCEL = Mail("9-0", Event("9-0", CANCEL_TYPE, data=b'{"by": "ann", "reason": ""}'))


def start_of(how: str) -> Mail:
    return Mail("1-0", Event("1", "go", None, msgspec.json.encode(Go(how))))


def leased(how: str, cid: CommitId = NO_COMMIT, *mail: Mail) -> LeasedRun:
    return LeasedRun(REF, 7, cid, 1, NOW, 0, None if cid else start_of(how), mail)


def begin(host: FakeHost, how: str, *mail: Mail) -> RunExecutor:
    executor = RunExecutor(host, leased(how), 0.0)
    definition = host.app.find_workflow("job", 1)
    assert definition is not None
    executor.begin(leased(how, NO_COMMIT, *mail), definition)
    return executor


def loaded(how: str, history: list[Record], *mail: Mail) -> Loaded:
    return Loaded(NOW, CommitId("c"), start_of(how), NOW, tuple(map(encode_record, history)), mail, ())


def replay(host: FakeHost, how: str, history: list[Record], *mail: Mail) -> RunExecutor:
    executor = RunExecutor(host, leased(how, CommitId("c")), 0.0)
    definition = host.app.find_workflow("job", 1)
    assert definition is not None
    executor.replay(loaded(how, history, *mail), definition)
    return executor


def kinds(commit: Commit) -> list[str]:
    return [type(decode_record(raw)).__name__ for raw in commit.records]


@pytest.fixture(autouse=True)
def install() -> None:  # pyright: ignore[reportUnusedFunction] - a fixture
    ordering.install()


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.mark.parametrize("draining", [False, True])
def test_a_run_whose_history_is_being_loaded_asks_for_nothing(host: FakeHost, draining: bool) -> None:
    # A drain and a hint come at any time; a commit then would release the run as waiting, without its action.
    executor = RunExecutor(host, leased("work", CommitId("c")), 0.0)
    host.draining = draining
    executor.settle()
    executor.poll_mail()
    assert (host.asked, host.given_back) == (0, 0)
    executor.close()


def test_a_drain_gives_a_loaded_run_with_an_action_to_start_back(host: FakeHost) -> None:
    host.draining = True
    executor = replay(host, "work", [RunStarted(NOW, "3.11", "test")])
    assert (host.given_back, host.performed, host.asked) == (1, [], 0)
    executor.close()


def test_a_wait_that_ended_and_began_again_between_two_commits_is_added_and_not_removed(host: FakeHost) -> None:
    executor = begin(host, "alternate", note("2-0", "a"), note("3-0", "b"))
    commit = executor.build_commit()
    assert commit.waits_added == (("note", "a"),)
    assert ("note", "a") not in commit.waits_removed
    executor.close()


def test_an_end_refused_because_of_mail_is_recorded_once_behind_that_mail(host: FakeHost) -> None:
    executor = begin(host, "plain")
    first = executor.build_commit()
    assert (first.mode, kinds(first)) == (Mode.END, ["RunStarted", "RunCompleted"])
    executor.commit_answered(CommitOutcome("mail", True, (note("2-0"),), NOW))
    second = executor.build_commit()
    assert kinds(second) == ["RunStarted", "EventReceived", "RunCompleted"]
    last = decode_record(second.records[-1])
    assert isinstance(last, RunCompleted)
    assert last.unmatched == ("2-0",)
    executor.close()


@pytest.mark.parametrize(("most", "said"), [(2, True), (3, False), (0, False)])
def test_a_history_that_has_become_long_is_complained_about(host: FakeHost, most: int, said: bool) -> None:
    host.limits = WorkerLimits(history_warn_records=most)
    other = EventReceived(NOW, "2-0", note("2-0").event)
    executor = replay(host, "work", [RunStarted(NOW, "3.11", "test"), other])
    found = [f"the history has 2 records (HISTORY_WARN_RECORDS is {most}): use wf.continue_as_new, or several runs"]
    assert list(executor.complaints) == (found if said else [])
    executor.close()


def test_a_cancel_ends_a_run_that_its_own_code_suspended(host: FakeHost) -> None:
    failure = Failure(type="RuntimeError", message="a bug")
    history: list[Record] = [RunStarted(NOW, "3.11", "test"), RunSuspended(NOW, failure)]
    executor = replay(host, "bug", history, CANCEL)
    commit = executor.build_commit()
    assert (commit.mode, commit.status) == (Mode.END, RunStatus.CANCELLED)
    assert kinds(commit) == ["CancelRequested", "RunCancelled"]
    executor.close()


def test_a_cancel_reaches_the_code_of_a_deadlocked_run(host: FakeHost) -> None:
    executor = replay(host, "deadlock", [RunStarted(NOW, "3.11", "test")], CANCEL)
    assert executor.build_commit().status is RunStatus.CANCELLED
    executor.close()


def test_a_hint_during_a_commit_is_followed_by_another_commit(host: FakeHost) -> None:
    executor = begin(host, "work", note("2-0"))
    assert executor.build_commit().mode is Mode.KEEP
    executor.poll_mail()
    asked = host.asked
    executor.commit_answered(CommitOutcome("ok", True, (), NOW))
    assert host.asked == asked + 1
    executor.close()


def test_a_commit_that_brought_the_mail_makes_the_hint_good(host: FakeHost) -> None:
    executor = begin(host, "work", note("2-0"))
    executor.build_commit()
    executor.poll_mail()
    executor.commit_answered(CommitOutcome("ok", True, (note("3-0"),), NOW))
    taken = executor.build_commit()
    assert [type(decode_record(raw)) for raw in taken.records] == [EventReceived]
    asked = host.asked
    executor.commit_answered(CommitOutcome("ok", True, (), NOW))
    assert host.asked == asked
    executor.close()


def test_a_run_resumed_before_its_first_commit_still_records_its_start(host: FakeHost) -> None:
    executor = replay(host, "plain", [RunResumed(NOW, "ann")])
    commit = executor.build_commit()
    assert kinds(commit) == ["RunStarted", "RunCompleted"]
    executor.commit_answered(CommitOutcome("ok", False, (), NOW))
    assert host.events == ["1-0"]
    executor.close()


def test_events_of_a_commit_whose_lease_went_meanwhile_are_counted(host: FakeHost) -> None:
    executor = begin(host, "work", note("2-0"))
    executor.build_commit()
    executor.close()
    executor.count_accepted()
    assert host.events == ["1-0", "2-0"]


def test_an_action_that_was_given_up_during_the_commit_does_not_start_after_it(host: FakeHost) -> None:
    executor = begin(host, "race")
    attempt = host.attempt
    assert attempt is not None
    executor.take_mail((note("2-0"),))
    assert executor.build_commit().mode is Mode.KEEP  # ``other`` waits for this commit
    executor.attempt_ended(attempt, Ended("work", attempt.start.number, 1, 1.0, msgspec.msgpack.encode(1)))
    executor.commit_answered(CommitOutcome("ok", True, (), NOW))
    assert host.performed == ["work"]
    executor.close()


def time_out(host: FakeHost, executor: RunExecutor, *, left: bool, delay_ms: int = 0) -> None:
    """The attempt under way runs into its limit; its body runs on or not. It is tried again in `delay_ms`."""
    attempt = host.attempt
    assert attempt is not None
    attempt.timed_out = True
    if left:
        executor.note_left(attempt)
    start = attempt.start
    failure = Failure(type="ActionTimeout", message="slow")
    ended = Ended(start.name, start.number, start.attempts + 1, 1.0, failure=failure, decision=RetryIn(delay_ms))
    executor.attempt_ended(attempt, ended)


@pytest.mark.parametrize("left", [False, True])
def test_a_body_that_runs_on_is_fenced_before_the_next_attempt(host: FakeHost, left: bool) -> None:
    executor = begin(host, "work")
    time_out(host, executor, left=left)
    commit = executor.build_commit()
    assert (commit.mode, kinds(commit)) == (Mode.KEEP, ["RunStarted", "AttemptFailed"])
    executor.commit_answered(CommitOutcome("ok", True, (), NOW))
    assert host.performed == (["work"] if left else ["work", "work"])
    assert host.given_back == left
    executor.close()


async def test_a_run_with_a_body_that_runs_on_is_released_until_its_retry_however_near_that_is(host: FakeHost) -> None:
    executor = begin(host, "work")
    time_out(host, executor, left=True, delay_ms=host.limits.linger_ms // 2)
    commit = executor.build_commit()
    assert (commit.mode, commit.status, commit.wake) == (Mode.RELEASE, RunStatus.WAITING, NOW + 50)
    executor.close()


async def test_another_lease_is_the_fence(host: FakeHost) -> None:
    executor = begin(host, "work")
    time_out(host, executor, left=True, delay_ms=50)
    executor.build_commit()
    executor.commit_answered(CommitOutcome("ok", False, (), NOW))
    assert host.rested == [RunStatus.WAITING]
    host.now = NOW + 50
    executor.lease(8)
    executor.resume(LeasedRun(REF, 8, executor.base, 1, NOW, 0, None, ()), 1.0)
    assert host.performed == ["work", "work"]
    assert (host.given_back, executor.token) == (0, 8)
    executor.close()


def test_a_cancelled_body_is_forgiven_when_it_ends(host: FakeHost) -> None:
    executor = begin(host, "race")
    attempt = host.attempt
    assert attempt is not None
    other = Attempt(attempt.start, 0.0, executor.token)
    other.in_thread = True
    executor.note_left(other)
    executor.attempt_ended(attempt, Ended("work", attempt.start.number, 1, 1.0, msgspec.msgpack.encode(1)))
    executor.take_mail((note("2-0"),))
    executor.build_commit()
    other.in_thread = False
    executor.commit_answered(CommitOutcome("ok", True, (), NOW))
    executor.settle()
    assert host.given_back == 0
    executor.close()


@pytest.mark.parametrize(
    ("word", "given_back", "lost"),
    [("conflict", 1, []), ("fenced", 0, ["fenced"]), ("gone", 0, ["gone"])],
)
def test_a_refused_commit_ends_the_lease_and_nothing_of_it_counts(
    host: FakeHost, word: CommitWord, given_back: int, lost: list[str]
) -> None:
    executor = begin(host, "work", note("2-0"))
    executor.build_commit()
    executor.commit_answered(CommitOutcome(word))
    assert (host.given_back, host.lost) == (given_back, lost)
    assert host.events == []
    assert host.performed == []
