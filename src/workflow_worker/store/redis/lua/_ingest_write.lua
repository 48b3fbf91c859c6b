-- Performs the plan. Only writes whose types and arguments are ours: nothing here depends on a stranger's bytes (R1).
-- Keys that planning did not read are looked at first: one of another type raises before anything is written.
local function check_keys()
  if #born > 0 then call('ZCARD', P .. 'index') end
  if #purged > 0 then call('ZCARD', P .. 'index:ended') end
  if #wakes_off > 0 then call('ZCARD', P .. 'wakes') end
  if #ready > 0 then call('XLEN', P .. 'ready') end
  if #letters > 0 then call('XLEN', P .. 'dead') end
  if next(early) then call('ZCARD', P .. 'deadlines') end
end

-- One command for each thousand of a list: Lua unpacks no more than 8,000 at once, and raises.
local function write_list(command, key, list)
  for i = 1, #list, 1000 do call(command, key, unpack(list, i, math.min(i + 999, #list))) end
end

local function write_run(run)
  local key = P .. 'run:' .. run.ref
  if not run.start then
    call('HSET', key, 'owner', run.owner, 'token', run.token)
  elseif run.subject then
    call('HSET', key, 'status', 'pending', 'version', run.version, 'owner', run.owner, 'token', run.token,
      'created', now_text, 'start', run.start, 'subject', run.subject)
  else
    call('HSET', key, 'status', 'pending', 'version', run.version, 'owner', run.owner, 'token', run.token,
      'created', now_text, 'start', run.start)
  end
  if #run.mail > 0 then
    call('HSET', key, 'mails', run.mails)
    write_list('RPUSH', P .. 'mailbox:' .. run.ref, run.mail)
  end
end

local function write_subjects()
  local fields = {}
  for subject, live in pairs(subjects) do
    if type(live) == 'table' and live.changed then
      live.changed = nil
      fields[#fields + 1], fields[#fields + 2] = subject, pack_live(live)
    end
  end
  if #fields > 0 then call('HSET', P .. 'subjects', unpack(fields)) end
end

local function write_early()
  for subject, list in pairs(early) do
    if list.claimed then
      call('DEL', P .. 'early:' .. subject)
      call('ZREM', P .. 'deadlines', subject)
    end
    if #list.added > 0 then
      call('RPUSH', P .. 'early:' .. subject, unpack(list.added))
      call('ZADD', P .. 'deadlines', 'LT', now + early_ttl, subject)
    end
  end
end

-- The first letters are told to the caller: id, reason, type, run.
local function write_letters()
  local told = {}
  for i = 1, #letters do
    local l, kind = letters[i], ''
    local id = bury(l[1], l[2], l[3], l[4], l[5])
    if i <= 20 then
      for j = l[2], #l[1] - 1, 2 do
        if l[1][j] == 'type' then kind = l[1][j + 1] end
      end
      told[#told + 1], told[#told + 2], told[#told + 3], told[#told + 4] = id, l[3], kind, l[4] or ''
    end
  end
  return told
end

-- The counters with what this call adds, for one write instead of one for each; read before anything is written.
local function read_stat()
  local names, stat = {}, {}
  if ingested > 0 then counts.ingested = ingested end
  if routed > 0 then counts.routed = routed end
  for name in pairs(counts) do names[#names + 1] = name end
  if #names == 0 then
    call('HLEN', P .. 'stat')
    return stat
  end
  local found = call('HMGET', P .. 'stat', unpack(names))
  for i = 1, #names do stat[2 * i - 1], stat[2 * i] = names[i], (found[i] or 0) + counts[names[i]] end
  return stat
end

local function write_stat(stat)
  if highest then stat[#stat + 1], stat[#stat + 2] = 'token', highest end
  if #stat > 0 then call('HSET', P .. 'stat', unpack(stat)) end
end

local function write_plan()
  local stat = read_stat()
  check_keys()
  for i = 1, #purged do
    local ref = purged[i]
    call('DEL', P .. 'run:' .. ref, P .. 'history:' .. ref, P .. 'mailbox:' .. ref)
    call('ZREM', P .. 'index:ended', ref)
  end
  local index, number_text = {}, string.format('%.0f', number)
  local held = { '#', number_text }
  for i = 1, #born do
    index[2 * i - 1], index[2 * i] = now_text, born[i].ref
  end
  for i = 1, #touched do
    if runs[touched[i].ref] == touched[i] then write_run(touched[i]) end
  end
  write_list('ZADD', P .. 'index', index)
  write_subjects()
  write_early()
  write_list('ZREM', P .. 'wakes', wakes_off)
  for i = 1, #ready do
    if ready[i].owner == 'ready' then add('ready', 'run', ready[i].ref, 'token', ready[i].token) end
  end
  local told = write_letters()
  for i = 1, #leased do
    held[2 * i + 1], held[2 * i + 2] = leased[i].ref, number_text
  end
  write_stat(stat)
  for i = 1, #hints do call('PUBLISH', P .. 'hint:' .. hints[i].owner, hints[i].ref) end
  call('HSET', P .. 'held:' .. session, unpack(held))
  return told
end
