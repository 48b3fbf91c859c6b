-- Performs the plan. Only writes whose types and arguments are ours: nothing here depends on a stranger's bytes (R1).
local function write_run(run)
  local key = P .. 'run:' .. run.ref
  if not run.start then
    call('HSET', key, 'owner', run.owner, 'token', run.token)
  elseif run.subject then
    call('HSET', key, 'status', 'pending', 'version', run.version, 'owner', run.owner, 'token', run.token,
      'created', now, 'start', run.start, 'subject', run.subject)
  else
    call('HSET', key, 'status', 'pending', 'version', run.version, 'owner', run.owner, 'token', run.token,
      'created', now, 'start', run.start)
  end
  if #run.mail > 0 then
    call('HSET', key, 'mails', run.mails)
    for i = 1, #run.mail, 1000 do
      call('RPUSH', P .. 'mailbox:' .. run.ref, unpack(run.mail, i, math.min(i + 999, #run.mail)))
    end
  end
end

local function write_subjects()
  local fields = {}
  for subject, live in pairs(subjects) do
    if live.changed then
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

local function write_plan()
  for i = 1, #purged do
    local ref = purged[i]
    call('DEL', P .. 'run:' .. ref, P .. 'history:' .. ref, P .. 'mailbox:' .. ref)
    call('ZREM', P .. 'index:ended', ref)
  end
  local index, held = {}, { '#', number }
  for i = 1, #born do
    index[2 * i - 1], index[2 * i] = now, born[i].ref
  end
  for i = 1, #touched do
    if runs[touched[i].ref] == touched[i] then write_run(touched[i]) end
  end
  if #index > 0 then call('ZADD', P .. 'index', unpack(index)) end
  write_subjects()
  write_early()
  if #wakes_off > 0 then call('ZREM', P .. 'wakes', unpack(wakes_off)) end
  for i = 1, #ready do
    if ready[i].owner == 'ready' then call('XADD', P .. 'ready', '*', 'run', ready[i].ref, 'token', ready[i].token) end
  end
  for i = 1, #letters do
    local l = letters[i]
    bury(l[1], l[2], l[3], l[4], l[5])
  end
  for i = 1, #leased do
    held[2 * i + 1], held[2 * i + 2] = leased[i].ref, number
  end
  keep_highest_token()
  for i = 1, #hints do call('PUBLISH', P .. 'hint:' .. hints[i].owner, hints[i].ref) end
  for name, by in pairs(counts) do call('HINCRBY', P .. 'stat', name, by) end
  call('HSET', P .. 'held:' .. session, unpack(held))
end
