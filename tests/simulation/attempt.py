"""One leased run in a simulated worker: load or cache, mail taken in at once, write ahead, step, commit, release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from tests.simulation.kernel import Kernel
from tests.simulation.programs import ANSWER, UNDO, Demand, Record, Wait, Wish, decode, demand, encode
from tests.simulation.server import UNANSWERED, Answer, Server
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import CommitId, RunRef, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.transitions import REJECT_START, Commit, CommitOutcome, Emit, LeasedRun, Loaded, Mode

BAD = b'"bad"'
"""Data that does not fit its declared class."""


@dataclass(frozen=True)
class Cached:
    """A run at rest, as this worker saw it last."""

    subject: str | None
    records: list[Record]
    waits: set[Wait]


class Holder(Protocol):
    """What an attempt needs of the worker that holds its run."""

    kernel: Kernel
    server: Server
    session: SessionId
    open: bool
    table: dict[RunRef, Attempt]
    cache: dict[tuple[RunRef, CommitId], Cached]

    def after(self, delay: int, do: Callable[[], None]) -> None: ...
    def call(self, verb: str, arguments: tuple[object, ...], answer: Answer) -> None: ...
    def pump(self) -> None: ...
    def kill(self) -> None: ...
    def next_commit_id(self) -> CommitId: ...
    def submit(self, attempt: Attempt, commit: Commit) -> None: ...


class Attempt:
    """What the worker has of a run between lease and release. `records` are committed, `fresh` are not yet."""

    def __init__(self, worker: Holder, leased: LeasedRun) -> None:
        self.worker = worker
        self.kernel = worker.kernel
        self.ref: RunRef = leased.ref
        self.token = leased.token
        self.cid = leased.cid
        self.start = leased.start
        self.subject = leased.start.event.subject if leased.start else None
        self.box: list[Mail] = list(leased.mail)
        self.records: list[Record] = []
        self.fresh: list[Record] = []
        self.taken: list[str] = []
        self.rejects: list[tuple[str, str]] = []
        self.waits: set[Wait] = set()
        self.step: int | None = None
        self.tag = 0
        self.state: Literal["loading", "idle", "lingering", "committing"] = "loading"
        self.mail_wanted = False
        self.finished_step: int | None = None

    @property
    def mine(self) -> bool:
        """Whether the worker still has this attempt of the run."""
        return self.worker.open and self.worker.table.get(self.ref) is self

    # ---- begin and leave
    def begin(self) -> None:
        """Go on from the cache when the run's last commit is the one that it saw; from the store else."""
        cached = self.worker.cache.get((self.ref, self.cid))
        if cached is not None:
            self.kernel.counts["cache hits"] += 1
            self.subject, self.records, self.waits = cached.subject, list(cached.records), set(cached.waits)
        elif self.cid:
            self._load()
            return
        self.state = "idle"
        self.go()

    def _load(self) -> None:
        def loaded(outcome: object) -> None:
            if not self.mine:
                return
            if outcome is UNANSWERED:
                self._load()
                return
            [found] = cast("list[Loaded | None]", outcome)
            if found is None:
                self.drop()
                return
            self.cid, self.start = found.cid, found.start
            self.subject = found.start.event.subject
            self.box, self.waits = list(found.mail), set(found.waits)
            self.records = [decode(raw) for raw in found.records]
            self.state = "idle"
            self.go()

        self.worker.call("load", (self.worker.session, ((self.ref, self.token),)), loaded)

    def drop(self) -> None:
        """Forget the run, and what the cache has of it."""
        if self.worker.table.get(self.ref) is self:
            del self.worker.table[self.ref]
        self.worker.after(1, self.worker.pump)

    def hand_back(self, delay: int) -> None:
        """Trouble of the run as a whole: drop it and give it up."""
        if not self.mine:
            return
        self.drop()
        session = self.worker.session

        def give(tries: int) -> None:
            def given(outcome: object) -> None:
                if outcome is UNANSWERED and tries < 3:
                    give(tries + 1)

            self.worker.call("hand_back", (session, self.ref, self.token, delay), given)

        give(0)

    # ---- drive
    def go(self) -> None:
        """Take mail in, fire due timers, then do what the workflow asks for."""
        if not self.mine or self.state == "committing":
            return None
        self._take_in()
        if self.start is not None and self.start.event.data == BAD and not self.records:
            self.rejects.append((REJECT_START, "does not fit"))
            return self._commit(Mode.END, RunStatus.FAILED)
        wants = self._wants()
        while wants.wake is not None and wants.wake <= self.worker.server.now():
            self.fresh.append(("timer",))
            wants = self._wants()
        if self.step is not None and self.step != wants.step:
            self.step, self.tag = None, self.tag + 1  # the attempt of the action is cancelled
        if self.finished_step is not None:
            return self._finish_step()
        if wants.end is not None:
            return self._commit(Mode.END, RunStatus(wants.end))
        if wants.round is not None:
            return self._begin_round(wants.round)
        dirty = bool(self.fresh or self.taken or self.mail_wanted) or wants.waits != self.waits
        if wants.step is not None:
            if dirty:
                return self._commit(Mode.KEEP, RunStatus.RUNNING)  # write ahead
            return self._act(wants.step) if self.step is None else None
        return self._rest(wants, dirty=dirty)

    def _rest(self, wants: Demand, *, dirty: bool) -> None:
        """Only mail or a timer is awaited: release, sometimes a while later."""
        if dirty and self.kernel.chance(0.3):
            return self._commit(Mode.KEEP, RunStatus.RUNNING)
        if not dirty and self.state != "lingering" and self.kernel.chance(0.2):
            self.state = "lingering"
            return self.worker.after(self.kernel.between(10, 300), self._end_lingering)
        if self.state == "lingering":
            return None
        return self._commit(Mode.RELEASE, RunStatus.WAITING, wake=wants.wake)

    def _end_lingering(self) -> None:
        if self.mine and self.state == "lingering":
            self.state = "idle"
            self.go()

    def _wants(self) -> Demand:
        return demand(self.ref, self.subject, self.records + self.fresh)

    def _take_in(self) -> None:
        for mail in self.box:
            self.taken.append(mail.entry)
            if mail.event.data == BAD:
                self.rejects.append((mail.entry, "does not fit"))
            else:
                self.fresh.append(("mail", mail.entry, mail.event.type, mail.event.subject))
        self.box = []

    # ---- actions
    def _act(self, step: int) -> None:
        kernel, quiet = self.kernel, self.worker.server.quiet
        self.step, self.tag = step, self.tag + 1
        tag = self.tag
        if not quiet and kernel.chance(0.02):
            return self.hand_back(kernel.random.choice([0, 100, 500]))
        if not quiet and self.ref.startswith("P:") and kernel.chance(0.8):
            kernel.counts["poison"] += 1
            return self.worker.after(0, self.worker.kill)
        return self.worker.after(
            kernel.random.choice([kernel.between(1, 20), kernel.between(20, 150)]), lambda: self._acted(step, tag)
        )

    def _acted(self, step: int, tag: int) -> None:
        if not self.mine or self.tag != tag:
            return
        self.finished_step = step
        if self.state != "committing":
            self._finish_step()

    def _finish_step(self) -> None:
        step = self.finished_step
        assert step is not None
        self.finished_step, self.step = None, None
        if self._wants().step != step:
            return self.go()
        if step != UNDO and not self.worker.server.quiet and self.kernel.chance(0.05):
            self.fresh.append(("fail", step))
            return self._commit(Mode.RELEASE, RunStatus.SUSPENDED)
        self.fresh.append(("step", step, self.worker.server.now()))
        return self.go()

    def fetch_mail(self) -> None:
        """A hint: commit what there is, and get the mail with the answer."""
        if not self.mine:
            return
        self.mail_wanted = True
        if self.state == "lingering" or (self.state == "idle" and self.step is not None):
            self.state = "idle"
            self._commit(Mode.KEEP, RunStatus.RUNNING)

    # ---- commits
    def _begin_round(self, number: int) -> None:
        """Continue as new: the new history begins with the mail of this commit and the number of the round."""
        carried = [record for record in self.fresh if record[0] == "mail"]
        self._commit(Mode.KEEP, RunStatus.RUNNING, begins=[*carried, ("round", number)])

    def _commit(
        self, mode: Mode, status: RunStatus, *, wake: int | None = None, begins: list[Record] | None = None
    ) -> None:
        """`begins` is what a new history begins with, where this commit begins one."""
        before = demand(self.ref, self.subject, self.records)
        wants = self._wants()
        forgetful = self.kernel.chance(0.1)  # emits all anew, as after a retry from an earlier step
        waits = self.waits if mode is Mode.END else wants.waits
        cid = self.worker.next_commit_id()
        restart = None if begins is None else Mail("round", Event(f"{self.ref}~{cid}", "r", self.subject, b'"ok"'))
        commit = Commit(
            ref=self.ref,
            session=self.worker.session,
            token=self.token,
            base=self.cid,
            cid=cid,
            records=tuple(map(encode, self.fresh if begins is None else begins)),
            status=status,
            mode=mode,
            taken=len(self.taken),
            last_taken=self.taken[-1] if self.taken else "",
            rejects=tuple(self.rejects),
            waits_added=tuple(sorted(waits - self.waits)),
            waits_removed=tuple(sorted(self.waits - waits)),
            emits=tuple(map(self._emit, wants.emits[0 if forgetful else len(before.emits) :])),
            wake=wake,
            restart=restart,
            began_at=None if restart is None or self.kernel.chance(0.5) else self.worker.server.now(),
        )
        self.state, self.mail_wanted = "committing", False
        self.worker.submit(self, commit)

    def _emit(self, wish: Wish) -> Emit:
        workflow, run = wish.to or (None, None)
        subject = None if wish.type == ANSWER and wish.delay else self.subject
        return Emit(wish.number, Event("", wish.type, subject, b'"ok"'), workflow, run, wish.delay)

    def answered(self, commit: Commit, outcome: CommitOutcome) -> None:
        """What the store said of this attempt's commit."""
        if not self.mine:
            return None
        self.state = "idle"
        if outcome.word in ("gone", "fenced"):
            return self.drop()
        if outcome.word == "conflict":
            return self.hand_back(0)
        if outcome.word == "mail":
            self.box = list(outcome.mail)
            if commit.status is RunStatus.SUSPENDED:
                return self._fail_with_mail(commit)
            if self.rejects and self.rejects[-1][0] == REJECT_START:
                self.rejects.pop()
            return self.go()
        self._accepted(commit)
        if not outcome.held:
            if commit.mode is Mode.RELEASE and outcome.word == "ok":
                self._remember()
            return self.drop()
        self.box = list(outcome.mail)
        return self.go()

    def _fail_with_mail(self, commit: Commit) -> None:
        """The failure stands; the mail is taken in first, unless it changes what the workflow wants."""
        self._take_in()
        failed = decode(commit.records[-1])
        if self._wants().step == failed[1]:
            return self._commit(Mode.RELEASE, RunStatus.SUSPENDED)
        return self.go()

    def _accepted(self, commit: Commit) -> None:
        if commit.restart is None:
            self.records = self.records + self.fresh
        else:
            self.records = list(map(decode, commit.records))
            self.kernel.counts["rounds"] += 1
        self.fresh, self.taken, self.rejects = [], [], []
        self.waits = (self.waits | set(commit.waits_added)) - set(commit.waits_removed)
        self.cid = commit.cid

    def _remember(self) -> None:
        self.worker.cache[self.ref, self.cid] = Cached(self.subject, list(self.records), set(self.waits))
