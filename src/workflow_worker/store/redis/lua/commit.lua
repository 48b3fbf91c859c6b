-- Writes steps of several runs; each is whole or not at all and succeeds or is refused on its own. All reads and checks
-- of a step come before its first write; history grows only along the chain of commits that `base` names.
-- keys: prefix
-- args: now mailbox_cap cap_bytes max_bytes waits_cap crowded ...
-- include: _now _when_full _streams _held _caps
-- returns: now, then for each 1 (written, still held), 0 (written, let go), or a list: word, held (1 or 0), mail…
-- A commit is: ref token base cid shape (see _commit_parse); when `more` is 1: taken last_taken wake starts_refused
-- #rejects #waits+ #waits- #emits restart (empty, an instant, or `now`); then value… record… (entry, reason)…
-- (type, subject)… (type, subject)… (number, delay, #fields, name, value…)…
mailbox_cap, cap_bytes, max_bytes = tonumber(mailbox_cap), tonumber(cap_bytes), tonumber(max_bytes)
waits_cap = tonumber(waits_cap)
local reply, again, fenced, recorded, deliveries = { now }, 0, 0, 0, 0
-- include: _waits _subjects _commit_parse _commit_end _commit_check _commit_write _commit_more

local function tell(word, held, first)
  if first then
    local mail, told = call('LRANGE', P .. 'mailbox:' .. c.ref, first, -1), { word, held }
    for i = 1, #mail do told[i + 2] = mail[i] end
    reply[#reply + 1] = told
  elseif word == 'ok' then
    reply[#reply + 1] = held
  else
    reply[#reply + 1] = { word, held }
  end
end

-- The records go first: nothing was written before, should their list be none. (A restart has looked at it.)
local function write(key, run, mails, plain)
  local shape = c.shape
  local status, mode, owner, changes = shape.status, shape.mode, '', nil
  if plain then
    push()
  else
    local restarts = c.more and c.restart ~= ''
    if not restarts then push() end
    changes, status, mode, mails = write_more(key, run, mails)
    if restarts then push() end
  end
  if mode == 'keep' then owner = run[1] end
  local cid, names = ARGV[c.at + 3], shape.names
  local attempts = plain and shape.attempts > 0 and (run[9] or 0) + shape.attempts
  if attempts and #names == 0 then
    call('HSET', key, 'cid', cid, 'status', status, 'updated', now_text, 'owner', owner, 'attempts', attempts)
  elseif plain and #names == 0 then
    call('HSET', key, 'cid', cid, 'status', status, 'updated', now_text, 'owner', owner)
  elseif plain and #names == 1 and not attempts then
    call('HSET', key, 'cid', cid, 'status', status, 'updated', now_text, 'owner', owner, names[1], ARGV[c.values])
  else
    if plain then changes = with_values(attempts and { 'attempts', attempts } or {}) end
    call('HSET', key, 'cid', cid, 'status', status, 'updated', now_text, 'owner', owner, unpack(changes))
  end
  if mode == 'keep' and mails == 0 then
    reply[#reply + 1] = 1
    return
  end
  if mode == 'keep' then return tell('ok', 1, 0) end
  let_go(shape.held, c.ref)
  if mode == 'end' then
    local n = #ended
    ended[n + 1], ended[n + 2] = now_text, c.ref
    if run[7] then ends_of[#ends_of + 1], ends_of[#ends_of + 2] = run[7], c.ref end
  elseif c.more and c.wake ~= '' and status ~= 'suspended' then
    wakes[#wakes + 1], wakes[#wakes + 2] = c.wake, c.ref
  end
  tell(c.crowded and 'fenced' or 'ok', 0)
end

-- `run`: owner, token, cid, status, mails, strikes, subject; and, unless it is the first commit, waits, attempts.
local function one()
  local at, shape, key, run = c.at, c.shape, P .. 'run:' .. c.ref, nil
  if ARGV[at + 2] == '' then
    run = call('HMGET', key, 'owner', 'token', 'cid', 'status', 'mails', 'strikes', 'subject')
  else
    run = call('HMGET', key, 'owner', 'token', 'cid', 'status', 'mails', 'strikes', 'subject', 'waits', 'attempts')
  end
  local held = run[1] == shape.session and run[2] == ARGV[at + 1] and not shape.nobody
  if not run[4] then return tell('gone', 0) end
  if run[3] == ARGV[at + 3] then
    again = again + 1
    return tell('again', held and 1 or 0, held and 0)
  end
  if not held then
    fenced = fenced + 1
    return tell('fenced', 0)
  end
  if (run[3] or '') ~= ARGV[at + 2] then return tell('conflict', 0) end
  if c.taken > 0 then
    local named = call('LINDEX', P .. 'mailbox:' .. c.ref, c.taken - 1)
    if not named or cmsgpack.unpack(named)[1] ~= c.last_taken then return tell('conflict', 0) end
  end
  local mails = tonumber(run[5] or 0)
  if mails > c.taken and (shape.mode ~= 'keep' or c.more and c.refused) then return tell('mail', 1, c.taken) end
  local suspended = run[4] == 'suspended' or shape.status == 'suspended'
  check(run[8], run[7], mails, suspended)
  local struck = run[6] and run[6] ~= '0'
  local waits_end = run[8] and shape.mode == 'end'
  local plain = not (c.more or suspended or struck or waits_end)
  write(key, run, mails, plain)
end

call('HLEN', P .. 'stat')
local at = 7
while at <= #ARGV do
  local n = #reply
  parse(at)
  c.wait_list, c.crowded = nil, nil
  if not pcall(one) then
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
