-- What has become due: wakes, early events past their deadline, delayed events. Needs _now, _streams.
-- What cannot be read is left behind, so that it holds up nobody: each thing is moved under pcall.
local function due(key, left)
  if left <= 0 then return {} end
  return call('ZRANGEBYSCORE', P .. key, '-inf', now, 'LIMIT', 0, left)
end

-- Any wake of a run that is held, ready, suspended or ended is dropped.
local function wake(ref)
  local key = P .. 'run:' .. ref
  local run = call('HMGET', key, 'owner', 'token', 'status')
  local status = run[3]
  if status and (run[1] == '' or run[1] == 'parked') and not ENDED[status] then
    call('HSET', key, 'owner', status == 'suspended' and '' or 'ready')
    if status ~= 'suspended' then add('ready', 'run', ref, 'token', run[2]) end
  end
end

local function wake_runs(left)
  local refs = due('wakes', left)
  for i = 1, #refs do pcall(wake, refs[i]) end
  if #refs > 0 then call('ZREM', P .. 'wakes', unpack(refs)) end
  return #refs
end

-- Deadlines of one list rise with its entries unless the clock jumped back; so the whole list is looked through.
local function expire_list(subject, left)
  local key, moved, nearest = P .. 'early:' .. subject, 0, nil
  local items = call('LRANGE', key, 0, -1)
  local kept, letters = {}, {}
  for i = 1, #items do
    local item = cmsgpack.unpack(items[i])
    if item[1] <= now and moved < left then
      moved = moved + 1
      if not item[4] then letters[#letters + 1] = cmsgpack.unpack(item[3]) end
    else
      kept[#kept + 1] = items[i]
      nearest = math.min(nearest or item[1], item[1])
    end
  end
  for i = 1, #letters do bury(letters[i], 2, 'unclaimed') end
  call('DEL', key)
  if nearest then
    call('RPUSH', key, unpack(kept))
    call('ZADD', P .. 'deadlines', nearest, subject)
  else
    call('ZREM', P .. 'deadlines', subject)
  end
  return moved
end

local function expire_early(left)
  local subjects, moved = due('deadlines', left), 0
  for i = 1, #subjects do
    if moved < left then
      local ok, gone = pcall(expire_list, subjects[i], left - moved)
      if not ok then call('ZREM', P .. 'deadlines', subjects[i]) end
      moved = moved + (ok and gone or 1)
    end
  end
  if moved > 0 then call('HINCRBY', P .. 'stat', 'unclaimed', moved) end
  return moved
end

local function send_delayed(left)
  local ids = due('delayed', left)
  if #ids == 0 then return 0 end
  local packed = call('HMGET', P .. 'delayed:entries', unpack(ids))
  call('XLEN', P .. 'events')
  for i = 1, #ids do
    local ok, fields = pcall(cmsgpack.unpack, packed[i])
    if ok then add('events', unpack(fields)) end
  end
  call('ZREM', P .. 'delayed', unpack(ids))
  call('HDEL', P .. 'delayed:entries', unpack(ids))
  return #ids
end
