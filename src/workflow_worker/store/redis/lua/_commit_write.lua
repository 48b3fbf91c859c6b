-- Rarer writes of one accepted commit; each takes the parsed commit `c` and reads what only it needs.
local function push_all(key, first, last)
  if first == last then return call('RPUSH', key, ARGV[first]) end
  for i = first, last, 1000 do call('RPUSH', key, unpack(ARGV, i, math.min(i + 999, last))) end
end

-- Mail that does not fit its class, raw and naming the run; the start event too.
local function bury_rejects(c)
  local reasons = {}
  for i = c.rejects, c.rejects + 2 * c.n_rejects - 2, 2 do reasons[ARGV[i]] = ARGV[i + 1] end
  local mail = c.taken > 0 and call('LRANGE', P .. 'mailbox:' .. c.ref, 0, c.taken - 1) or {}
  for i = 1, #mail do
    local item = cmsgpack.unpack(mail[i])
    if reasons[item[1]] then bury(item, 2, 'rejected: ' .. reasons[item[1]], c.ref) end
  end
  if reasons.start then
    bury(cmsgpack.unpack(call('HGET', c.key, 'start')), 2, 'rejected: ' .. reasons.start, c.ref, true)
  end
end

-- Follow-up events, each once in the life of the run; their id holds the id of the start event.
local function emit(c)
  local run = call('HMGET', c.key, 'emitted', 'start')
  local emitted, item, start_id = tonumber(run[1] or 0), cmsgpack.unpack(run[2]), nil
  for i = 2, #item - 1, 2 do
    if item[i] == 'id' then start_id = item[i + 1] end
  end
  if not start_id or start_id == '' then start_id = item[1] end
  local at = c.emits
  for _ = 1, c.n_emits do
    local number, fields = ARGV[at], tonumber(ARGV[at + 1])
    if tonumber(number) > emitted then
      emitted = tonumber(number)
      local id = c.ref .. ':' .. start_id .. ':' .. number
      call('XADD', P .. 'events', '*', 'via', 'emit', 'id', id, unpack(ARGV, at + 2, at + 1 + fields))
    end
    at = at + 2 + fields
  end
  return emitted
end
