-- Writes steps of several runs; each is whole or not at all and succeeds or is refused on its own. All reads and checks
-- of a step come before its first write; history grows only along the chain of commits that `base` names.
-- keys: prefix
-- args: now mailbox_cap ...
-- include: _now _dead _waits _commit_end _commit_write
-- returns: now, then for each: word, held (1 or 0), #mail, mail…
-- A commit is: ref session token base cid status mode taken last_taken wake attempts starts_refused, then the counts
-- #fields #records #rejects #waits+ #waits- #emits, then those (name, value)… record… (entry, reason)… (type,
-- subject)… (type, subject)… (number, #fields, name, value…)…
mailbox_cap = tonumber(mailbox_cap)
local reply, again, fenced, recorded, deliveries = { now }, 0, 0, 0, 0
local at = 3
local ENDED = { completed = true, failed = true, cancelled = true }

local function parse()
  local c = { ref = ARGV[at], key = P .. 'run:' .. ARGV[at], taken = tonumber(ARGV[at + 7]), mode = ARGV[at + 6] }
  c.fields, c.n_fields, c.n_records = at + 18, tonumber(ARGV[at + 12]), tonumber(ARGV[at + 13])
  c.n_rejects, c.n_added, c.n_removed = tonumber(ARGV[at + 14]), tonumber(ARGV[at + 15]), tonumber(ARGV[at + 16])
  c.n_emits = tonumber(ARGV[at + 17])
  c.records = c.fields + 2 * c.n_fields
  c.rejects = c.records + c.n_records
  c.added = c.rejects + 2 * c.n_rejects
  c.removed = c.added + 2 * c.n_added
  c.emits = c.removed + 2 * c.n_removed
  c.next = c.emits
  for _ = 1, c.n_emits do c.next = c.next + 2 + tonumber(ARGV[c.next + 1]) end
  return c
end

local function tell(word, held, c, first)
  local n = #reply
  local mail = held == 1 and first and call('LRANGE', P .. 'mailbox:' .. c.ref, first, -1) or {}
  reply[n + 1], reply[n + 2], reply[n + 3] = word, held, #mail
  for i = 1, #mail do reply[n + 3 + i] = mail[i] end
end

local function write(c, run, mails, refused)
  local status, mode = ARGV[at + 5], c.mode
  if refused then status, mode = 'failed', 'end' end
  local fields = { 'HSET', c.key, 'cid', ARGV[at + 4], 'status', status, 'updated', now }
  for i = c.fields, c.records - 1 do fields[#fields + 1] = ARGV[i] end
  local function set(name, value)
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
  if c.n_rejects > 0 then bury_rejects(c, run[9]) end
  if c.taken > 0 then
    call('LTRIM', P .. 'mailbox:' .. c.ref, c.taken, -1)
    mails, recorded = mails - c.taken, recorded + c.taken
  end
  if c.n_records > 0 then push_all(P .. 'history:' .. c.ref, c.records, c.rejects - 1) end
  if c.n_records > 0 and run[8] and run[8] ~= '0' then set('strikes', 0) end
  if ARGV[at + 10] ~= '0' then set('attempts', tonumber(run[7] or 0) + ARGV[at + 10]) end
  local waits = run[10] and cmsgpack.unpack(run[10]) or {}
  if mode ~= 'end' and c.n_added + c.n_removed > 0 then
    for i = c.added, c.removed - 1, 2 do
      local copies = add_wait(c.ref, waits, ARGV[i], ARGV[i + 1], mails, mailbox_cap)
      mails, deliveries = mails + copies, deliveries + copies
    end
    for i = c.removed, c.emits - 1, 2 do remove_wait(c.ref, waits, ARGV[i], ARGV[i + 1]) end
    set('waits', cmsgpack.pack(waits))
  elseif mode == 'end' and #waits > 0 then
    for i = 1, #waits, 2 do forget_wait(c.ref, waits[i], waits[i + 1]) end
    set('waits', cmsgpack.pack({}))
  end
  if c.n_emits > 0 then set('emitted', emit(c, tonumber(run[6] or 0), run[9])) end
  if mode == 'release' and mails > 0 then mode = 'keep' end
  if tostring(mails) ~= (run[5] or '0') then set('mails', mails) end
  if refused then set('rejected', 1) end
  if status == 'suspended' then
    call('ZADD', P .. 'index:suspended', run[11], c.ref)
  elseif run[4] == 'suspended' then
    call('ZREM', P .. 'index:suspended', c.ref)
  end
  if mode == 'keep' then
    call(unpack(fields))
    return tell('ok', 1, c, mails > 0 and 0)
  end
  set('owner', '')
  call(unpack(fields))
  let_go(ARGV[at + 1], c.ref)
  if mode == 'end' then
    ended[#ended + 1], ended[#ended + 2] = now, c.ref
    if run[12] then ends[#ends + 1] = { c.ref, run[12] } end
  elseif ARGV[at + 9] ~= '' and status ~= 'suspended' then
    wakes[#wakes + 1], wakes[#wakes + 2] = ARGV[at + 9], c.ref
  end
  tell('ok', 0, c)
end

local function one(c)
  local run = call('HMGET', c.key, 'owner', 'token', 'cid', 'status', 'mails', 'emitted', 'attempts', 'strikes',
    'start', 'waits', 'created', 'subject')
  local held = run[1] == ARGV[at + 1] and run[2] == ARGV[at + 2]
  if not run[4] then return tell('gone', 0) end
  if run[3] == ARGV[at + 4] then
    again = again + 1
    return tell('again', held and 1 or 0, c, 0)
  end
  if not held then
    fenced = fenced + 1
    return tell('fenced', 0)
  end
  if run[3] ~= ARGV[at + 3] then return tell('conflict', 0) end
  if c.taken > 0 then
    local named = call('LINDEX', P .. 'mailbox:' .. c.ref, c.taken - 1)
    if not named or cmsgpack.unpack(named)[1] ~= ARGV[at + 8] then return tell('conflict', 0) end
  end
  local mails, refused = tonumber(run[5] or 0), ARGV[at + 11] == '1'
  if (c.mode ~= 'keep' or refused) and mails > c.taken then return tell('mail', 1, c, c.taken) end
  write(c, run, mails, refused)
end

while at <= #ARGV do
  local c = parse()
  one(c)
  at = c.next
end
write_ends()
if recorded > 0 then call('HINCRBY', P .. 'stat', 'recorded', recorded) end
if deliveries > 0 then call('HINCRBY', P .. 'stat', 'deliveries', deliveries) end
if again > 0 then call('HINCRBY', P .. 'stat', 'again', again) end
if fenced > 0 then call('HINCRBY', P .. 'stat', 'fenced', fenced) end
return reply
