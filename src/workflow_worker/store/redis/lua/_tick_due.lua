-- What has become due: wakes, early events past their deadline, delayed events. Needs _now, _dead.
local function due(key, left)
  if left <= 0 then return {} end
  return call('ZRANGEBYSCORE', P .. key, '-inf', now, 'LIMIT', 0, left)
end

-- Any wake of a run that is held, ready, suspended or ended is dropped.
local function wake_runs(left)
  local refs = due('wakes', left)
  for i = 1, #refs do
    local key = P .. 'run:' .. refs[i]
    local run = call('HMGET', key, 'owner', 'token', 'status')
    local status = run[3]
    if status and (run[1] == '' or run[1] == 'parked') and not ENDED[status] then
      call('HSET', key, 'owner', status == 'suspended' and '' or 'ready')
      if status ~= 'suspended' then call('XADD', P .. 'ready', '*', 'run', refs[i], 'token', run[2]) end
    end
  end
  if #refs > 0 then call('ZREM', P .. 'wakes', unpack(refs)) end
  return #refs
end

-- Deadlines of one list rise with its entries unless the clock jumped back; so the whole list is looked through.
local function expire_list(subject, left)
  local key, moved, nearest = P .. 'early:' .. subject, 0, nil
  local items = call('LRANGE', key, 0, -1)
  local kept = {}
  for i = 1, #items do
    local item = cmsgpack.unpack(items[i])
    if item[1] <= now and moved < left then
      moved = moved + 1
      if not item[4] then bury(cmsgpack.unpack(item[3]), 2, 'unclaimed') end
    else
      kept[#kept + 1] = items[i]
      nearest = math.min(nearest or item[1], item[1])
    end
  end
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
    if moved < left then moved = moved + expire_list(subjects[i], left - moved) end
  end
  if moved > 0 then call('HINCRBY', P .. 'stat', 'unclaimed', moved) end
  return moved
end

local function send_delayed(left)
  local ids = due('delayed', left)
  if #ids == 0 then return 0 end
  local packed = call('HMGET', P .. 'delayed:entries', unpack(ids))
  for i = 1, #ids do call('XADD', P .. 'events', '*', unpack(cmsgpack.unpack(packed[i]))) end
  call('ZREM', P .. 'delayed', unpack(ids))
  call('HDEL', P .. 'delayed:entries', unpack(ids))
  return #ids
end
