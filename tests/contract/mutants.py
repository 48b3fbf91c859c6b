"""Mutants of the Lua scripts: each is one rule of the protocol gone wrong, and the tests must notice every one.

A mutant edits the text of one file in memory, before it is linked; nothing on disk changes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from workflow_worker.store.redis import calls
from workflow_worker.store.redis.scripts import load_scripts, read_file


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old` (which stands there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str

    def read(self, name: str) -> str:
        """The text of a file of this mutant."""
        text = read_file(name)
        if name != self.file:
            return text
        assert text.count(self.old) == 1, f"mutant {self.name}: {self.old!r} stands {text.count(self.old)} times"
        return text.replace(self.old, self.new)


@contextmanager
def living(mutant: Mutant) -> Generator[None]:
    """Stores that are made in here run the mutant's scripts."""
    scripts = load_scripts(mutant.read)
    make: Callable[[], object] = lambda: scripts  # noqa: E731 - a value, given as the function that makes it
    with patch.object(calls, "load_scripts", make):
        yield


def _of(file: str, *edits: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(name, file, old, new) for name, old, new in edits]


MUTANTS = (
    *_of(
        "commit",
        ("owner and token unchecked", "run[1] == ARGV[at + 1] and run[2] == ARGV[at + 2] and is_held(run[1])", "true"),
        (
            "owner unchecked",
            "run[1] == ARGV[at + 1] and run[2] == ARGV[at + 2] and is_held(run[1])",
            "run[2] == ARGV[at + 2]",
        ),
        (
            "token unchecked",
            "run[1] == ARGV[at + 1] and run[2] == ARGV[at + 2] and is_held(run[1])",
            "run[1] == ARGV[at + 1]",
        ),
        ("nobody holds", " and is_held(run[1])", ""),
        ("base unchecked", "(run[3] or '') ~= ARGV[at + 3]", "false"),
        ("a repeated commit is not known", "if run[3] == ARGV[at + 4] then", "if false then"),
        ("mail rule off", "(c.mode ~= 'keep' or c.refused) and mails > c.taken", "false"),
        ("mail rule off for a refused start", "(c.mode ~= 'keep' or c.refused) and", "c.mode ~= 'keep' and"),
        ("named mail unchecked", "cmsgpack.unpack(named)[1] ~= ARGV[at + 12]", "false"),
        ("taken mail stays", "call('LTRIM', P .. 'mailbox:' .. c.ref, c.taken, -1)", ""),
        ("a release with new mail is one", "if mode == 'release' and mails > 0 then mode = 'keep' end", ""),
        ("strikes never end", "set('strikes', 0)", ""),
        ("the released keeps its owner", "mode == 'keep' and run[1] or ''", "run[1]"),
        ("an end forgets no waits", "if mode == 'end' and run[8] or", "if"),
        ("a suspended run wakes", "ARGV[at + 13] ~= '' and status ~= 'suspended'", "ARGV[at + 13] ~= ''"),
        ("no mark of a rejected start", "if c.refused then set('rejected', 1) end", ""),
        ("attempts overwritten", "(run[6] or 0) + ARGV[at + 7]", "ARGV[at + 7]"),
    ),
    *_of(
        "_commit_write",
        ("emits not skipped", "if tonumber(number) > emitted then", "if true then"),
        ("emits forget the start", "c.ref .. ':' .. start_id .. ':'", "c.ref .. ':'"),
        ("rejects not buried", "if reasons[item[1]] then", "if false then"),
        ("rejected start is a plain letter", "reasons.start, c.ref, true)", "reasons.start, c.ref)"),
    ),
    *_of(
        "_commit_end",
        ("an end stays with its subject", "if value == '=' .. ref then", "if false then"),
        ("ended runs are not indexed", "if #ended > 0 then", "if false then"),
        ("the held list keeps what is let go", "call('HDEL', P .. 'held:' .. session, unpack(refs))", ""),
    ),
    *_of(
        "_waits",
        ("early copies repeated by a wait", "for j = 4, #item do had = had or item[j] == ref end", ""),
        ("a wait does not look early", "local had = item[2] ~= kind", "local had = true"),
        ("a wait takes every type", "local had = item[2] ~= kind", "local had = false"),
        ("a wait overfills the mailbox", "if mails + copies >= cap then", "if false then"),
        ("a wait twice", "if place_of(waits, kind, subject) then return 0 end", ""),
        ("waits are never forgotten", "call('SREM', P .. 'waits:' .. name, ref)", ""),
    ),
    *_of(
        "ingest",
        ("one entry too few trimmed", "call('XLEN', events) - #taken)", "call('XLEN', events) - #taken + 1)"),
        (
            "one entry too many trimmed",
            "call('XLEN', events) - #taken)",
            "math.max(0, call('XLEN', events) - #taken - 1))",
        ),
        ("a lost session ingests", "if not call('ZSCORE', P .. 'sessions', session) then", "if false then"),
        ("an old number is not stale", "if number < last then", "if false then"),
        ("an unknown mark ingests", "if number > last and not known then", "if false then"),
        ("an ingest repeated is done again", "if number == last then", "if false then"),
        ("again answers all that is held", "refs[i] ~= '#' and tonumber(refs[i + 1]) == number", "refs[i] ~= '#'"),
        ("seen skipped", "if new[i] == 1 or old[i] == 1 then", "if false then"),
        ("the old window skipped", "if new[i] == 1 or old[i] == 1 then", "if new[i] == 1 then"),
        ("ids of one call doubled", "if places[id] then", "if false then"),
        ("via ignored", "if id and not taken[i].via then", "if id then"),
        ("seen ids not kept", "if #seen > 0 then", "if false then"),
        ("a stale ready entry leases", "run.owner ~= 'ready' or run.token ~= looked[i][2][4]", "run.owner ~= 'ready'"),
        ("ready entries stay", "if #gone > 0 then", "if false then"),
        ("ready from the start again", "at = looked[i - 1][1]", "at = '0'"),
        ("unknown workflows leased", "elseif knows[run.kind] then", "else"),
        (
            "a copy goes to everyone",
            "if found.alone then refusal = to_its_run(found) else refusal = to_everyone(found) end",
            "refusal = to_everyone(found)",
        ),
    ),
    *_of(
        "_ingest_plan",
        ("ready twice", "elseif run.owner ~= 'ready' then", "else"),
        ("leases beyond the room", "if #leased < room and knows[run.kind] then", "if knows[run.kind] then"),
        (
            "a lease leaves the wake",
            "local function lease(run)\n  if not run.start then",
            "local function lease(run)\n  if false then",
        ),
        ("a suspended run is leased", "if run.status == 'suspended' then return end", ""),
        ("a lease keeps the token", "raise_token(run.token), session, true", "run.token, session, true"),
        ("one mail too many", "if run.mails >= mail_cap then", "if run.mails > mail_cap then"),
        ("one early event too many", "#list.added >= early_cap", "#list.added > early_cap"),
        ("early events live a ms more", "now + early_ttl, found.type", "now + early_ttl + 1, found.type"),
        ("runs looked for are forgotten", "call('EXISTS', unpack(keys)) == 0", "true"),
    ),
    *_of(
        "_ingest_route",
        ("one run too many", "#live >= subject_cap", "#live > subject_cap"),
        (
            "early out of order",
            "  for i = 1, #list do\n    local had = false",
            "  for i = #list, 1, -1 do\n    local had = false",
        ),
        ("early copies repeated at the start", "had = had or list[i][j] == run.ref", "had = false"),
        ("early only for the first run", "found.claimed = list\n", "found.claimed = {}\n"),
        ("no restart after a rejected start", "not run or start[4] or run.rejected then", "not run or start[4] then"),
        ("no restart by the route", "not run or start[4] or run.rejected then", "not run or run.rejected then"),
        ("everything restarts", "not run or start[4] or run.rejected then", "true then"),
        ("a restart keeps the old", "if old then purged[#purged + 1] = ref end", ""),
        ("a park ends by mail", "elseif run.owner ~= 'parked' then", "else"),
        ("a copy starts runs", "local start = found.may_start and", "local start ="),
        (
            "two copies for one run",
            "local run = run_of(live[i])\n      if run.last ~= found then",
            "local run = run_of(live[i])\n      if true then",
        ),
        (
            "waits get no copy",
            "local run = run_of(waiting[i])\n        if run.last ~= found then",
            "local run = run_of(waiting[i])\n        if false then",
        ),
        ("not kept beside a wait", "not direct and #live == 0", "false"),
        ("kept beside a start", "not direct and #live == 0", "#live == 0"),
    ),
    *_of(
        "hand_back",
        ("hand back keeps its token", "'token', raise_token(token)", "'token', token"),
        ("hand back unchecked", "run[1] ~= session or run[2] ~= token or not is_held(session)", "not run[1]"),
        ("a park without a wake", "call('ZADD', P .. 'wakes', now + delay, ref)", ""),
    ),
    *_of(
        "_runs",
        ("given up with its token", "token = raise_token(token)\n", ""),
        ("given up but held", "call('HDEL', P .. 'held:' .. owner, ref)", ""),
        ("no ready entry", "call('XADD', P .. 'ready', '*', 'run', ref, 'token', token)", ""),
    ),
    *_of(
        "_tokens",
        (
            "tokens forget the highest",
            "(tonumber(own) or 0) + 1, highest + 1, now * 1000",
            "(tonumber(own) or 0) + 1, now * 1000",
        ),
    ),
    *_of(
        "_take_over",
        (
            "reaping leaves the owner",
            "to_ready(ref, session, run[1], status, fields)",
            "call('HSET', P .. 'run:' .. ref, unpack(fields))",
        ),
        ("takeovers not counted", "tonumber(run[3] or 0) + 1", "tonumber(run[3] or 0)"),
        ("one strike more", "if strikes > max_takeovers then", "if strikes > max_takeovers + 1 then"),
    ),
    *_of(
        "_tick_sessions",
        ("reaped at once", "if now - marked >= math.floor(ttl / 3) then", "if true then"),
        ("never reaped", "if now - marked >= math.floor(ttl / 3) then", "if false then"),
    ),
    *_of(
        "renew",
        ("renew brings sessions back", "if not call('ZSCORE', P .. 'sessions', session) then", "if false then"),
        ("renew saves nobody", "call('ZREM', P .. 'marked', session)", ""),
        ("renew tells nothing unknown", "if token_of[ref] and not named[ref] then", "if false then"),
        ("renew takes any token", "if token_of[ref] == token then", "if token_of[ref] then"),
        ("renew hides mail", "(run[2] or '0') ~= '0'", "false"),
    ),
    *_of(
        "close",
        ("close leaves its runs", "to_ready(refs[i], session, run[1], run[2], {})", ""),
        ("a death is no takeover", "if died == '1' then", "if false then"),
        ("every close is a takeover", "if died == '1' then", "if true then"),
    ),
    *_of(
        "open",
        ("open brings back what is reaped", "if not call('ZSCORE', P .. 'reaping', session) then", "if true then"),
    ),
    *_of(
        "load",
        ("load for anyone", "run[1] ~= session or run[2] ~= token or not is_held(session)", "not run[1]"),
    ),
    *_of(
        "publish",
        ("publish forgets the new window", "new[n] == 1 or old[n] == 1", "old[n] == 1"),
        ("publish forgets the old window", "new[n] == 1 or old[n] == 1", "new[n] == 1"),
        ("publish doubles in one call", " or added[id]", ""),
        ("publish remembers nothing", "if #fresh > 0 then", "if false then"),
        ("a delayed event has no id", "fields[j + 1] = entry", "fields[j + 1] = ''"),
    ),
    *_of(
        "_tick_due",
        ("delayed events stay", "call('ZREM', P .. 'delayed', unpack(ids))", ""),
        ("wakes of held runs", "(run[1] == '' or run[1] == 'parked') and", ""),
        ("unclaimed beside a wait is dead", "if not item[4] then bury", "if true then bury"),
    ),
    *_of(
        "_tick_retire",
        ("the window never ends", "now - rotated < tonumber(window)", "true"),
        ("the window is one", "call('RENAME', P .. 'seen:new', P .. 'seen:old')", "call('DEL', P .. 'seen:new')"),
        ("retention leaves the index", "call('ZREM', P .. 'index', unpack(gone))", ""),
        ("retention by age alone", "> oldest and #gone >= excess then", "> oldest then"),
    ),
    *_of(
        "cancel",
        ("cancel twice", "if run[4] or status ==", "if status =="),
        ("cancel leaves a suspension", "if status == 'suspended' then", "if false then"),
        ("cancel is not counted as mail", "call('HINCRBY', key, 'mails', 1)", ""),
    ),
    *_of(
        "resume",
        ("resume keeps the commit id", "call('HSET', key, 'cid', string.format('operator/%.0f', token))", ""),
        ("resume for anyone", "if run[3] ~= 'suspended' then", "if false then"),
    ),
    *_of(
        "redrive",
        ("redrive twice", "if call('ZSCORE', P .. 'redriven', id) then", "if false then"),
    ),
    *_of(
        "_again",
        ("redrive without a mark", "call('ZADD', P .. 'redriven', now, id)", ""),
        ("a redriven copy for everyone", "if letter[6] ~= '' then", "if false then"),
    ),
    *_of(
        "register",
        ("register lowers", "start[2] >= merged[place][2]", "true"),
    ),
    *_of(
        "_sweep",
        ("nothing is swept", "if find_route(kind) then", "if false then"),
    ),
)
"""All mutants, by the file that is edited."""
