-- Adds events in order, each once per id within the dedup window. A delayed event without id gets one at once, because
-- its publisher is told it; `d` keeps it apart from the ids of entries.
-- keys: prefix
-- args: now ...
-- include: _now
-- returns: (ok | duplicate, id)… in the order of the items; an item is: delay, id, #fields, name, value…
local ids, at = {}, {}
local i = 2
while i <= #ARGV do
  at[#at + 1] = i
  ids[#ids + 1] = ARGV[i + 1]
  i = i + 3 + ARGV[i + 2]
end
if #ids == 0 then return {} end
local new = call('SMISMEMBER', P .. 'seen:new', unpack(ids))
local old = call('SMISMEMBER', P .. 'seen:old', unpack(ids))
local fresh, added, again, reply = {}, {}, 0, {}
for n = 1, #ids do
  local id = ids[n]
  if id ~= '' and (new[n] == 1 or old[n] == 1 or added[id]) then
    again = again + 1
    reply[2 * n - 1], reply[2 * n] = 'duplicate', id
  else
    if id ~= '' then
      added[id] = true
      fresh[#fresh + 1] = id
    end
    local first, count = at[n] + 3, tonumber(ARGV[at[n] + 2])
    local entry
    if tonumber(ARGV[at[n]]) > 0 then
      entry = string.format('%.0f-d%.0f', now, call('HINCRBY', P .. 'stat', 'delays', 1))
      local fields = { unpack(ARGV, first, first + count - 1) }
      for j = 1, count - 1, 2 do
        if fields[j] == 'id' and fields[j + 1] == '' then fields[j + 1] = entry end
      end
      call('HSET', P .. 'delayed:entries', entry, cmsgpack.pack(fields))
      call('ZADD', P .. 'delayed', now + ARGV[at[n]], entry)
    else
      entry = call('XADD', P .. 'events', '*', unpack(ARGV, first, first + count - 1))
    end
    reply[2 * n - 1], reply[2 * n] = 'ok', id ~= '' and id or entry
  end
end
if #fresh > 0 then call('SADD', P .. 'seen:new', unpack(fresh)) end
if again > 0 then call('HINCRBY', P .. 'stat', 'again', again) end
return reply
