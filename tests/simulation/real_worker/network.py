"""`LossyStore`: the memory store behind a network that delays, loses, repeats late, and goes away."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from tests.simulation.real_worker.loop import Host, VirtualLoop
from workflow_worker.model.deadletter import DeadLetter
from workflow_worker.model.exceptions import StoreUnavailable
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.model.run import RunView
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.transitions import (
    Audit,
    Commit,
    CommitOutcome,
    Depth,
    Ingest,
    IngestOutcome,
    Loaded,
    OperatorAct,
    OperatorWord,
    Publish,
    Published,
    Recorded,
    Registration,
    Renewed,
    RunPage,
    RunQuery,
    SessionLost,
    Ticked,
)

T = TypeVar("T")


class Network:
    """How requests and replies fare; `calm` makes it perfect."""

    def __init__(self, loop: VirtualLoop, memory: MemoryStore, chance: random.Random, counts: Counter[str]) -> None:
        self.loop = loop
        self.memory = memory
        self.chance = chance
        self.counts = counts
        self.calm = False
        self.down_until = 0.0
        self.answer_within_s = chance.choice([0.25, 0.25, 1.5])
        """The client's deadline for an answer; the longer one is longer than a lease."""
        self.asked = Counter[str]()
        self.loss = chance.choice([0.0, 0.0, 0.01, 0.04])
        self.slow = chance.choice([0.0, 0.02, 0.1])
        self.note: Callable[..., None] = lambda *what: None

    def down(self, host: Host) -> bool:
        """Whether this process cannot reach the server now."""
        return self.loop.time() < max(self.down_until, host.cut_off_until)

    def happens(self, probability: float) -> bool:
        """True with this probability, never in the calm phase."""
        return not self.calm and self.chance.random() < probability

    def latency(self) -> float:
        """Seconds for one way."""
        if self.happens(self.slow):
            return self.chance.uniform(0.02, 0.2)
        return self.chance.uniform(0.0002, 0.003)

    async def ask(self, host: Host, verb: str, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """One round trip.

        Raises:
            StoreUnavailable: No answer came in time.
        """
        loop = self.loop
        self.asked[verb] += 1
        answer: asyncio.Future[T] = loop.create_future()
        if host.dead or verb in host.unanswered:
            return await answer  # never: the process is gone, or its client waits for ever
        outside = loop.on(loop.outside)
        back = self.latency()
        lost_reply = self.happens(self.loss)

        def reply(outcome: T) -> None:
            if not self.down(host) and not answer.done():
                answer.set_result(outcome)

        def arrive() -> None:
            if self.down(host):
                return
            self.note(host, verb)
            outcome = _at_once(request())
            if not lost_reply:
                loop.call_later(back, reply, outcome, context=outside)

        if not self.happens(self.loss):
            loop.call_later(self.latency(), arrive, context=outside)
        elif self.happens(0.5):
            self.counts["late requests"] += 1
            loop.call_later(self.answer_within_s + self.chance.uniform(0, 2), arrive, context=outside)
        else:
            self.counts["lost requests"] += 1
        self.counts["lost replies"] += lost_reply
        try:
            async with asyncio.timeout(self.answer_within_s):
                return await answer
        except TimeoutError:
            raise StoreUnavailable(f"{verb}: no answer") from None


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The memory store's transitions never wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a transition waited")


class LossyStore:
    """One process's connection to the store."""

    def __init__(self, network: Network, host: Host) -> None:
        self._network = network
        self._host = host
        self._memory = network.memory

    async def _ask(self, verb: str, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._network.ask(self._host, verb, request)

    async def register(self, registration: Registration) -> None:
        """See `Store`."""
        await self._ask("register", lambda: self._memory.register(registration))

    async def publish(self, items: Sequence[Publish]) -> list[Published]:
        """See `Store`."""
        return await self._ask("publish", lambda: self._memory.publish(items))

    async def open(self, session: SessionId) -> str:
        """See `Store`."""
        return await self._ask("open", lambda: self._memory.open(session))

    async def close(self, session: SessionId, died: bool = False) -> bool:
        """See `Store`."""
        return await self._ask("close", lambda: self._memory.close(session, died))

    async def renew(self, session: SessionId, known: Sequence[tuple[RunRef, int]]) -> Renewed | SessionLost:
        """See `Store`."""
        return await self._ask("renew", lambda: self._memory.renew(session, known))

    async def ingest(self, request: Ingest) -> IngestOutcome:
        """See `Store`."""
        return await self._ask("ingest", lambda: self._memory.ingest(request))

    async def load(self, session: SessionId, held: Sequence[tuple[RunRef, int]]) -> list[Loaded | None]:
        """See `Store`."""
        return await self._ask("load", lambda: self._memory.load(session, held))

    async def commit(self, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """See `Store`."""
        outcomes = await self._ask("commit", lambda: self._memory.commit(commits))
        self._network.counts.update("commit " + outcome.word for outcome in outcomes)
        return outcomes

    async def hand_back(self, session: SessionId, ref: RunRef, token: int, delay_ms: int = 0) -> bool:
        """See `Store`."""
        return await self._ask("hand back", lambda: self._memory.hand_back(session, ref, token, delay_ms))

    async def tick(self, limit: int = 200) -> Ticked:
        """See `Store`."""
        return await self._ask("tick", lambda: self._memory.tick(limit))

    async def wait_for_work(self, timeout_ms: int, then: asyncio.Future[Ingest] | None = None) -> bool | IngestOutcome:
        """See `Store`. An ingest that lies behind a sleep which was given up may be executed all the same, later."""
        network, host = self._network, self._host
        await asyncio.sleep(network.latency())
        if "wait" in host.unanswered:
            await asyncio.get_running_loop().create_future()
        if network.down(host) or network.happens(network.loss):
            await asyncio.sleep(network.answer_within_s)
            raise StoreUnavailable("wait: no answer")

        def ingest() -> IngestOutcome | None:
            if then is None or not then.done() or then.cancelled() or network.down(host):
                return None
            network.note(host, "ingest")
            network.counts["ingests behind a sleep"] += 1
            return _at_once(self._memory.ingest(then.result()))

        try:
            woken = await self._memory.wait_for_work(timeout_ms)
        except BaseException:
            if network.happens(0.3):
                network.counts["late requests"] += 1
                network.loop.call_later(
                    network.chance.uniform(0, 2), ingest, context=network.loop.on(network.loop.outside)
                )
            raise
        outcome = None if host.dead else ingest()
        await asyncio.sleep(network.latency())
        if outcome is not None and (network.down(host) or network.happens(network.loss)):
            raise StoreUnavailable("ingest behind a sleep: no answer")
        return woken if outcome is None else outcome

    async def hints(self, session: SessionId) -> AsyncIterator[RunRef]:
        """See `Store`."""
        async for ref in self._memory.hints(session):
            if not self._network.down(self._host) and not self._network.happens(0.2):
                await asyncio.sleep(self._network.latency())
                yield ref

    async def cancel(self, ref: RunRef, by: str, reason: str) -> OperatorWord:
        """See `Store`."""
        return await self._ask("cancel", lambda: self._memory.cancel(ref, by, reason))

    async def resume(self, ref: RunRef, record: bytes, by: str) -> OperatorWord:
        """See `Store`."""
        return await self._ask("resume", lambda: self._memory.resume(ref, record, by))

    async def redrive(self, dead_id: str, by: str) -> OperatorWord:
        """See `Store`."""
        return await self._ask("redrive", lambda: self._memory.redrive(dead_id, by))

    async def drop(self, dead_id: str, by: str) -> OperatorWord:
        """See `Store`."""
        return await self._ask("drop", lambda: self._memory.drop(dead_id, by))

    async def drop_letters(
        self, reason_prefix: str, type: str | None, before_ms: int | None, limit: int, by: str
    ) -> int:
        """See `Store`."""
        return await self._ask(
            "drop letters", lambda: self._memory.drop_letters(reason_prefix, type, before_ms, limit, by)
        )

    async def note(self, by: str, act: str, on: str, more: str = "") -> OperatorWord:
        """See `Store`."""
        return await self._ask("note", lambda: self._memory.note(by, act, on, more))

    async def operator_log(self, limit: int = 100) -> list[OperatorAct]:
        """See `Store`."""
        return await self._memory.operator_log(limit)

    async def run(self, ref: RunRef) -> RunView | None:
        """See `Store`."""
        return await self._memory.run(ref)

    async def runs(self, query: RunQuery) -> RunPage:
        """See `Store`."""
        return await self._memory.runs(query)

    async def find_runs(self, run_id: str) -> list[RunRef]:
        """See `Store`."""
        return await self._memory.find_runs(run_id)

    async def history(self, ref: RunRef) -> list[bytes]:
        """See `Store`."""
        return await self._memory.history(ref)

    async def recorded(self, ref: RunRef) -> Recorded | None:
        """See `Store`."""
        return await self._memory.recorded(ref)

    async def start_event(self, ref: RunRef) -> tuple[str, ...] | None:
        """See `Store`."""
        return await self._memory.start_event(ref)

    async def dead_letters(self, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """See `Store`."""
        return await self._memory.dead_letters(limit, after)

    async def dead_letter(self, dead_id: str) -> DeadLetter | None:
        """See `Store`."""
        return await self._memory.dead_letter(dead_id)

    async def depth(self) -> Depth:
        """See `Store`."""
        return await self._memory.depth()

    async def audit(self) -> Audit:
        """See `Store`."""
        return await self._memory.audit()

    async def aclose(self) -> None:
        """See `Store`."""
