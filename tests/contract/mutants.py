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


_OWNER = "run[1] == shape.session"
_TOKEN = "run[2] == ARGV[at + 1]"
_READ_RUN = "local ok, run = true, run_of(fields[2])"
_REJECTS = "local function check_rejects()"


def _of(file: str, *edits: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(name, file, old, new) for name, old, new in edits]


MUTANTS = (
    *_of(
        "commit",
        ("owner and token unchecked", f"{_OWNER} and {_TOKEN} and not shape.nobody", "true"),
        ("owner unchecked", f"{_OWNER} and ", ""),
        ("token unchecked", f"and {_TOKEN} ", ""),
        ("nobody holds", " and not shape.nobody", ""),
        ("base unchecked", "(run[3] or '') ~= ARGV[at + 2]", "false"),
        ("a repeated commit is not known", "if run[3] == ARGV[at + 3] then", "if false then"),
        ("mail rule off", "if mails > c.taken and (", "if false and ("),
        ("mail rule off for a refused start", "(shape.mode ~= 'keep' or c.more and c.refused)", "shape.mode ~= 'keep'"),
        ("named mail unchecked", "cmsgpack.unpack(named)[1] ~= c.last_taken", "false"),
        ("the released keeps its owner", "if mode == 'keep' then owner = run[1] end", "owner = run[1]"),
        ("a crowded run is told to go on", "tell(c.crowded and 'fenced' or 'ok', 0)", "tell('ok', 0)"),
        ("a suspended run wakes", "c.wake ~= '' and status ~= 'suspended'", "c.wake ~= ''"),
        ("nothing is looked at before", "check(run[8], run[7], mails, suspended)", ""),
        ("plain attempts overwritten", "(run[9] or 0) + shape.attempts", "shape.attempts"),
        ("plain attempts forgotten beside a value", "{ 'attempts', attempts } or {}", "{} or {}"),
        ("the records come last", "if not restarts then push() end", ""),
        ("a restart loses its records", "if restarts then push() end", ""),
    ),
    *_of(
        "_commit_more",
        ("taken mail stays", "call('LTRIM', P .. 'mailbox:' .. c.ref, c.taken, -1)", ""),
        ("a release with new mail is one", "if mode == 'release' and mails > 0 then mode = 'keep' end", ""),
        ("a crowded run goes on", "if c.crowded then status, mode = 'suspended', 'release' end", ""),
        ("a crowded run does not say why", "if c.crowded then set('error', crowded) end", ""),
        ("strikes never end", "set('strikes', 0)", ""),
        ("no mark of a rejected start", "set('rejected', 1)", ""),
        ("attempts overwritten", "(run[9] or 0) + shape.attempts", "shape.attempts"),
        ("a restart counts on", "{ 'attempts', 'strikes', 'emitted' }", "{ 'strikes', 'emitted' }"),
        ("strikes outlive a restart", "{ 'attempts', 'strikes', 'emitted' }", "{ 'attempts', 'emitted' }"),
        ("emits outlive a restart", "{ 'attempts', 'strikes', 'emitted' }", "{ 'attempts', 'strikes' }"),
    ),
    *_of(
        "_commit_check",
        ("an end forgets no waits", "if ends and waits then check_waits(waits, true) end", ""),
        ("rejects not buried", "if reasons[item[1]] then", "if false then"),
        ("rejected start is a plain letter", "reasons.start, true }", "reasons.start, false }"),
        ("a foreign stream of events tears a step", "call('XLEN', P .. 'events')", ""),
        ("a foreign stream of letters tears a step", f"{_REJECTS}\n  call('XLEN', P .. 'dead')", _REJECTS),
        ("a foreign set of waits tears a step", "call('SCARD', P .. 'waiting')", ""),
        ("waits without end", "many >= waits_cap and", "false and"),
        ("one wait too many", "many >= waits_cap and", "many > waits_cap and"),
        ("a wait crowds out its own run", " and not place_of(waits, ARGV[i], ARGV[i + 1])", ""),
        ("a foreign mailbox tears a step", "if mails > 0 and c.taken == 0 then", "if false then"),
        ("a foreign index tears an end", "if #ended == 0 then", "if false then"),
    ),
    *_of(
        "_commit_write",
        ("emits not skipped", "if tonumber(number) > emitted then", "if true then"),
        ("emits forget the start", "c.ref .. ':' .. c.start_id .. ':'", "c.ref .. ':'"),
        ("emits never wait", "if span == '0' then", "if true then"),
        ("a restart keeps its history", "call('DEL', P .. 'history:' .. c.ref)", ""),
        ("a restart begins at its creation", "set('created', c.restart == 'now' and now or c.restart)", ""),
        ("a restart forgets its creation", "call('HSETNX', key, 'born', call('HGET', key, 'created'))", ""),
    ),
    *_of(
        "_commit_end",
        ("an end stays with its subject", "if value == '=' .. ref then", "if false then"),
        ("ended runs are not indexed", "if #ended > 0 then", "if false then"),
        ("the held list keeps what is let go", "call('HDEL', held, unpack(refs))", ""),
    ),
    *_of(
        "_waits",
        ("early copies repeated by a wait", "for j = 4, #item do had = had or item[j] == ref end", ""),
        ("a wait does not look early", "local had = item[2] ~= kind", "local had = true"),
        ("a wait takes every type", "local had = item[2] ~= kind", "local had = false"),
        ("a wait overfills the mailbox", "if is_full(box, mails + copies, mailbox_cap) then", "if false then"),
        ("a wait twice", "if place_of(waits, kind, subject) then return 0 end", ""),
        ("waits are never forgotten", "call('SREM', P .. 'waits:' .. name, ref)", ""),
    ),
    *_of(
        "ingest",
        ("one entry too few trimmed", "call('XLEN', events) - read)", "call('XLEN', events) - read + 1)"),
        ("one entry too many trimmed", "call('XLEN', events) - read)", "math.max(0, call('XLEN', events) - read - 1))"),
        ("a lost session ingests", "if not call('ZSCORE', P .. 'sessions', session) then", "if false then"),
        ("an old number is not stale", "if number < last then", "if false then"),
        ("an unknown mark ingests", "if number > last and not known then", "if false then"),
        ("an ingest repeated is done again", "if number == last then", "if false then"),
        ("again answers all that is held", "refs[i] ~= '#' and tonumber(refs[i + 1]) == number", "refs[i] ~= '#'"),
        ("seen ids not kept", "if #seen > 0 then", "if false then"),
        ("ready entries stay", "if #gone > 0 then", "if false then"),
        (
            "a copy goes to everyone",
            "if found.copy then refusal = to_its_run(found) else refusal = to_everyone(found) end",
            "refusal = to_everyone(found)",
        ),
        ("what raises takes all along", "if entry == 0 or said[entry] then", "if true then"),
        ("the plan that raised is kept", "local function plan()\n  begin_plan()", "local function plan()"),
        ("a call never ends for its copies", "- (counts.dead or 0) >= copies_cap then", "< 0 then"),
        ("copies without room cost nothing", "+ #letters - (counts.dead or 0) >= copies_cap", ">= copies_cap"),
    ),
    *_of(
        "_ingest_take",
        ("seen skipped", "if new[i] == 1 or old[i] == 1 then", "if false then"),
        ("the old window skipped", "if new[i] == 1 or old[i] == 1 then", "if new[i] == 1 then"),
        ("ids of one call doubled", "if places[id] then", "if false then"),
        ("via ignored", "if id and not taken[i].via then", "if id then"),
        ("a stale ready entry leases", "run.owner ~= 'ready' or run.token ~= fields[4]", "run.owner ~= 'ready'"),
        ("ready from the start again", "at = looked[i - 1][1]", "at = '0'"),
        ("unknown workflows leased", "elseif knows[run.kind] then", "else"),
        ("the dropped is not unclaimed", "return count('unclaimed')", "return"),
        ("an unreadable run blocks ready", "local ok, run = pcall(run_of, fields[2] or '')", _READ_RUN),
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
        ("runs looked for are forgotten", "call('EXISTS', unpack(keys)) == 0", "true"),
    ),
    *_of(
        "_ingest_room",
        ("one mail too many", "if run.mails >= mail_cap then", "if run.mails > mail_cap then"),
        ("one early event too many", "many >= early_cap", "many > early_cap"),
        ("early events live a ms more", "now + early_ttl, found.type", "now + early_ttl + 1, found.type"),
        ("answers find no room", "if internal then return true end", ""),
        ("mail is never weighed", "if run.mails * max_bytes <= cap_bytes then", "if true then"),
        ("early events are never weighed", "many * max_bytes > cap_bytes and", "false and"),
        ("a foreign mailbox tears an ingest", "if #run.mail == 0 then call('LLEN'", "if false then call('LLEN'"),
    ),
    *_of(
        "_ingest_read",
        ("internal types are anybody's", "if known.internal and found.via ~= 'emit' and", "if false and"),
        ("a redrive makes internal mail of it", "found.via ~= 'emit' and not found.copy", "not found.via"),
        ("data of any size", "return data > most or all", "return all"),
        ("names of any size", "all > most + envelope", "false"),
        ("types of any length", "if #(found[name] or '') >", "if name ~= 'type' and #(found[name] or '') >"),
        ("answers are measured like events", "most = math.max(most, tonumber(internal_bytes))", ""),
        ("a stranger's answers are of any size", "(found.via == 'emit' or found.copy) and ", ""),
        ("internal types need a route", "known.internal and found.address and { false, {} }", "false"),
    ),
    *_of(
        "_utf8",
        ("all bytes are text", "return last == #text", "return true"),
        ("half a character is text", "'[\\194-\\223][\\128-\\191]', '\\n')", "'[\\194-\\223]', '\\n')"),
    ),
    *_of(
        "_ingest_write",
        ("a foreign index tears an ingest", "if #born > 0 then call('ZCARD', P .. 'index') end", ""),
    ),
    *_of(
        "_streams",
        ("an exhausted stream stays so", "if string.find(id.err, 'exhausted', 1, true) then mend(name) end", ""),
        ("mending forgets the groups", "call('XGROUP', 'CREATE', key, groups[i][2], '0', 'MKSTREAM')", ""),
        ("mending forgets the count", "if added then", "if false then"),
        ("mending gives new ids to all", "is_strange(id) and '*' or id", "'*'"),
        ("mending forgets what was redriven", "call('ZADD', P .. 'redriven', redriven, last)", ""),
        ("mending drops the wide", "bury(fields, 1, 'unreadable: too many fields')", ""),
    ),
    *_of(
        "_tick_health",
        ("strangers stay shut out", "then mend('events') end", "then return end"),
        ("memory is never scarce", "if water > 0 and percent >= water then", "if false then"),
        ("scarcity cannot be off", "if water > 0 and percent >= water then", "if percent >= water then"),
        ("scarcity never ends", "call('HDEL', P .. 'stat', 'full')", ""),
        ("scarcity lasts a year", "now + 10000", "now + 31536000000"),
    ),
    *_of(
        "_acts",
        ("acts have no author", "'by', by,", "'by', '',"),
    ),
    *_of(
        "drop_letters",
        ("any reason fits", "if string.sub(letter[2], 1, #reason) ~= reason then", "if false then"),
        ("any age fits", "if before ~= '' and tonumber(letter[4]) >= tonumber(before) then", "if false then"),
        ("any type fits", "return kind == '' or found == kind", "return true"),
        ("redriven letters are dropped", " or call('ZSCORE', P .. 'redriven', id)", ""),
    ),
    *_of(
        "_ingest_route",
        ("letters for what is dropped", "if found.internal then return 'dropped' end", ""),
        ("internal mail for everyone", "if subject and not found.internal then", "if subject then"),
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
        ("a copy starts runs", "local start = may_start and", "local start ="),
        (
            "two copies for one run",
            "local run = run_of(live[i])\n      if run and run.last ~= found then",
            "local run = run_of(live[i])\n      if true then",
        ),
        (
            "waits get no copy",
            "local run = run_of(waiting[i])\n        if run and run.last ~= found then",
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
        ("no ready entry", "add('ready', 'run', ref, 'token', token)", ""),
    ),
    *_of(
        "_tokens",
        ("tokens forget the highest", "tonumber(call('HGET', P .. 'stat', 'token') or 0)", "0"),
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
        ("nobody is told when to reap", "if marked and (not found or marked + third < found) then", "if false then"),
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
        ("close leaves its runs", "to_ready(ref, session, run[1], run[2], {})", ""),
        ("a death is no takeover", "if died == '1' then", "if false then"),
        ("every close is a takeover", "if died == '1' then", "if true then"),
    ),
    *_of(
        "open",
        ("open brings back what is reaped", "if not call('ZSCORE', P .. 'reaping', session) then", "if true then"),
    ),
    *_of(
        "load",
        ("load for anyone", "run[1] ~= session or run[2] ~= token", "not run[1]"),
        ("load for nobody", "mine = { now }, 0, is_held(session)", "mine = { now }, 0, true"),
        ("load without end", "if read >= most then break end", ""),
        ("load forgets what mail weighs", "  read = read + #mail\n", ""),
    ),
    *_of(
        "publish",
        ("publish forgets the new window", "new[n] == 1 or old[n] == 1", "old[n] == 1"),
        ("publish forgets the old window", "new[n] == 1 or old[n] == 1", "new[n] == 1"),
        ("publish doubles in one call", " or added[id]", ""),
        ("publish remembers nothing", "if #fresh > 0 then", "if false then"),
        ("publish never heeds scarcity", "elseif full and select(2,", "elseif false and select(2,"),
        ("an address is no start", "if not workflow or route[2][j][1] == workflow then", "if not workflow then"),
        ("an address anywhere is a start", "if not workflow or route[2][j][1] == workflow then", "if true then"),
        ("a delayed event has no id", "fields[j + 1] = entry", "fields[j + 1] = ''"),
    ),
    *_of(
        "_tick_due",
        ("delayed events stay", "call('ZREM', P .. 'delayed', unpack(ids))", ""),
        ("wakes of held runs", "(run[1] == '' or run[1] == 'parked') and", ""),
        ("unclaimed beside a wait is dead", "if not item[4] then letters", "if true then letters"),
        ("an unreadable early list stops time", "if not ok then call('ZREM', P .. 'deadlines', subjects[i]) end", ""),
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
        ("nothing is swept", "if kind and find_route(kind) then", "if false then"),
    ),
)
"""All mutants, by the file that is edited."""
