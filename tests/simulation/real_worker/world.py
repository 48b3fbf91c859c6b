"""One simulated world from a seed: a phase of faults, then a calm one in which everything must come to its end."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from tests.simulation.real_worker.checks import Checks, Violation, require, stood_still
from tests.simulation.real_worker.effects import Effects
from tests.simulation.real_worker.loop import Stuck, VirtualLoop
from tests.simulation.real_worker.network import LossyStore, Network
from tests.simulation.real_worker.process import Process
from tests.simulation.real_worker.programs import OUTLIVES_S, SUBJECTS, Author, JobStarted, make_app
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.ids import RunRef
from workflow_worker.model.record import RunResumed, encode_record
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime import ordering
from workflow_worker.store.memory.machine.state import RunState, State, format_id
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import Limits, Publish
from workflow_worker.worker.limits import WorkerLimits

EPOCH_MS = 1_764_000_000_000
FAULTS_UNTIL_S = 5.0
CALM_WITHIN_S = 150.0
"""Seconds of the calm phase by which everything must have ended; the longest program takes far less."""

FAULTS = (
    *("kill", "pause", "drain", "hurry", "theft", "outage", "partition", "partition", "long pause", "clock"),
    "unanswered",
)
UNANSWERED = ("ingest", "commit", "load", "hand back", "tick", "wait", "open", "close")
"""Verbs that a client may wait for in vain; renewals have a deadline of their own."""


@dataclass(frozen=True)
class Outcome:
    """What a seed gave: its counts, the hash of its trace, and the promise that was broken, if one was."""

    seed: int
    counts: Counter[str]
    trace: int
    violation: str = ""


class World:
    """Workers, producers, an operator and faults around one store."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.loop = VirtualLoop(seed)
        self.chance = chance = random.Random(f"world {seed}")
        self.counts = Counter[str]()
        self.trace = 0
        self._verbose = verbose
        store_limits = Limits(
            lease_ttl_ms=1_500,
            early_event_ttl_ms=3_000,
            dedup_window_ms=10**9,
            retention_ms=10**9,
            max_takeovers=chance.choice([3, 50]),
        )
        self.skew_ms = 0
        self.memory = MemoryStore(store_limits, self._server_ms)
        self.network = Network(self.loop, self.memory, chance, self.counts)
        self.network.note = self.note
        self.effects = Effects()
        self.app = make_app(self.effects)
        self.checks = Checks(self.memory, self.effects, self.app)
        limits = WorkerLimits(
            batch_size=chance.choice([1, 3, 10]),
            concurrency_limit=chance.choice([1, 2, 5]),
            poll_interval_ms=200,
            lease_ttl_ms=1_500,
            stall_limit_ms=5_000,
            shutdown_grace_ms=chance.choice([300, 2_000]),
            cached_runs=chance.choice([0, 2, 1_000]),
            start_within_ms=chance.choice([100, 1_000]),
            linger_ms=chance.choice([0, 20, 100]),
            detail=True,
        )
        self.limits = limits
        crash_rate = chance.choice([0.0, 0.0, 0.004])
        self.processes: list[Process] = []
        for number in range(chance.choice([2, 3])):
            process = Process(f"w{number}", self.loop, self.network, self.app, limits, seed * 10 + number)
            process.note = self.note
            process.crash_rate = crash_rate
            self.processes.append(process)
        self.faulty = chance.random() < 0.85
        self.flush_at = chance.uniform(0.5, FAULTS_UNTIL_S - 0.5) if self.faulty and chance.random() < 0.15 else None
        if not self.faulty:
            self.network.loss = 0.0
            for process in self.processes:
                process.crash_rate = 0.0
        # After a flush nobody knows the old tokens, and a clock that goes back would give them again.
        self.faults = [fault for fault in FAULTS if fault != "clock" or self.flush_at is None]
        self._author = Author(chance)
        self._client = LossyStore(self.network, self.loop.outside)
        self._sent = 0

    def _server_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1000) + self.skew_ms

    def note(self, *what: object) -> None:
        """Add to the trace: hashed always, printed when asked."""
        line = f"{self.loop.time():9.4f} {' '.join(map(str, what))}"
        self.trace = zlib.crc32(line.encode(), self.trace)
        if self._verbose:
            print(line)

    def run(self) -> None:
        """Both phases and all checks.

        Raises:
            Violation: A promise was broken.
        """
        ordering.install()
        loop = self.loop
        try:
            loop.run_until_complete(loop.start(loop.outside, self._story()))
        except Stuck as error:
            raise Violation(str(error)) from error
        finally:
            loop.run_until_complete(self._bury())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _bury(self) -> None:
        for host in list(self.loop.hosts):
            if host is not self.loop.outside:
                await self.loop.bury(host)

    # ------------------------------------------------------------------------------------------------------- the story

    async def _story(self) -> None:
        loop = self.loop
        await self.memory.register(self.app.registration())
        for process in self.processes:
            process.start()
        parts = (self._produce(), self._operate(), self._fail(), self._flush())
        doing = [loop.start(loop.outside, part) for part in parts]
        await asyncio.sleep(FAULTS_UNTIL_S)
        self._calm_down()
        await asyncio.gather(*doing)
        await self._until(self._settled, "the runs do not come to rest")
        self.checks.between()
        await self._until(self._finished, "suspended runs do not end", tend=self._tend)
        await self._stop()
        self.checks.finish(self.processes, faulty=self.faulty)
        conflicts = self.counts["commit conflict"]
        require(not conflicts, "a worker's picture of a run was not the store's:", conflicts, "conflicts")
        require(not loop.complaints, "asyncio complains:", loop.complaints[:3])
        self.counts.update(self.checks.counts)
        ticks, seconds = self.network.asked["tick"], loop.time()
        require(ticks < seconds * 60 + 200, "ticks in", seconds, "seconds:", ticks)

    def _calm_down(self) -> None:
        self.note("calm")
        self.network.calm = True
        self.network.down_until = 0.0
        for process in self.processes:
            process.host.paused_until = process.host.cut_off_until = 0.0
            if not process.up:
                self._restart(process)

    async def _until(
        self, reached: Callable[[], bool], complaint: str, tend: Callable[[], object] | None = None
    ) -> None:
        deadline = self.loop.time() + CALM_WITHIN_S
        while not reached():
            require(self.loop.time() < deadline, complaint, self.checks.unfinished())
            self._check_alive()
            await asyncio.sleep(0.25)
            if tend is not None:
                tend()

    def _check_alive(self) -> None:
        for process in self.processes:
            if not process.up:
                self._restart(process)

    def _settled(self) -> bool:
        state = self.memory.partition.state
        at_rest = all(run.status.ended or run.status is RunStatus.SUSPENDED for run in state.runs.values())
        return at_rest and not (state.events or state.delayed or state.early)

    def _finished(self) -> bool:
        state = self.memory.partition.state
        return self._settled() and all(run.status.ended or self._hopeless(run) for run in state.runs.values())

    def _hopeless(self, run: RunState) -> bool:
        """A run that took its one cancel request and failed after it: only new code can help it."""
        return run.status is RunStatus.SUSPENDED and run.cancel_requested and self.checks.resumed[run.ref] > 12

    def _tend(self) -> None:
        """Resume what is parked; after a few tries, cancel."""
        now = self._server_ms()
        for ref, run in self.memory.partition.state.runs.items():
            if run.status is RunStatus.SUSPENDED:
                self.counts["resumed in the end"] += 1
                tries = self.checks.resumed[ref] = self.checks.resumed[ref] + 1
                if tries > 8 and not run.cancel_requested:
                    self.loop.start(self.loop.outside, self._client.cancel(ref, "ann", "hopeless"))
                elif tries < 100:
                    record = encode_record(RunResumed(now, "ann"))
                    self.loop.start(self.loop.outside, self._client.resume(ref, record, "ann"))

    async def _stop(self) -> None:
        # What hung in the end of the faults is over, and so are the bodies that nobody waits for.
        await asyncio.sleep(self.network.answer_within_s + OUTLIVES_S)
        self._check_alive()
        await asyncio.sleep(0.1)
        began = self.loop.time()
        for process in self.processes:
            if process.worker is not None:
                process.worker.drain()
        tasks = [process.task for process in self.processes if process.task is not None]
        await asyncio.wait(tasks, timeout=10)
        for process, task in zip(self.processes, tasks, strict=True):
            require(task.done(), "a drain with nothing to do does not end:", process.name)
            task.result()
        took_s = self.loop.time() - began
        unanswered = any(process.host.unanswered for process in self.processes)
        require(took_s < (5.0 if unanswered else 1.0), "an idle drain took", took_s)

    # ------------------------------------------------------------------------------------------------- who sends events

    async def _produce(self) -> None:
        while self.loop.time() < FAULTS_UNTIL_S - 0.5:
            await asyncio.sleep(self.chance.choice([0.0, 0.02, 0.1, 0.3]))
            self._sent += 1
            event = self._event()
            self.note("publish", event.type, event.subject, event.id)
            for _ in range(50):
                try:
                    await self._client.publish([Publish(event, delay_ms=self.chance.choice([0, 0, 0, 200]))])
                except StoreUnavailable:
                    continue
                break

    def _event(self) -> Event:
        chance, number = self.chance, self._sent
        subject = f"s{chance.randrange(SUBJECTS)}"
        kind = chance.choice(["job", "job", "job", "ping", "ping", "ping", "pong", "pong", "odd"])
        if kind == "job":
            name = subject if chance.random() < 0.5 else f"only-{number}"
            self.counts["jobs"] += 1
            data = msgspec.json.encode(JobStarted(name, self._author.program()))
            if chance.random() < 0.04:
                data = b'{"name": 7}'
            return Event(f"e{number}", "job.started", name, data)
        if kind == "odd":
            return Event(f"e{number}", "undeclared", subject, b"{}")
        data = msgspec.json.encode({"name": subject, "number": number})
        if chance.random() < 0.06:
            data = b"not json"
        return Event(f"e{number}", kind, subject, data)

    # ---------------------------------------------------------------------------------------------------- the operator

    async def _operate(self) -> None:
        while self.loop.time() < FAULTS_UNTIL_S:
            await asyncio.sleep(self.chance.uniform(0.05, 0.5))
            try:
                await self._act()
            except StoreUnavailable:
                self.counts["operator unanswered"] += 1

    async def _act(self) -> None:
        state, chance = self.memory.partition.state, self.chance
        live = [ref for ref, run in state.runs.items() if not run.status.ended]
        suspended = [ref for ref in live if state.runs[ref].status is RunStatus.SUSPENDED]
        match chance.choice(["cancel", "resume", "resume", "redrive"]):
            case "cancel" if live:
                ref = chance.choice(live)
                self.note("cancel", ref)
                await self._client.cancel(ref, "ann", "no longer wanted")
            case "resume" if suspended:
                now = self._server_ms()
                await self._client.resume(
                    RunRef(chance.choice(suspended)), encode_record(RunResumed(now, "ann")), "ann"
                )
            case "redrive" if state.dead:
                await self._client.redrive(format_id(chance.choice(list(state.dead))), "ann")
            case _:
                return

    # ---------------------------------------------------------------------------------------------------------- faults

    async def _fail(self) -> None:
        while self.loop.time() < FAULTS_UNTIL_S:
            await asyncio.sleep(self.chance.uniform(0.05, 1.0))
            for process in self.processes:
                if not process.up:
                    self._restart(process)
            if self.faulty and self.loop.time() < FAULTS_UNTIL_S:
                await self._strike(self.chance.choice(self.faults), self.chance.choice(self.processes))

    async def _flush(self) -> None:
        """FLUSHALL in mid-air; everybody is excused who acts for a run before he hears of it."""
        if self.flush_at is None:
            return
        await asyncio.sleep(self.flush_at)
        self.note("flush")
        self.counts["fault flush"] += 1
        self.memory.partition.state = State()
        self.checks.flush()
        for host in self.loop.hosts:
            host.excused = True

    def _restart(self, process: Process) -> None:
        if process.task is not None and process.task.done() and not process.host.dead:
            error = process.task.exception()
            still = error is not None and stood_still(error)
            self.counts["stood still"] += still
            require(error is None or (still and bool(process.host.unanswered)), process.host, "failed:", repr(error))
            require(process.draining or still, process.host, "ended by itself")
            self.checks.drained(process)
        process.start()

    async def _strike(self, fault: str, process: Process) -> None:
        self.counts["fault " + fault] += 1
        self.note("fault", fault, process.host)
        now, chance = self.loop.time(), self.chance
        match fault:
            case "kill":
                process.kill()
            case "pause":
                process.host.paused_until = now + chance.uniform(0.05, 0.8)
                process.host.excused = True
            case "long pause":
                process.host.paused_until = now + chance.uniform(1.2, 3.0)
                process.host.excused = True
            case "outage":
                self.network.down_until = now + chance.uniform(0.05, 1.5)
            case "partition":
                process.host.cut_off_until = now + chance.uniform(0.3, 3.0)
            case "theft":
                sessions = list(self.memory.partition.state.sessions)
                if sessions:
                    stolen = chance.choice(sessions)
                    for host in self.loop.hosts:
                        host.excused |= stolen.startswith(host.session_prefix)
                    await self.memory.close(stolen)
            case "unanswered":
                process.host.unanswered = frozenset(chance.sample(UNANSWERED, chance.choice([1, 1, 2])))
            case "clock":
                self.skew_ms += chance.choice([-2_500, -700, -40, 40, 700, 2_500])
            case _:
                self._drain(process, hurry=fault == "hurry")

    def _drain(self, process: Process, *, hurry: bool) -> None:
        worker, context = process.worker, self.loop.on(process.host)
        if worker is not None and process.up:
            process.draining = True
            self.loop.call_soon(worker.drain, context=context)
            if hurry:
                self.loop.call_later(self.chance.choice([0.0, 0.05, 0.2]), worker.drain, True, context=context)


def simulate(seed: int, *, verbose: bool = False) -> Outcome:
    """Run one seed to its end or to its first violation."""
    world = World(seed, verbose=verbose)
    violation = ""
    try:
        world.run()
    except Violation as broken:
        violation = str(broken)
    return Outcome(seed, world.counts, world.trace, violation)
