-- Rarer writes of the accepted commit under work, with what the checks found.
local function push()
  local first, last = c.records, c.rejects - 1
  if first == last then return call('RPUSH', P .. 'history:' .. c.ref, ARGV[first]) end
  for i = first, last, 1000 do call('RPUSH', P .. 'history:' .. c.ref, unpack(ARGV, i, math.min(i + 999, last))) end
end

-- Mail that does not fit its class, raw and naming the run; the start event too.
local function bury_rejects()
  for i = 1, #c.letters do
    local letter = c.letters[i]
    bury(letter[1], 2, 'rejected: ' .. letter[2], c.ref, letter[3])
  end
end

-- Follow-up events, each once in the life of the run; their id holds the id of the start event (as `emit_id` in
-- model/ids.py has it).
local function emit()
  local at, emitted = c.emits, c.emitted
  for _ = 1, c.n_emits do
    local number, span, fields = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    if tonumber(number) > emitted then
      emitted = tonumber(number)
      local id = c.ref .. ':' .. c.start_id .. ':' .. number
      if #id > 500 then id = 'sha1:' .. redis.sha1hex(id) .. ':' .. number end
      if span == '0' then
        add('events', 'via', 'emit', 'id', id, unpack(ARGV, at + 3, at + 2 + fields))
      else
        local entry = string.format('%.0f-d%.0f', now, call('HINCRBY', P .. 'stat', 'delays', 1))
        local packed = cmsgpack.pack({ 'via', 'emit', 'id', id, unpack(ARGV, at + 3, at + 2 + fields) })
        call('HSET', P .. 'delayed:entries', entry, packed)
        call('ZADD', P .. 'delayed', now + span, entry)
      end
    end
    at = at + 3 + fields
  end
  return emitted
end

-- Waits that come and go; returns the run's waits packed, and how much mail the new ones brought.
local function change_waits(mails, ends)
  local waits, copies = c.wait_list, 0
  if ends then
    for i = 1, #waits, 2 do forget_wait(c.ref, waits[i], waits[i + 1]) end
    return cmsgpack.pack({}), 0
  end
  for i = c.added, c.crowded and 0 or c.removed - 1, 2 do
    local kept = c.early[ARGV[i + 1]]
    copies = copies + add_wait(c.ref, waits, ARGV[i], ARGV[i + 1], kept, mails + copies)
  end
  for i = c.removed, c.emits - 1, 2 do remove_wait(c.ref, waits, ARGV[i], ARGV[i + 1]) end
  return cmsgpack.pack(waits), copies
end

-- Continue as new: from here the run begins at another instant, with nothing behind it; `born` keeps its first instant.
local function begin_again(key, set)
  call('HSETNX', key, 'born', call('HGET', key, 'created'))
  call('DEL', P .. 'history:' .. c.ref)
  set('created', c.restart == 'now' and now or c.restart)
end
