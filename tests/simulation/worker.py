"""One simulated worker: the behaviour that the protocol asks of a worker, with its processes killed and paused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tests.simulation.attempt import Attempt, Cached
from tests.simulation.programs import LATER_ROUTES, ROUTES
from tests.simulation.server import UNANSWERED, Answer, Server
from workflow_worker.model.ids import CommitId, RunRef, SessionId
from workflow_worker.store.transitions import (
    Commit,
    CommitOutcome,
    Ingest,
    Ingested,
    LeasedRun,
    Registration,
    Renewed,
    SessionLost,
    Stale,
    Unregistered,
)

BATCH = 8
EVERYBODY_KNOWS = ("A@1", "B@1", "D@1", "P@1", "H@1", "K@1", "R@1")


class Worker:
    """A process with a loop and a keeper thread. `life` numbers its processes: code of a dead one never runs."""

    def __init__(self, server: Server, number: int, *, deployed: bool) -> None:
        self.server = server
        self.kernel = server.kernel
        self.name = f"w{number}"
        self.number = number
        self.life = 0
        self.incarnation = 0
        self.paused_until = 0
        self.loop_paused_until = 0
        self.session = SessionId("")
        self.slots = self.kernel.between(1, 5)
        self._knows_c = number == 0 or self.kernel.chance(0.66)
        self._unknown = {kind for kind in EVERYBODY_KNOWS if number and self.kernel.chance(0.12)}
        self._forgets_the_first = self.kernel.chance(0.3)
        self._deployed = deployed
        self.start()

    # ---- a process: its code runs only while it lives, and not while it is paused
    def run(self, life: int, do: Callable[[], None], *, loop: bool = True) -> None:
        """Run code of one life: on the loop, or on the keeper's thread, which goes on while the loop stands still."""
        if life != self.life:
            return
        until = max(self.paused_until, self.loop_paused_until if loop else 0)
        if until > self.kernel.now:
            self.kernel.at(until, lambda: self.run(life, do, loop=loop))
        else:
            do()

    def after(self, delay: int, do: Callable[[], None], *, loop: bool = True) -> None:
        """Do something later, in this life."""
        life = self.life
        self.kernel.after(delay, lambda: self.run(life, do, loop=loop))

    def call(self, verb: str, arguments: tuple[object, ...], answer: Answer, *, loop: bool = True) -> None:
        """Ask the server; the answer comes to this life or to nobody."""
        life = self.life
        self.server.call(verb, arguments, lambda outcome: self.run(life, lambda: answer(outcome), loop=loop))

    def start(self) -> None:
        """A new process: empty memory, a new session, a keeper."""
        self.life += 1
        self.cache: dict[tuple[RunRef, CommitId], Cached] = {}
        self._begin()
        self._keep()

    def kill(self) -> None:
        """The process is gone at once; another starts a while later."""
        self.life += 1
        self.session = SessionId("")
        self.kernel.after(self.kernel.between(20, 1_200), self.start)

    # ---- sessions
    def _begin(self) -> None:
        self.incarnation += 1
        self.session = SessionId(f"{self.name}.{self.incarnation}")
        self.open = self.busy = False
        self.number = self.commits = 0
        self.cursor = "0"
        self.table: dict[RunRef, Attempt] = {}
        self.unknown: set[tuple[RunRef, int]] = set()
        self.queue: deque[tuple[Attempt, Commit]] = deque()
        self.flying: list[tuple[Attempt, Commit]] = []
        self.renewed_at = self.kernel.now
        self._open(self.session)

    def _open(self, session: SessionId) -> None:
        asked = self.kernel.now

        def opened(outcome: object) -> None:
            if session != self.session:
                return
            if outcome is UNANSWERED:
                self._open(session)
                return
            self.open, self.renewed_at = True, asked
            self.pump()

        self.call("open", (session,), opened)

    def lose(self) -> None:
        """The session is lost: drop everything, open another; sometimes the old one is closed all the same."""
        self.kernel.counts["sessions lost"] += 1
        old = self.session
        self._begin()
        if self.kernel.chance(0.5):
            self.call("close", (old, self.kernel.chance(0.5)), lambda outcome: None)

    def drain(self) -> None:
        """Take no new work, hand everything back, begin anew."""
        if not self.open:
            return
        self.kernel.counts["drains"] += 1
        self.open, old = False, self.session

        def close(tries: int) -> None:
            def closed(outcome: object) -> None:
                if outcome is True or tries > 20:
                    if self.session == old:
                        self._begin()
                else:
                    close(tries + 1)

            self.table.clear()
            self.call("close", (old, False), closed)

        self.after(self.kernel.between(1, 200), lambda: close(0))

    # ---- the keeper's thread
    def _keep(self) -> None:
        ttl = self.server.partition.limits.lease_ttl_ms
        if self.open:
            if self.kernel.now - self.renewed_at > ttl * 2 // 3 - 40:
                self.lose()
            else:
                self._renew(self.session)
        self.after(ttl // 5, self._keep, loop=False)

    def _renew(self, session: SessionId) -> None:
        asked = self.kernel.now
        known = tuple((attempt.ref, attempt.token) for attempt in self.table.values())

        def renewed(outcome: object) -> None:
            if session != self.session or not self.open:
                return
            if isinstance(outcome, SessionLost):
                self.lose()
            elif isinstance(outcome, Renewed):
                self.renewed_at = max(self.renewed_at, asked)
                self._reconcile(session, outcome)

        self.call("renew", (session, known), renewed, loop=False)

    def _reconcile(self, session: SessionId, renewed: Renewed) -> None:
        for ref, token in renewed.lost:
            attempt = self.table.get(ref)
            if attempt is not None and attempt.token == token:
                attempt.drop()
        mine = {(attempt.ref, attempt.token) for attempt in self.table.values()}
        unknown = set(renewed.unknown) - mine
        for ref, token in sorted(unknown & self.unknown):
            self.kernel.counts["unknown handed back"] += 1
            self.call("hand_back", (session, ref, token, 0), lambda outcome: None, loop=False)
        self.unknown = unknown
        for ref in renewed.mail:
            self.hinted(ref)

    def hinted(self, ref: RunRef) -> None:
        """Mail came for a run: an empty commit fetches it."""
        attempt = self.table.get(ref)
        if attempt is not None:
            attempt.fetch_mail()

    def hang(self) -> None:
        """The keeper gives up an action that has hung too long."""
        for attempt in list(self.table.values()):
            if attempt.step is not None:
                self.kernel.counts["hangs"] += 1
                attempt.hand_back(self.kernel.random.choice([0, 100, 500]))
                return

    # ---- ingest
    def registration(self) -> Registration:
        """What this worker's release declares and can execute."""
        second = self.kernel.now > 1_500 and self.number != 1
        unknown = set[str]() if self.server.quiet else self._unknown
        if second and self._forgets_the_first and not self.server.quiet:
            unknown = unknown | {"A@1"}  # a release that can run the newer version only
        knows = [kind for kind in EVERYBODY_KNOWS if kind not in unknown]
        if second or self.server.quiet:
            knows.append("A@2")
        if self._knows_c or self.server.quiet:
            knows.append("C@1")
        if self.server.quiet and self._deployed:
            knows.append("Z@1")
        return Registration(f"{int(second)}{knows}", LATER_ROUTES if second else ROUTES, tuple(knows))

    def pump(self) -> None:
        """Ask for work when there is room and no request is out."""
        room = self.slots - len(self.table)
        if self.busy or not self.open or room <= 0:
            return
        self.busy, self.number = True, self.number + 1
        quarantine = not self.server.quiet and self.kernel.chance(0.003)
        self.kernel.counts["quarantines"] += quarantine
        self._ingest(
            Ingest(self.session, self.number, room, self.registration().mark, self.cursor, quarantine, "it raised")
        )

    def _ingest(self, request: Ingest) -> None:
        def ingested(outcome: object) -> None:
            if request.session != self.session or not self.open:
                return
            match outcome:
                case _ if outcome is UNANSWERED:
                    self.after(self.kernel.between(1, 20), lambda: self._repeat(request))
                case SessionLost():
                    self.lose()
                case Unregistered():
                    self._register(request)
                case Ingested():
                    self.busy, self.cursor = False, outcome.cursor
                    for leased in outcome.runs:
                        self._take(leased)
                    pause = self.kernel.between(1, 10) if outcome.runs or outcome.read else self.kernel.between(20, 90)
                    self.after(pause, self.pump)
                case Stale():
                    raise AssertionError(f"stale to a living caller: {request}")
                case _:
                    raise AssertionError(f"no answer to an ingest: {outcome}")

        self.call("ingest", (request,), ingested)

    def _repeat(self, request: Ingest) -> None:
        if request.session == self.session and self.open:
            self._ingest(request)

    def _register(self, request: Ingest) -> None:
        registration = self.registration()
        repeated = Ingest(request.session, request.number, request.room, registration.mark, request.cursor)
        self.call("register", (registration,), lambda outcome: self._repeat(repeated))

    def _take(self, leased: LeasedRun) -> None:
        attempt = Attempt(self, leased)
        self.table[leased.ref] = attempt  # replaces an older attempt of the same run
        attempt.begin()

    # ---- group commit
    def submit(self, attempt: Attempt, commit: Commit) -> None:
        """Queue a commit; whatever is queued when the last batch returns goes in one call."""
        self.queue.append((attempt, commit))
        self._flush()

    def next_commit_id(self) -> CommitId:
        """``<session>/<number>``, never used twice."""
        self.commits += 1
        return CommitId(f"{self.session}/{self.commits}")

    def _flush(self) -> None:
        if self.flying or not self.queue:
            return
        self.flying = [self.queue.popleft() for _ in range(min(BATCH, len(self.queue)))]
        self._send(self.session, self.flying)

    def _send(self, session: SessionId, batch: list[tuple[Attempt, Commit]]) -> None:
        def answered(outcome: object) -> None:
            if session != self.session or self.flying is not batch:
                return
            if outcome is UNANSWERED:  # repeated unchanged
                self.after(self.kernel.between(1, 20), lambda: self._resend(session, batch))
                return
            assert isinstance(outcome, list)
            self.flying = []
            for (attempt, commit), item in zip(batch, outcome, strict=True):  # pyright: ignore - typed by the verb
                assert isinstance(item, CommitOutcome)
                attempt.answered(commit, item)
            self._flush()

        self.call("commit", (tuple(commit for _, commit in batch),), answered)

    def _resend(self, session: SessionId, batch: list[tuple[Attempt, Commit]]) -> None:
        if session == self.session and self.flying is batch:
            self.kernel.counts["commits repeated"] += 1
            self._send(session, batch)
