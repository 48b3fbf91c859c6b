"""What is broken, and which tests are expected to notice, the fastest first."""

from __future__ import annotations

from dataclasses import dataclass

from tests.contract.mutants import MUTANTS

Killer = tuple[str, ...]
"""Arguments of pytest."""

ON_ONE_SERVER = ("-k", "valkey")
RULES: Killer = ("tests/contract/test_rules.py", "tests/contract/test_progress.py", *ON_ONE_SERVER)
ARRIVALS: Killer = ("tests/contract/test_arrivals.py", "tests/contract/test_operations.py", *ON_ONE_SERVER)
WALKS: Killer = ("tests/contract/test_differential.py", "-k", "seeds and valkey and not many")
WORLDS: Killer = ("tests/simulation/test_real_scripts.py", "-k", "valkey and does and plain and not 25")
BETWEEN: Killer = ("tests/simulation/test_between_commands.py", *ON_ONE_SERVER)
_REAL_WORKER = "tests/simulation/real_worker/test_real_worker.py::test_a_worker_keeps_its_promises_under_faults"
WORKERS: Killer = (f"{_REAL_WORKER}[0]", f"{_REAL_WORKER}[20]", f"{_REAL_WORKER}[40]")
PARTS: Killer = ("tests/unit/worker/test_executor.py", "tests/unit/worker/test_session.py")
LINKS: Killer = ("tests/integration/test_links.py", "tests/integration/test_deaf_worker.py")

BY_STORE: tuple[Killer, ...] = (RULES, ARRIVALS, WALKS, WORLDS)
BY_WORKER: tuple[Killer, ...] = (PARTS, WORKERS)


@dataclass(frozen=True, slots=True)
class Edit:
    """In `file`, relative to the package, `old` (which stands there once) becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """One safeguard gone."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    killers: tuple[Killer, ...] = BY_STORE


def _lua(file: str, old: str, new: str) -> Edit:
    return Edit(f"store/redis/lua/{file}.lua", old, new)


def _known(*names: str) -> tuple[Edit, ...]:
    """Edits of mutants that the contract suite knows."""
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    found = [by_name[name] for name in names]
    return tuple(_lua(mutant.file, mutant.old, mutant.new) for mutant in found)


STORE = (
    Mutation(
        "no fence, no base",
        "a commit is taken from anybody, whatever it builds on",
        _known("owner and token unchecked", "base unchecked"),
        (WORLDS, *BY_STORE),
    ),
    Mutation(
        "no fence", "a commit is taken from anybody who knows the last commit", _known("owner and token unchecked")
    ),
    Mutation("owner unchecked", "a commit needs the token alone", _known("owner unchecked")),
    Mutation("token unchecked", "a commit needs the session alone", _known("token unchecked")),
    Mutation("base unchecked", "a commit may build on any other", _known("base unchecked")),
    Mutation(
        "read apart from ingest",
        "events are read in one call and accepted in another",
        (
            Edit(
                "store/redis/store.py",
                "        return _ingest_outcome(await self._call(*self._ingest(request)))\n",
                "        await self._read_apart(request.room)\n"
                "        return _ingest_outcome(await self._call(*self._ingest(request)))\n",
            ),
            Edit(
                "store/redis/store.py",
                "    async def load(self, session: SessionId,",
                "    async def _read_apart(self, room: int) -> None:\n"
                '        events = self.prefix + "events"\n'
                '        taken = await self._caller.read("XRANGE", events, "-", "+", "COUNT", max(1, room))\n'
                "        for entry, _ in taken:\n"
                '            await self._caller.read("XDEL", events, entry)\n'
                "        for _, fields in taken:\n"
                '            await self._caller.read("XADD", events, "*", *fields)\n'
                "\n"
                "    async def load(self, session: SessionId,",
            ),
        ),
        (BETWEEN,),
    ),
    Mutation(
        "trimmed before delivered",
        "entries leave the stream before it is decided what becomes of them",
        (
            _lua(
                "ingest",
                "  local taken, refusals = read_all(entries)\n",
                "  if not entries.gone then call('XTRIM', events, 'MAXLEN', call('XLEN', events) - #entries) end\n"
                "  entries.gone = true\n"
                "  local taken, refusals = read_all(entries)\n",
            ),
            _lua("ingest", "  if read > 0 then call('XTRIM',", "  if quarantine == '1' then call('XTRIM',"),
        ),
    ),
    Mutation("one too few trimmed", "an entry stays behind and is taken in again", _known("one entry too few trimmed")),
    Mutation("hand back keeps its token", "who held a parked run may still write", _known("hand back keeps its token")),
    Mutation("reaping leaves the owner", "a dead worker's runs stay its own", _known("reaping leaves the owner")),
    Mutation("mail forgotten", "a run is released or ended with mail that it has not taken", _known("mail rule off")),
    Mutation(
        "early out of order", "a new run gets the early events of its subject in reverse", _known("early out of order")
    ),
    Mutation("publish forgets ids", "an event published again is another event", _known("publish remembers nothing")),
    Mutation(
        "last in, first out",
        "the newest mail stands at the mailbox's head",
        (_lua("_ingest_write", "write_list('RPUSH', P", "write_list('LPUSH', P"),),
    ),
    Mutation(
        "due timers stay",
        "a wake that came due comes due again",
        (_lua("_tick_due", "if #refs > 0 then call('ZREM', P .. 'wakes', unpack(refs)) end", ""),),
    ),
    Mutation("parked without a wake", "nobody takes a parked run up again", _known("a park without a wake")),
    Mutation(
        "stale ready entries lease", "an entry of an older token leases a run", _known("a stale ready entry leases")
    ),
    Mutation("a lease keeps the token", "two holders have one token", _known("a lease keeps the token")),
    Mutation(
        "repeated commits unknown",
        "an unanswered commit is refused when repeated",
        _known("a repeated commit is not known"),
    ),
    Mutation(
        "an ingest repeated is done again",
        "an ingest whose answer was lost takes in more when it is repeated",
        _known("an ingest repeated is done again"),
    ),
    Mutation("emits repeated", "a follow-up event is sent each time that it is named", _known("emits not skipped")),
    Mutation(
        "remembered before added",
        "an id is remembered as seen in one call, and its event added in another",
        (
            Edit(
                "store/redis/store.py",
                "        flat = encoding.encode_publish(items)\n",
                "        fresh = [item for item in items if await self._is_new(item.event.id)]\n"
                "        flat = encoding.encode_publish(fresh)\n",
            ),
            Edit(
                "store/redis/store.py",
                "        return encoding.decode_published(items, reply)\n",
                "        added = iter(encoding.decode_published(fresh, reply))\n"
                "        return [\n"
                "            next(added) if item in fresh else Published(item.event.id, True)\n"
                "            for item in items\n"
                "        ]\n"
                "\n"
                "    async def _is_new(self, event_id: str) -> bool:\n"
                '        seen = self.prefix + "seen:new"\n'
                '        return not event_id or await self._caller.read("SADD", seen, event_id) == 1\n',
            ),
            _lua("publish", "if id ~= '' and (new[n] == 1 or old[n] == 1 or added[id]) then", "if added[id] then"),
        ),
        (WORLDS,),
    ),
    Mutation(
        "living sessions reaped",
        "tick does not look whether a session has expired",
        (_lua("_tick_sessions", "P .. 'sessions', '-inf', now, 'LIMIT'", "P .. 'sessions', '-inf', '+inf', 'LIMIT'"),),
    ),
    Mutation(
        "reaped at once", "a session that a frozen server let expire has no time to renew", _known("reaped at once")
    ),
    Mutation(
        "strikes never end",
        "a run that makes progress is taken for a poison pill in the end",
        _known("strikes never end"),
    ),
    Mutation(
        "strikes not counted",
        "a run that kills its holders kills them for ever",
        (_lua("_take_over", "local strikes, status = tonumber(run[4] or 0) + 1", "local strikes, status = 0"),),
    ),
)
"""The rules of the scripts."""

