-- Adds events in order, each once per id within the dedup window. A delayed event without id gets one at once, because
-- its publisher is told it; `d` keeps it apart from the ids of entries. While memory is scarce, what would start a run
-- is refused.
-- keys: prefix
-- args: now ...
-- include: _now _streams _routes
-- returns: for each item 0 (duplicate), 1 (added under its own id), 2 (full), or the id that it got
-- An item is: empty, id, type, subject, data; or: hyphen, id, type, data; or: delay, id, #fields, name, value…
local ids, at, delayed = {}, {}, false
local i = 2
while i <= #ARGV do
  local n, delay = #at + 1, ARGV[i]
  at[n], ids[n] = i, ARGV[i + 1]
  if delay == '' then
    i = i + 5
  elseif delay == '-' then
    i = i + 4
  else
    delayed = delayed or delay ~= '0'
    i = i + 3 + ARGV[i + 2]
  end
end
if #ids == 0 then return {} end
local new = call('SMISMEMBER', P .. 'seen:new', unpack(ids))
local old = call('SMISMEMBER', P .. 'seen:old', unpack(ids))
local full = now < tonumber(call('HGET', P .. 'stat', 'full') or 0)
if delayed then
  call('ZCARD', P .. 'delayed')
  call('HLEN', P .. 'delayed:entries')
end

local function would_start(place)
  local kind, workflow = ARGV[place + 2], nil
  for j = place + 3, tonumber(ARGV[place]) and place + 2 + ARGV[place + 2] or 0, 2 do
    if ARGV[j] == 'type' then kind = ARGV[j + 1] end
    if ARGV[j] == 'workflow' then workflow = ARGV[j + 1] end
  end
  local route = find_route(kind)
  for j = 1, route and #route[2] or 0 do
    if not workflow or route[2][j][1] == workflow then return true end
  end
  return false
end

local function delay(fields, span)
  local entry = string.format('%.0f-d%.0f', now, call('HINCRBY', P .. 'stat', 'delays', 1))
  for j = 1, #fields - 1, 2 do
    if fields[j] == 'id' and fields[j + 1] == '' then fields[j + 1] = entry end
  end
  call('HSET', P .. 'delayed:entries', entry, cmsgpack.pack(fields))
  call('ZADD', P .. 'delayed', now + span, entry)
  return entry
end

-- Returns the id that the event has.
local function add_item(place, id)
  if ARGV[place] == '' then
    local kind, subject, data = ARGV[place + 2], ARGV[place + 3], ARGV[place + 4]
    add('events', 'via', 'p', 'id', id, 'type', kind, 'subject', subject, 'data', data)
    return id
  elseif ARGV[place] == '-' then
    add('events', 'via', 'p', 'id', id, 'type', ARGV[place + 2], 'data', ARGV[place + 3])
    return id
  end
  local first, last = place + 3, place + 2 + ARGV[place + 2]
  if ARGV[place] ~= '0' then return delay({ unpack(ARGV, first, last) }, ARGV[place]) end
  return add('events', unpack(ARGV, first, last))
end

call('XLEN', P .. 'events')
local fresh, added, again, reply = {}, {}, 0, {}
for n = 1, #ids do
  local id = ids[n]
  if id ~= '' and (new[n] == 1 or old[n] == 1 or added[id]) then
    again = again + 1
    reply[n] = 0
  elseif full and select(2, pcall(would_start, at[n])) == true then
    reply[n] = 2
  else
    local own = add_item(at[n], id)
    if id ~= '' then
      added[id] = true
      fresh[#fresh + 1] = id
      own = 1
    end
    reply[n] = own
  end
end
if #fresh > 0 then call('SADD', P .. 'seen:new', unpack(fresh)) end
if again > 0 then call('HINCRBY', P .. 'stat', 'again', again) end
return reply
