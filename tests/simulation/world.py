"""One simulated world from a seed: first with faults, then quiet, until everything has come to its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.simulation.faults import Faults
from tests.simulation.kernel import Kernel, Violation, require
from tests.simulation.person import Person
from tests.simulation.producers import Producer
from tests.simulation.real_server import Reality, RealServer
from tests.simulation.server import Server
from tests.simulation.worker import Worker
from workflow_worker.store.memory.machine.facts import Hint
from workflow_worker.store.transitions import Limits

FAULTS_END = 3_000
"""Milliseconds of the safety phase."""

QUIET_END = 20_000
"""By when everything must have come to its end."""

REASONS = (
    *("undeclared", "no type", "too big", "subject missing", "not utf-8", "malformed", "no such run", "run ended"),
    *("nobody can receive it", "too many", "unclaimed", "rejected", "quarantined"),
)


@dataclass(frozen=True)
class Outcome:
    """What a seed gave: its counts, the hash of its trace, and the promise that was broken, if one was."""

    seed: int
    counts: Counter[str]
    trace: int
    violation: str = ""
    story: str = ""
    """With a violation: the options that the seed led to, its faults, and the last calls."""
    faults: int = 0
    """How many were planned."""


class World:
    """Workers, producers, a person and faults around one server."""

    def __init__(
        self,
        seed: int,
        off: frozenset[str] = frozenset(),
        *,
        dense: bool = False,
        verbose: bool = False,
        reality: Reality | None = None,
        spared: frozenset[int] = frozenset(),
    ) -> None:
        self.kernel = kernel = Kernel(seed, verbose=verbose)
        self._spared = spared
        cap = 6 if kernel.chance(0.1) else 1_000
        self.limits = limits = Limits(
            lease_ttl_ms=600,
            early_event_ttl_ms=2_000,
            dedup_window_ms=10**9,
            retention_ms=3_000 if kernel.chance(0.5) else 10**9,
            retention_runs=kernel.random.choice([5, 1_000]),
            max_event_bytes=2_000,
            max_takeovers=1,
            mailbox_cap=cap,
            early_cap=cap,
            copies_cap=3 if kernel.chance(0.2) else 2_000,
        )
        self.server: Server = (
            Server(kernel, limits, off, aimed=dense)
            if reality is None
            else RealServer(kernel, limits, off, aimed=dense, reality=reality)
        )
        self.server.hint = self._hint
        self.deployed = kernel.chance(0.85)
        self.workers = [Worker(self.server, n, deployed=self.deployed) for n in range(kernel.between(2, 4))]
        for number in range(kernel.between(2, 4)):
            Producer(self.server, number, FAULTS_END)
        Person(self.server)
        kernel.every(lambda: kernel.between(50, 150), lambda: self.server.call("tick", (200,)))
        self.faults = Faults(self.server, self.workers, FAULTS_END, dense=dense, spared=spared)
        kernel.at(FAULTS_END, self._calm)

    def run(self) -> None:
        """The safety phase, then the liveness phase.

        Raises:
            Violation: A promise was broken.
        """
        self.kernel.run(FAULTS_END)
        until = FAULTS_END
        while until < QUIET_END and not self._at_rest():
            until += 250
            self.kernel.run(until)
        self._finish()

    def story(self) -> str:
        """What led here, for people."""
        server = self.server
        workers = [f"{worker.name} has {worker.slots} slots" for worker in self.workers]
        planned = enumerate(self.faults.planned)
        faults = [
            f"  {n}: {when} {name}" for n, (when, name) in planned if when <= self.kernel.now and n not in self._spared
        ]
        calls = [f"  {when} {verb} {given} -> {outcome}"[:1_000] for when, verb, given, outcome in server.last_calls]
        return "\n".join(
            [
                f"options: loss {server.loss}, deployed {self.deployed}, {', '.join(workers)}, {self.limits}",
                f"faults until {self.kernel.now}, of {FAULTS_END}:",
                *faults,
                f"the last {len(calls)} calls:",
                *calls,
            ]
        )

    def _hint(self, hint: Hint) -> None:
        """A published hint: it may be lost."""
        for worker in self.workers:
            if worker.session == hint.session and self.kernel.chance(0.8):
                life = worker.life
                self.kernel.after(
                    self.kernel.between(1, 5),
                    lambda worker=worker, life=life: worker.run(life, lambda: worker.hinted(hint.ref)),
                )

    def _calm(self) -> None:
        """No more faults; the server's clock is right again, ahead of all that it ever said."""
        self.server.quiet = True
        self.server.down_until = 0
        self.server.fill(10)
        self.server.offset = self.server.furthest

    def _at_rest(self) -> bool:
        s = self.server.partition.state
        live = any(not run.status.ended for ref, run in s.runs.items() if not self._unknown(ref))
        return not (live or s.events or s.delayed or s.early) and self.kernel.now > FAULTS_END + 2_500

    def _unknown(self, ref: str) -> bool:
        """A run whose workflow nobody ever knows stays in ``ready``."""
        return not self.deployed and ref.startswith("Z:")

    def _finish(self) -> None:
        s = self.server.partition.state
        self.server.look_closely()
        self.server.specification.finished()
        live = {ref for ref, run in s.runs.items() if not run.status.ended}
        left = [(ref, s.runs[ref].status, s.runs[ref].owner) for ref in live if not self._unknown(ref)]
        require(not left, "liveness: stranded", left)
        require(not s.events and not s.delayed, "liveness: events left", len(s.events), len(s.delayed))
        require(not s.early, "liveness: early events left", list(s.early))
        require(not s.waits and not set(s.wakes) - live, "F: waits or wakes left", s.waits, s.wakes)
        held = [(name, list(session.held)) for name, session in s.sessions.items() if set(session.held) - live]
        require(not held, "D: held by", held)
        for letter in s.dead.values():
            require(letter.reason.startswith(REASONS), "dead for no known reason:", letter.reason)
        self.kernel.counts.update("runs " + run.status.value for run in s.runs.values())


def simulate(
    seed: int,
    off: frozenset[str] = frozenset(),
    *,
    dense: bool = False,
    verbose: bool = False,
    reality: Reality | None = None,
    spared: frozenset[int] = frozenset(),
) -> Outcome:
    """Run one seed to its end or to its first violation; with a `reality` at level 2, without the `spared` faults."""
    world = World(seed, off, dense=dense, verbose=verbose, reality=reality, spared=spared)
    violation = story = ""
    try:
        world.run()
    except Violation as broken:
        violation, story = str(broken), world.story()
    counts = world.kernel.counts
    counts.update(world.server.partition.state.counts)
    return Outcome(seed, counts, world.kernel.trace, violation, story, len(world.faults.planned))
