-- Checks invariants A, D and F against the present state: 500 runs a call; the rest is looked at in the first call.
-- Read-only and atomic per call; the caller adds the pages up.
-- keys: prefix
-- args: cursor
-- include: _held _subjects
-- returns: next cursor (0: done), mails, early waiting, added, queued, delayed, #stat, (name, value)…, problem…
local ENDED = { completed = true, failed = true, cancelled = true }
local problems, valid, mails, waiting = {}, {}, 0, 0
local first = cursor == '0'

local function problem(...) problems[#problems + 1] = table.concat({ ... }) end

local function is_live(ref)
  local status = call('HGET', P .. 'run:' .. ref, 'status')
  return status and not ENDED[status]
end

local entries = call('XRANGE', P .. 'ready', '-', '+', 'COUNT', 10000)
for i = 1, #entries do
  local ref, token = entries[i][2][2], entries[i][2][4]
  local run = call('HMGET', P .. 'run:' .. ref, 'owner', 'token')
  if run[1] == 'ready' and run[2] == token then valid[ref] = (valid[ref] or 0) + 1 end
end

local function check_live(ref, run, count)
  local owner, suspended = run[1], run[2] == 'suspended'
  if is_held(owner) then
    local alive = call('ZSCORE', P .. 'sessions', owner) or call('ZSCORE', P .. 'reaping', owner)
    if not alive or call('HEXISTS', P .. 'held:' .. owner, ref) == 0 then
      problem('D: the owner\'s session does not hold the run: ', ref)
    end
  elseif owner == 'parked' and not call('ZSCORE', P .. 'wakes', ref) then
    problem('D: parked without a wake: ', ref)
  elseif suspended and owner ~= '' then
    problem('a suspended run has an owner: ', ref)
  elseif owner == '' and not suspended and count > 0 then
    problem('D: mail, but nobody is told: ', ref)
  end
  if run[3] then
    local packed, listed = call('HGET', P .. 'subjects', run[3]), false
    for _, other in ipairs(live_of(packed)) do listed = listed or other == ref end
    if not listed then problem('A: a live run is missing among its subject\'s: ', ref) end
  end
end

local refs = call('ZRANGE', P .. 'index', cursor, cursor + 499)
for i = 1, #refs do
  local ref = refs[i]
  local run = call('HMGET', P .. 'run:' .. ref, 'owner', 'status', 'subject', 'mails', 'waits')
  local count = call('LLEN', P .. 'mailbox:' .. ref)
  mails = mails + count
  if tonumber(run[4] or 0) ~= count then problem('B: the count of mail is wrong: ', ref) end
  if (valid[ref] or 0) ~= (run[1] == 'ready' and 1 or 0) and #entries < 10000 then
    problem('D: ', ref, ' has ', valid[ref] or 0, ' valid ready entries, owner ', run[1] or 'none')
  end
  if not run[2] then
    problem('F: the index names a run that is not there: ', ref)
  elseif not ENDED[run[2]] then
    check_live(ref, run, count)
  else
    if run[1] ~= '' then problem('an ended run has an owner: ', ref) end
    if count > 0 then problem('B: an ended run has mail that it did not record: ', ref) end
    if run[5] and #cmsgpack.unpack(run[5]) > 0 then problem('F: an ended run has waits: ', ref) end
    if not call('ZSCORE', P .. 'index:ended', ref) then problem('F: retention does not know an ended run: ', ref) end
  end
end

local queued, added = call('XLEN', P .. 'events'), nil
local stat = call('HGETALL', P .. 'stat')
if first then
  for _, subject in ipairs(call('ZRANGE', P .. 'deadlines', 0, -1)) do
    waiting = waiting + call('LLEN', P .. 'early:' .. subject)
  end
  for _, ref in ipairs(call('ZRANGE', P .. 'wakes', 0, 9999)) do
    local owner = call('HGET', P .. 'run:' .. ref, 'owner')
    if not is_live(ref) then
      problem('F: a wake is left of ', ref)
    elseif owner ~= '' and owner ~= 'parked' then
      problem('D: a run has a wake beside its owner: ', ref)
    end
  end
  for _, name in ipairs(call('SMEMBERS', P .. 'waiting')) do
    for _, ref in ipairs(call('SMEMBERS', P .. 'waits:' .. name)) do
      if not is_live(ref) then problem('F: a wait is left of ', ref) end
    end
  end
  for _, key in ipairs({ 'sessions', 'reaping' }) do
    for _, session in ipairs(call('ZRANGE', P .. key, 0, -1)) do
      for _, ref in ipairs(call('HKEYS', P .. 'held:' .. session)) do
        if ref ~= '#' and call('HGET', P .. 'run:' .. ref, 'owner') ~= session then
          problem('D: session ', session, ' holds ', ref, ', which is not its')
        end
      end
    end
  end
  -- XINFO counts what strangers added, from Redis 7.0 on.
  local info = call('EXISTS', P .. 'events') == 1 and call('XINFO', 'STREAM', P .. 'events') or {}
  for i = 1, #info - 1, 2 do
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
end
local reply = { #refs == 500 and cursor + 500 or 0, mails, waiting, added or -1, queued, call('ZCARD', P .. 'delayed'),
  #stat / 2 }
for i = 1, #stat do reply[#reply + 1] = stat[i] end
for i = 1, #problems do reply[#reply + 1] = problems[i] end
return reply
