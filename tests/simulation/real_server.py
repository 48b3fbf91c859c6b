"""Level 2: the same worlds on the real scripts. A real server and the machine take every step together.

Whatever the server answers must be what the machine answers, and it looks like the machine at every check; so all that
the specification demands of the machine is demanded of the scripts. The machine is told nothing but which requests did
not reach the server.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tests.simulation.kernel import Kernel, require
from tests.simulation.names import Names
from tests.simulation.server import Lost, Server, Snapshot
from tests.simulation.wire import SynchronousClient, finish
from workflow_worker.model.exceptions import StoreUnavailable, WorkflowWorkerError
from workflow_worker.model.ids import RunRef
from workflow_worker.store.memory.machine.facts import Hint, MachineFact
from workflow_worker.store.memory.machine.state import format_id
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.redis.errors import OutOfMemoryError
from workflow_worker.store.redis.store import RedisStore
from workflow_worker.store.transitions import Limits, RunQuery, Ticked

ALL = 10_000
SCRIPTS_LOST = 0.003
"""How likely the server knows no script when a call comes, as after a restart."""

CUT = 0.01
"""How likely a connection breaks between the commands of a call: at one of the first two, before or behind it."""

NAMELESS = frozenset({"add", "register", "open", "close", "tick"})
"""Verbs without an id in their arguments."""

NEED_MEMORY = frozenset({"add", "register", "publish", "redrive"})
"""Verbs that a full server may refuse; all others must go on, or no memory is ever given back."""

PLENTY = 10**12
"""A limit of memory that no test reaches."""

OF_RUNS = ("run", "history", "mailbox")


class Reality:
    """Connections to one real server that serves any number of worlds, one after the other."""

    def __init__(self, socket_path: Path, name: str) -> None:
        self.name = name
        self.client = SynchronousClient(socket_path)
        self.listener = SynchronousClient(socket_path)
        self.listener.command("PSUBSCRIBE", "*")
        self._stores: dict[Limits, RedisStore] = {}
        self._clock: Callable[[], int] = int

    def store(self, limits: Limits, clock: Callable[[], int]) -> RedisStore:
        """The store of one world: worlds with equal limits share one, because linking the scripts takes a while."""
        self._clock = clock
        if limits not in self._stores:
            self._stores[limits] = RedisStore(
                self.client, self.client, namespace="ww", limits=limits, clock=lambda: self._clock()
            )
        return self._stores[limits]

    def empty(self) -> None:
        """Nothing is left of the world before, no script either: what is sent again for that is a part of the world."""
        self.client.command("CONFIG", "SET", "maxmemory", 0)
        self.client.command("FLUSHALL")
        self.client.command("SCRIPT", "FLUSH")
        self.listener.drain()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self.listener.close()


class RealServer(Server):
    """The machine and a real server in step."""

    check_every = 101
    ids_name_runs = False  # by name, which decides about equals, they would stand in another order on the server

    def __init__(self, kernel: Kernel, limits: Limits, off: frozenset[str], *, aimed: bool, reality: Reality) -> None:
        super().__init__(kernel, limits, off, aimed=aimed)
        self._reality = reality
        self._client = reality.client
        reality.empty()
        self._full = False
        self._store = reality.store(limits, self.now)
        self._mirror = MemoryStore(limits, self.now)
        self._names = Names()
        self._marks: dict[object, object] = {}
        self._hints: list[tuple[str, str]] = []
        self._random = random.Random(kernel.random.getstate()[1][1])

    def fill(self, percent: int | None) -> None:
        """Either nothing fits any more, or all does: how much the server really uses differs from run to run."""
        self._full = percent is not None and percent >= self.partition.limits.memory_high_water
        self._client.command("CONFIG", "SET", "maxmemory", 1 if self._full else PLENTY)
        self.partition.memory = 100 if self._full else 0

    # ---- transitions
    def transition(self, verb: str, arguments: tuple[Any, ...]) -> Any:
        """The machine's outcome, which the server's must be equal to. The machine goes along with what the server did.

        Raises:
            Violation: They are unlike.
            Lost: The request did not reach the server.
        """
        self._put_in_order(verb)
        for argument in arguments:
            if verb in ("redrive", "drop") and not self._names.knows(argument):
                self._learn_letters()
        theirs = arguments if verb in NAMELESS else self._names.to_theirs(arguments)
        self._client.performed = False
        found = self._perform(verb, theirs)
        if not self._client.performed:
            return self._refused(verb, arguments, found)
        expected = super().transition(verb, arguments)
        if isinstance(found, Ticked) and found.memory is not None:
            found = replace(found, memory=min(100, found.memory))
        if isinstance(found, StoreUnavailable):
            self.answer_lost = True
        elif not (self._same_mark(expected, found) if verb == "open" else self._names.same(expected, found)):
            require(False, f"level 2: {verb} {arguments}: the server says", found, "and the machine", expected)
        return expected

    def _refused(self, verb: str, arguments: tuple[Any, ...], found: Any) -> Any:
        """Nothing was done, so the machine does nothing either: whatever was done all the same, the next look shows."""
        if isinstance(found, StoreUnavailable):
            if isinstance(found.__cause__, OutOfMemoryError):
                self.kernel.counts["refused for memory"] += 1
                require(verb in NEED_MEMORY, f"level 2: a full server refused {verb}, without which no run can end")
            raise Lost
        refused = verb == "publish" and self._full and all(item.full for item in found)
        require(refused, f"level 2: {verb} {arguments}: the server did nothing and says", found)
        self.kernel.counts["publishes refused"] += 1
        return found

    def _perform(self, verb: str, arguments: tuple[Any, ...]) -> Any:
        client, counts = self._client, self.kernel.counts
        if verb == "add":
            return self._add(arguments[0])
        if not self.quiet and self._random.random() < SCRIPTS_LOST:
            counts["scripts lost"] += 1
            client.command("SCRIPT", "FLUSH")
        if not self.quiet and self._random.random() < CUT:
            counts["cut inside a verb"] += 1
            client.cut(self._random.choice((0, 0, 1)), reply=self._random.random() < 0.5)
        try:
            return finish(getattr(self._store, verb)(*arguments))
        except WorkflowWorkerError as error:
            return error
        finally:
            client.mend()

    def _add(self, fields: tuple[bytes, ...]) -> str | StoreUnavailable:
        try:
            entry: bytes = self._client.command("XADD", self._store.prefix + "events", "*", *fields)
        except OutOfMemoryError as error:
            refused = StoreUnavailable("no memory")
            refused.__cause__ = error
            return refused
        self._client.performed = True
        return entry.decode()

    def _same_mark(self, ours: Any, theirs: Any) -> bool:
        """The epoch mark is random on the server: as many different ones as the machine has."""
        return self._marks.setdefault(ours, theirs) == theirs and len(set(self._marks.values())) == len(self._marks)

    def _put_in_order(self, verb: str) -> None:
        """What comes due in one moment has no order that anybody could rely on: the server's is that of its sets."""
        if verb == "tick":
            state = self.partition.state
            state.sessions = dict(sorted(state.sessions.items()))
            state.early_due = dict(sorted(state.early_due.items(), key=lambda item: (item[1], item[0])))

    def _learn_letters(self) -> None:
        """A person sees the server's ids of dead letters in its list."""
        found = self._client.command("XRANGE", self._store.prefix + "dead", "-", "+")
        ours = [format_id(dead_id) for dead_id in self.partition.state.dead]
        theirs = [entry[0].decode() for entry in found]
        require(len(ours) == len(theirs), "level 2: dead letters differ in number:", len(theirs), "not", len(ours))
        for one, other in zip(ours, theirs, strict=True):
            require(self._names.bind(one, other, "dead"), "level 2: a dead letter has changed its place:", one, other)

    # ---- hints
    def _hear(self, fact: MachineFact) -> None:
        super()._hear(fact)
        if isinstance(fact, Hint):
            self._hints.append((fact.session, fact.ref))

    def _compare_hints(self) -> None:
        """What was published since the last look, in order."""
        expected, self._hints = self._hints, []
        channels = [(message[2].decode(), message[3].decode()) for message in self._reality.listener.drain()]
        start = self._store.prefix + "hint:"
        found = [(channel.removeprefix(start), self._names.to_ours(ref)) for channel, ref in channels]
        require(found == expected, "level 2: the server hinted", found, "and the machine", expected)

    # ---- looking
    def check(self) -> None:
        """The invariants on the machine, then whether the server looks like it from outside."""
        super().check()
        self.kernel.counts["looks at both"] += 1
        self._mirror.partition = self.partition
        audit = finish(self._store.audit())
        require(audit.balanced, "the server's audit:", *audit.problems)
        self._equal("audit", finish(self._mirror.audit()), audit)
        self._equal("depth", finish(self._mirror.depth()), finish(self._store.depth()))
        query = RunQuery(limit=ALL)
        ours, theirs = finish(self._mirror.runs(query)), finish(self._store.runs(query))
        found = sorted(theirs.items, key=lambda view: self._names.to_ours(view.ref))
        self._equal("runs", sorted(ours.items, key=lambda view: view.ref), found)
        self._compare_hints()

    def _equal(self, what: str, ours: Any, theirs: Any) -> None:
        if not self._names.same(ours, theirs):
            require(False, f"level 2: {what}: the server has", *_unlike(self._names, ours, theirs))

    def look_closely(self) -> None:
        """All that a person can see, and F: every key belongs to something that is there."""
        self.check()
        ours, theirs = finish(self._mirror.dead_letters(ALL)), finish(self._store.dead_letters(ALL))
        self._equal("dead letters", ours, theirs)
        runs = self.partition.state.runs
        for ref in runs:
            other = RunRef(self._names.to_theirs(ref))
            self._equal("history", finish(self._mirror.history(ref)), finish(self._store.history(other)))
            self._equal("start", finish(self._mirror.start_event(ref)), finish(self._store.start_event(other)))
        self._compare_acts()
        self._no_key_left()

    def _compare_acts(self) -> None:
        """What people did; letters are named by the ids of another stream."""
        ours, theirs = finish(self._mirror.operator_log(ALL)), finish(self._store.operator_log(ALL))
        require(len(ours) == len(theirs), "level 2: acts of people:", len(theirs), "and the machine", len(ours))
        for one, other in zip(ours, theirs, strict=True):
            alike = self._names.same(one.on, other.on, "dead" if one.act in ("redrive", "drop") else "")
            require(alike and replace(other, on=one.on) == one, "level 2: acts:", other, "and the machine", one)

    def _no_key_left(self) -> None:
        state, prefix = self.partition.state, self._store.prefix
        owners: dict[str, Any] = dict.fromkeys(OF_RUNS, state.runs)
        owners |= {"held": state.sessions, "early": state.early}
        for key in self._client.command("KEYS", "*"):
            family, _, rest = self._names.to_ours(key.decode().removeprefix(prefix)).partition(":")
            require(family not in owners or rest in owners[family] or not rest, "F: a key is left:", key)

    # ---- failovers
    def snapshot(self) -> Snapshot:
        """The server as well, key by key as it serialises itself."""
        keys: list[bytes] = self._client.command("KEYS", "*")
        return replace(super().snapshot(), keys=tuple(zip(keys, self._dump(keys), strict=True)))

    def _dump(self, keys: list[bytes]) -> list[bytes]:
        return self._client.commands(("DUMP", key) for key in keys)

    def restore(self, saved: Snapshot) -> None:
        """The server forgets too. Its ids rise on, because its clock does; the machine's must then do so as well."""
        last_id = self.partition.state.last_id
        super().restore(saved)
        self.partition.state.last_id = max(last_id, self.partition.state.last_id)
        full = self._full
        self.fill(None)
        self._client.command("FLUSHALL")
        answers = self._client.commands(("RESTORE", key, 0, value) for key, value in saved.keys)
        assert all(answer == b"OK" for answer in answers), answers
        self._let_time_pass()
        self.fill(99 if full else None)

    def _let_time_pass(self) -> None:
        """No id that was given and lost is given again: the machine's are not either."""
        ids = [self._client.command("XADD", "clock", "*", "a", "b")]
        while _millisecond(ids[-1]) == _millisecond(ids[0]):
            ids.append(self._client.command("XADD", "clock", "*", "a", "b"))
        self._client.command("DEL", "clock")


def _millisecond(stream_id: bytes) -> int:
    return int(stream_id.partition(b"-")[0])


def _unlike(names: Names, ours: Any, theirs: Any) -> list[object]:
    """The first items that differ, of two lists or of all."""
    if isinstance(ours, list) and isinstance(theirs, list):
        for one, other in zip(cast("list[Any]", ours), cast("list[Any]", theirs), strict=False):
            if not names.same(one, other):
                return [other, "and the machine", one]
    return [theirs, "and the machine", ours]