WORKER = (
    Mutation(
        "renewal off",
        "a worker's session is never renewed, and the worker thinks it is",
        (
            Edit(
                "worker/session.py",
                "        if int(now * 1000) - self._signs.loop_at > self._limits.stall_limit_ms:\n",
                "        self._renewed_at, self._signs.renewed_at = now, int(now * 1000)\n        if session:\n",
            ),
        ),
        BY_WORKER,
    ),
    Mutation(
        "no write-ahead",
        "an action starts before the records that it depends on are committed",
        (
            Edit(
                "worker/executor.py",
                "            course.bring_up_to_date(steps)\n",
                "            course.bring_up_to_date(steps)\n"
                "        if steps is not None and steps.starts and not self._withholds(steps):\n"
                "            self._perform(steps, steps.take_starts())\n",
            ),
        ),
        BY_WORKER,
    ),
    Mutation(
        "mail left aside at a lease",
        "mail that a lease hands over is not taken in",
        (
            Edit("worker/executor.py", "        self.take_mail(loaded.mail)\n", ""),
            Edit(
                "worker/executor.py",
                "self._course.begin(definition, leased.start, self.leased_at)\n        self.take_mail(leased.mail)\n",
                "self._course.begin(definition, leased.start, self.leased_at)\n",
            ),
            Edit(
                "worker/executor.py",
                "            self._course.steps.forget_left()\n        self.take_mail(leased.mail)\n",
                "            self._course.steps.forget_left()\n",
            ),
        ),
        BY_WORKER,
    ),
    Mutation(
        "any cached run fits",
        "a run in memory goes on although another commit was made meanwhile",
        (Edit("worker/cache.py", "executor.base != cid", "executor.base == cid == ''"),),
        BY_WORKER,
    ),
    Mutation(
        "the client repeats",
        "a command whose answer was lost is sent again by the connection",
        (
            Edit(
                "store/redis/link.py",
                "        return await wire.send(request, self._within_s)\n\n    async def execute_together",
                "        try:\n"
                "            return await wire.send(request, self._within_s)\n"
                "        except (ConnectionFailed, NoAnswer):\n"
                "            wire = await self._connected()\n"
                "            return await wire.send(request, self._within_s)\n"
                "\n"
                "    async def execute_together",
            ),
        ),
        (BETWEEN, LINKS),
    ),
    Mutation(
        "no deadline of its own",
        "a blocking read waits for ever for a server that is frozen",
        (
            Edit("store/redis/streams.py", "asyncio.timeout(timeout_ms / 1000 + _SLACK_S)", "asyncio.timeout(None)"),
            Edit(
                "store/redis/connection.py",
                "    within_s = None if block_ms is None else block_ms / 1000 + BLOCKING_MARGIN_S\n",
                "    within_s = None\n",
            ),
        ),
        (BETWEEN, LINKS),
    ),
)
"""The rules of the worker and of its connections."""

MUTATIONS = (*STORE, *WORKER)
