-- Writes steps of several runs; each is whole or not at all and succeeds or is refused on its own. All reads and checks
-- of a step come before its first write; history grows only along the chain of commits that `base` names.
-- keys: prefix
-- args: now mailbox_cap ...
-- include: _now _when_full _dead _held _waits _subjects _commit_parse _commit_end _commit_write
-- returns: now, then for each: word, held (1 or 0), #mail, mail…
-- A commit is: ref session token base cid status mode attempts #fields #records more; when `more` is 1 also: taken
-- last_taken wake starts_refused #rejects #waits+ #waits- #emits; then (name, value)… record… (entry, reason)… (type,
-- subject)… (type, subject)… (number, #fields, name, value…)…
mailbox_cap = tonumber(mailbox_cap)
local reply, again, fenced, recorded, deliveries = { now }, 0, 0, 0, 0

local function tell(word, held, c, first)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = word, held, 0
  if held == 0 or not first then return end
  local mail = call('LRANGE', P .. 'mailbox:' .. c.ref, first, -1)
  reply[n + 3] = #mail
  for i = 1, #mail do reply[n + 3 + i] = mail[i] end
end

-- Waits that come and go; returns the run's waits packed, and how much mail the new ones brought.
local function change_waits(c, packed, mails, ends)
  local waits, copies = packed and cmsgpack.unpack(packed) or {}, 0
  if ends then
    for i = 1, #waits, 2 do forget_wait(c.ref, waits[i], waits[i + 1]) end
    return cmsgpack.pack({}), 0
  end
  for i = c.added, c.removed - 1, 2 do
    copies = copies + add_wait(c.ref, waits, ARGV[i], ARGV[i + 1], mails + copies, mailbox_cap)
  end
  for i = c.removed, c.emits - 1, 2 do remove_wait(c.ref, waits, ARGV[i], ARGV[i + 1]) end
  return cmsgpack.pack(waits), copies
end

-- `run`: owner, token, cid, status, mails, attempts, strikes, waits, subject. All that changes goes into one HSET; what
-- most commits do not change is collected in `more`.
local function write(c, run, mails)
  local at, status, mode, more = c.at, ARGV[c.at + 5], c.mode, nil
  local function set(name, value)
    more = more or {}
    more[#more + 1], more[#more + 2] = name, value
  end
  if c.refused then status, mode = 'failed', 'end' end
  if c.n_rejects > 0 then bury_rejects(c) end
  if c.taken > 0 then
    call('LTRIM', P .. 'mailbox:' .. c.ref, c.taken, -1)
    mails, recorded = mails - c.taken, recorded + c.taken
  end
  if c.n_records > 0 then
    push_all(P .. 'history:' .. c.ref, c.records, c.rejects - 1)
    if run[7] and run[7] ~= '0' then set('strikes', 0) end
  end
  if ARGV[at + 7] ~= '0' then set('attempts', (run[6] or 0) + ARGV[at + 7]) end
  if mode == 'end' and run[8] or mode ~= 'end' and c.waits > 0 then
    local waits, copies = change_waits(c, run[8], mails, mode == 'end')
    set('waits', waits)
    mails, deliveries = mails + copies, deliveries + copies
  end
  if c.n_emits > 0 then set('emitted', emit(c)) end
  if mode == 'release' and mails > 0 then mode = 'keep' end
  if mails ~= tonumber(run[5] or 0) then set('mails', mails) end
  if c.refused then set('rejected', 1) end
  if status == 'suspended' then
    call('ZADD', P .. 'index:suspended', call('HGET', c.key, 'created'), c.ref)
  elseif run[4] == 'suspended' then
    call('ZREM', P .. 'index:suspended', c.ref)
  end
  if more then
    for i = c.fields, c.records - 1, 2 do set(ARGV[i], ARGV[i + 1]) end
  end
  local owner = mode == 'keep' and run[1] or ''
  if more then
    call('HSET', c.key, 'cid', ARGV[at + 4], 'status', status, 'updated', now, 'owner', owner, unpack(more))
  else
    call('HSET', c.key, 'cid', ARGV[at + 4], 'status', status, 'updated', now, 'owner', owner,
      unpack(ARGV, c.fields, c.records - 1))
  end
  if mode == 'keep' then return tell('ok', 1, c, mails > 0 and 0) end
  let_go(ARGV[at + 1], c.ref)
  if mode == 'end' then
    ended[#ended + 1], ended[#ended + 2] = now, c.ref
    if run[9] then ends[#ends + 1] = { c.ref, run[9] } end
  elseif c.fields > at + 11 and ARGV[at + 13] ~= '' and status ~= 'suspended' then
    wakes[#wakes + 1], wakes[#wakes + 2] = ARGV[at + 13], c.ref
  end
  tell('ok', 0, c)
end

local function one(c)
  local at = c.at
  local run = call('HMGET', c.key, 'owner', 'token', 'cid', 'status', 'mails', 'attempts', 'strikes', 'waits',
    'subject')
  local held = run[1] == ARGV[at + 1] and run[2] == ARGV[at + 2] and is_held(run[1])
  if not run[4] then return tell('gone', 0) end
  if run[3] == ARGV[at + 4] then
    again = again + 1
    return tell('again', held and 1 or 0, c, 0)
  end
  if not held then
    fenced = fenced + 1
    return tell('fenced', 0)
  end
  if (run[3] or '') ~= ARGV[at + 3] then return tell('conflict', 0) end
  if c.taken > 0 then
    local named = call('LINDEX', P .. 'mailbox:' .. c.ref, c.taken - 1)
    if not named or cmsgpack.unpack(named)[1] ~= ARGV[at + 12] then return tell('conflict', 0) end
  end
  local mails = tonumber(run[5] or 0)
  if (c.mode ~= 'keep' or c.refused) and mails > c.taken then return tell('mail', 1, c, c.taken) end
  write(c, run, mails)
end

local at = 3
while at <= #ARGV do
  local c, n = parse(at), #reply
  if not pcall(one, c) then
    for i = #reply, n + 1, -1 do reply[i] = nil end
    tell('conflict', 0)
  end
  at = c.next
end
write_ends()
if recorded > 0 then call('HINCRBY', P .. 'stat', 'recorded', recorded) end
if deliveries > 0 then call('HINCRBY', P .. 'stat', 'deliveries', deliveries) end
if again > 0 then call('HINCRBY', P .. 'stat', 'again', again) end
if fenced > 0 then call('HINCRBY', P .. 'stat', 'fenced', fenced) end
return reply
